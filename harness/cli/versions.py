"""``spyre-cb --version``: print the versions of the packages that affect the results of a run."""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from harness.cli.arguments import Parser

PACKAGES = ("pytest", "torch", "ibm-fms", "transformers", "vllm", "vllm-spyre", "sendnn-inference", "torch_sendnn")


def versions() -> dict[str, str | None]:
    """Return the version of each package, None for packages that are not installed. No package is imported."""
    return {"spyre-cb": _version("spyre-cb"), "python": platform.python_version()} | {n: _version(n) for n in PACKAGES}


def show(arguments: Sequence[str]) -> int:
    """Print the versions, as a JSON object with ``--json``. Return exit status 2 for any other argument."""
    about = "Print the versions of the packages that affect the results of a run."
    parser = Parser(prog="spyre-cb --version", description=about)
    parser.add_argument("--json", action="store_true", help="print a JSON object instead of text")
    try:
        as_json = parser.parse_args(arguments).json
    except SystemExit as exit_:
        return int(exit_.code or 0)
    found = versions()
    if as_json:
        print(json.dumps(found, indent=1))
        return 0
    width = max(map(len, found))
    for name, number in found.items():
        print(f"{name:<{width}}  {number or '(not installed)'}")
    return 0


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
