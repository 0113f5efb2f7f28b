"""Compare the time to import the harness with the time to import the libraries that the harness uses.

    python benchmarks/imports.py [--json FILE]

Each import runs in a Python process of its own, and the processes alternate. ``import harness`` imports the least; a
session of pytest with suites, and the command ``spyre-cb``, import more. None of them may import torch.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from measuring import Metric, in_turn, medians, milliseconds, parser_of, report

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = "import pytest, pydantic, yaml, rich"
IMPORTS = {
    "import harness": ("harness", 0.35),
    "a session with suites": ("harness.pytest_plugin.session", None),
    "the command spyre-cb": ("harness.cli", None),
}
"""By description: (module that is imported after the libraries, maximum of the additional time that this may take).

The maximum is a fraction of the time to import the libraries; None means that there is no target.
"""


def main() -> None:
    began = time.perf_counter()
    arguments = parser_of(__doc__, 15).parse_args()
    report("Imports of the harness", measured(arguments.repeat), arguments.json, began=began)


def measured(repeat: int) -> list[Metric]:
    ways: Mapping[str, Callable[[], object]] = {LIBRARIES: lambda: _python(LIBRARIES)} | {
        name: lambda module=module: _python(f"{LIBRARIES}, {module}; import sys; sys.exit('torch' in sys.modules)")
        for name, (module, _) in IMPORTS.items()
    }
    taken = medians(in_turn(ways, repeat))
    libraries = taken[LIBRARIES]
    return [
        Metric(
            f"{name}: beyond `{LIBRARIES}`, to that",
            taken[name] / libraries - 1,
            " ×",
            at_most=at_most,
            base=f"{milliseconds(taken[name])} to {milliseconds(libraries)}, {repeat} rounds",
        )
        for name, (_, at_most) in IMPORTS.items()
    ]


def _python(code: str) -> None:
    """Run ``code`` in a Python process that may write bytecode. Raises CalledProcessError if the process fails."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environ, check=True)


if __name__ == "__main__":
    main()
