"""The server of the reference engine as a process that benchmarks start, kill and measure."""

import os
import subprocess
import sys
import time
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
BATCH = 4
WAIT = 120.0
"""Seconds after which a response counts as lost."""


class Server:
    """The server as a process, on the same port after each restart."""

    def __init__(self) -> None:
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Start the server and return the seconds until it is ready."""
        began = time.perf_counter()
        flags = ["--port", str(self.port), "--max-num-seqs", str(BATCH), "--max-queue", "2000"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "engine.entrypoints.server", *flags],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        if not ready.startswith("ready: "):
            raise SystemExit("the server did not start")
        self.port = int(ready.strip().rpartition(":")[2])
        return time.perf_counter() - began

    def end(self, number: int) -> int:
        """Send signal ``number`` to the server, wait until it has ended, and return its exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(WAIT)

    def megabytes(self) -> float:
        """Return the resident memory of the server in MiB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024

    def client(self) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=WAIT, limits=limits)
