"""Shards: write, read and check them, one task for each."""
