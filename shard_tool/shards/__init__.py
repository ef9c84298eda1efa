"""Shards: written, read, proven, one task each."""
