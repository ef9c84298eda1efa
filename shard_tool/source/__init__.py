"""Where images and votes come from, and what `pack` makes of them: which sample goes into which shard."""
