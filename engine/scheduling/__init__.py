"""The schedulers. They do not import torch, so that ``spyre-cb search`` can run thousands of random workloads."""
