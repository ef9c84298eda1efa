"""`python -m shard_tool` is the same as `shard_tool`."""

from shard_tool.cli import main

if __name__ == "__main__":
    main(prog_name="shard_tool")
