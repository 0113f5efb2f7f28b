"""A worker process of a tensor-parallel model: ``python -m engine.tensor_parallel.worker FD PARENT FOLDER``.

``FD`` is its end of a connection to the engine's process, ``PARENT`` the id of that process, ``FOLDER`` the rendezvous
folder of the workers. It runs steps until the connection is closed, and ends when its parent ends.
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
"""Interval at which a worker checks that its parent is alive."""

PATIENCE = timedelta(minutes=10)
"""The timeout of a worker that waits for the others, at the start and in a step."""


def main() -> None:
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]), sys.argv[3])


def serve(connection: Connection, parent: int, meeting_place: str) -> None:
    """Run steps until the connection is closed, then end this process."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # prints the stacks of a hanging worker
    # Checks the parent's process id, since a fork of the parent may hold the other end of the connection open.
    threading.Thread(target=_leave_with, args=(parent, meeting_place), daemon=True).start()
    try:
        start: Start = connection.recv()
        runner = _set_up(start, meeting_place)
        connection.send(Ready(runner.compilation))
        while True:
            step: Step = connection.recv()
            logits = runner.logits(step.plan, step.token_ids)
            if start.rank == 0:
                connection.send(Logits(logits.numpy()))
    except BaseException as error:
        last = traceback.format_exception_only(error)[-1].strip()
        with suppress(OSError):  # the engine may have closed the connection
            recompile = isinstance(error, RecompileError)
            connection.send(Failed(last, traceback.format_exc(), time.monotonic(), recompile))
        os._exit(1)  # a regular exit may hang in torch while other workers wait in a collective


def _leave_with(parent: int, meeting_place: str) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    shutil.rmtree(meeting_place, ignore_errors=True)
    os._exit(1)


def _set_up(start: Start, meeting_place: str) -> "ModelRunner":
    """Join the process group, load this worker's part of the weights, and warm up with the other workers."""
    # Before torch is imported: otherwise gloo resolves the host name, which may be wrong.
    os.environ["GLOO_SOCKET_IFNAME"] = next(name for _, name in socket.if_nameindex() if name in ("lo", "lo0"))
    import torch
    from torch import distributed

    from checkpoints import resolve
    from engine.execution.runner import ModelRunner

    torch.set_num_threads(threads(os.environ))
    size = start.config.tensor_parallel_size
    # A file instead of a port, which another engine could take in the meantime.
    store = Path(meeting_place, "store").as_uri()
    distributed.init_process_group("gloo", init_method=store, rank=start.rank, world_size=size, timeout=PATIENCE)
    return ModelRunner(start.config, resolve(start.config.model, start.config.revision))


if __name__ == "__main__":
    main()
