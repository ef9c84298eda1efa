"""Sources of images and votes, and the plan of `pack`: which sample goes into which shard."""
