"""What has nothing to do with batching: text, subprocesses, garbage collection, where time goes."""
