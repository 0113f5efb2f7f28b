"""A model over several processes: ibm-fms's tensor parallelism, driven from a process that has no part in it."""
