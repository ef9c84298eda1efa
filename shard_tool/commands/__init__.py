"""The commands of `shard_tool`, one a file."""
