"""Synthetic galaxies and volunteers: what `shard_tool synth` draws with."""
