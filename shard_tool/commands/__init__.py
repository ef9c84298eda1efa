"""The commands of `shard_tool`, one in each file."""
