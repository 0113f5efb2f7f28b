"""A workload on a session, step by step, and the step table it gives."""
