"""vLLM with the Spyre plugin as a driver, in this process. Importing this imports neither vLLM nor torch.

What differs between plugins stands in ``plugins.py`` and the modules it names, and nowhere else.
"""

from harness.drivers.vllm.driver import VllmDriver

__all__ = ["VllmDriver"]
