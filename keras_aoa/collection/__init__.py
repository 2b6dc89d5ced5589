"""Caption large collections of images shard by shard, with resume."""
