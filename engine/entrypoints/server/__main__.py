"""The command ``python -m engine.entrypoints.server``: serve an engine over HTTP."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until SIGTERM or SIGINT, and return the exit status.

    The exit status is 2 if an argument is invalid or the server cannot start; the reason is printed to stderr.
    """
    # This must precede the import of torch, which reads OMP_NUM_THREADS once.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from engine.entrypoints.server.arguments import parse, program
        from engine.entrypoints.server.run import StartError, run
    except ModuleNotFoundError as missing:
        if (missing.name or "").split(".")[0] == "engine":
            raise
        print(f"the server needs the package {missing.name}: pip install 'spyre-cb[server]'", file=sys.stderr)
        return 2
    from engine.config import ConfigError

    try:
        return run(parse(argv))
    except (StartError, ConfigError) as error:
        print(f"{program()}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def become(argv: Sequence[str]) -> NoReturn:
    """Run the server in this process, which was forked from a process that had imported the server's modules.

    ``become`` does what ``python -m engine.entrypoints.server`` does with these arguments, and then ends the process.
    Torch must not have started threads before the fork.
    """
    sys.stdout, sys.stderr = (open(fd, "w", closefd=False) for fd in (1, 2))  # noqa: SIM115 - to the end of the process
    _end(main(argv))


def _end(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is closed; with torch loaded, a regular shutdown of the interpreter takes seconds


if __name__ == "__main__":
    _end(main())
