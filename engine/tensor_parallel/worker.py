"""A worker process of a tensor-parallel model: ``python -m engine.tensor_parallel.worker FD PARENT FOLDER``.

``FD`` is the file descriptor of the worker's connection to the engine's process, ``PARENT`` the id of that process.
``FOLDER`` has the file with which the workers form torch's process group. A worker runs steps until the connection is
closed or the engine's process ends.
"""

import faulthandler
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from engine.backends.errors import RecompileError
from engine.environment import threads
from engine.tensor_parallel.messages import Failed, Logits, Ready, Start, Step

if TYPE_CHECKING:
    from engine.execution.runner import ModelRunner

WATCH_SECONDS = 0.25
"""The interval in seconds at which a worker checks that its parent is alive."""

PATIENCE = timedelta(minutes=10)
"""How long a worker waits for the other workers, at the start and in a step."""


def main() -> None:
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]), sys.argv[3])


def serve(connection: Connection, parent: int, folder: str) -> None:
    """Run the steps that the engine sends over ``connection`` until it is closed, then end this process.

    ``parent`` is the id of the engine's process. ``folder`` is the folder in which the workers find each other: they
    form torch's process group by a file in it.
    """
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # prints the stacks of a hanging worker
    # The thread checks the parent's id: a fork of the parent may keep the connection open after the parent has ended.
    threading.Thread(target=_leave_with, args=(parent, folder), daemon=True).start()
    try:
        start: Start = connection.recv()
        runner = _set_up(start, folder)
        connection.send(Ready(runner.compilation))
        while True:
            step: Step = connection.recv()
            logits = runner.step_logits(step.plan, step.token_ids, step.wanted)
            if start.rank == 0:
                prompts = tuple([(each.request_id, each.start, each.values.numpy()) for each in logits.prompts])
                connection.send(Logits(logits.rows.numpy(), prompts))
    except BaseException as error:
        last = traceback.format_exception_only(error)[-1].strip()
        with suppress(OSError):  # the engine may have closed the connection
            recompile = isinstance(error, RecompileError)
            connection.send(Failed(last, traceback.format_exc(), time.monotonic(), recompile))
        os._exit(1)  # a regular exit may hang in torch while other workers wait in a collective


def _leave_with(parent: int, folder: str) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _set_up(start: Start, folder: str) -> "ModelRunner":
    """Join the process group, load this worker's part of the weights, and warm up with the other workers."""
    # This must precede the import of torch: otherwise gloo resolves the host name, which may be wrong.
    os.environ["GLOO_SOCKET_IFNAME"] = next(name for _, name in socket.if_nameindex() if name in ("lo", "lo0"))
    import torch
    from torch import distributed

    from checkpoints import resolve
    from engine.execution.runner import ModelRunner

    torch.set_num_threads(threads(os.environ))
    size = start.config.tensor_parallel_size
    # The workers connect through a file instead of a port, because another engine could take the port.
    store = Path(folder, "store").as_uri()
    distributed.init_process_group("gloo", init_method=store, rank=start.rank, world_size=size, timeout=PATIENCE)
    return ModelRunner(start.config, resolve(start.config.model, start.config.revision))


if __name__ == "__main__":
    main()
