"""``python -m engine.entrypoints.server``."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(argv: Sequence[str] | None = None) -> int:
    """Serve; the exit status. 2: what was typed cannot work, and one sentence on stderr says why."""
    # Before anything imports torch, which reads the first of them once.
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
    """Be the server, to the end of this process: one that was forked for it, from one that has imported what it needs.

    It is as ``python -m engine.entrypoints.server`` with these arguments, and with the environment and the output of
    this process. Torch must not have started threads before.
    """
    sys.stdout, sys.stderr = (open(fd, "w", closefd=False) for fd in (1, 2))  # noqa: SIM115 - to the end of the process
    _end(main(argv))


def _end(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is closed by now, and taking torch apart takes Python seconds


if __name__ == "__main__":
    _end(main())
