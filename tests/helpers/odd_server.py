"""A server of the reference engine without a model, which tests can slow down or break by environment variables.

``ODD_PACE`` is the duration of each step in seconds. ``ODD_CRASH`` is the path of a file: when the file exists, the
next step raises an exception.
"""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from checkpoints import resolve
from engine.build import Engine
from engine.config import ConfigError
from engine.core import EngineCore
from engine.entrypoints.server.arguments import parse
from engine.entrypoints.server.run import StartError, bind, serve
from engine.request import TokenOutput
from engine.scheduling.plan import Runnable
from engine.sequence import SequenceState
from engine.tokenizer import Tokenizer
from tests.helpers.engine import ScriptedTokens


class Odd(ScriptedTokens):
    """An executor that takes ``pace`` seconds per step, and raises an exception when the file ``crash`` exists."""

    pace = float(os.environ.get("ODD_PACE", "0"))
    crash = os.environ.get("ODD_CRASH")

    def execute(self, plan: Runnable, sequences: Mapping[str, SequenceState]) -> list[TokenOutput]:
        time.sleep(self.pace)
        if self.crash and Path(self.crash).exists():
            raise RuntimeError("the card is on fire")
        return super().execute(plan, sequences)


def main() -> int:
    settings = parse(None)
    checkpoint = resolve(settings.engine.model)
    tokenizer = Tokenizer(checkpoint)
    core = EngineCore(settings.engine, Odd(), decode_text=tokenizer.decode)
    try:
        return serve(Engine(checkpoint, tokenizer, core), settings, bind(settings.host, settings.port))
    except (StartError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
