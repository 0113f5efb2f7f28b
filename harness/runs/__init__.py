"""Run a workload on a session step by step, and record its step table."""
