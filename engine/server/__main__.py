"""``python -m engine.server``."""

import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Serve; the exit status. 2: what was typed cannot work, and one sentence on stderr says why."""
    # Before anything imports torch, which reads the first of them once.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from engine.server.arguments import parse, program
        from engine.server.run import StartError, run
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


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is closed by now, and taking torch apart takes Python seconds
