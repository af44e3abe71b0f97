"""lmdbredis: a durable server for the Redis protocol, every data type in LMDB. See the README for a map of the rooms."""
