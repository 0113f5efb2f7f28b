"""Run ``spyre-cb`` on sendnn-inference with one bug fixed in memory: an abort frees the reservation of the request.

    .venv-sendnn-inference/bin/python -m tests.real_plugin.corrected search --driver vllm --scheduler chunked --all

The known bug hides others, since nearly every workload with an abort fails because of it (docs/findings.md).
"""

import importlib
import sys
from typing import Any

from harness.cli import main
from harness.drivers.vllm.environment import prepare
from harness.drivers.vllm.plugins import CHUNKED
from tests.real_plugin.patched import SCHEDULERS


def give_back_what_was_reserved() -> None:
    """Patch the plugin's scheduler: a request that is aborted between two steps frees its reserved blocks."""
    prepare(CHUNKED)
    module, _, name = SCHEDULERS[CHUNKED.package].partition(":")
    of = getattr(importlib.import_module(module), name)
    as_it_was = of.finish_requests

    def finish_requests(scheduler: Any, *arguments: Any, **more: Any) -> Any:
        finished = as_it_was(scheduler, *arguments, **more)
        for gone in [name for name in scheduler.reserved_blocks if name not in scheduler.requests]:
            scheduler.total_reserved_blocks -= scheduler.reserved_blocks.pop(gone)
            scheduler.request_last_decode_step.pop(gone, None)
        return finished

    of.finish_requests = finish_requests


if __name__ == "__main__":
    give_back_what_was_reserved()
    sys.exit(main(sys.argv[1:]))
