"""Captions for collections of images too large for one sitting, shard by shard."""
