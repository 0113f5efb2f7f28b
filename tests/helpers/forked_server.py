"""Program for tests: start a server of the reference engine in a fork of a process that has imported all modules."""

import os
import sys

import fms.models.hf.utils  # noqa: F401

import engine.entrypoints.server.admin
import engine.entrypoints.server.run
import engine.execution.runner  # noqa: F401
from engine.entrypoints.server.__main__ import become
from harness.utils.subprocesses import end_with_parent


def main() -> int:
    parent = os.getpid()
    if os.fork() == 0:
        end_with_parent(parent)
        become(sys.argv[1:])
    _, status = os.wait()
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
