"""``spyre-cb --version``: the versions of what a result depends on."""

import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from harness.cli.arguments import Parser

PACKAGES = ("pytest", "torch", "ibm-fms", "transformers", "vllm", "vllm-spyre", "sendnn-inference", "torch_sendnn")


def versions() -> dict[str, str | None]:
    """Return versions by package, this one first; None if a package is not installed. Imports none of them."""
    return {"spyre-cb": _version("spyre-cb"), "python": platform.python_version()} | {n: _version(n) for n in PACKAGES}


def show(arguments: Sequence[str]) -> int:
    """Print them, with ``--json`` as an object; status 2 for anything else that is typed."""
    parser = Parser(prog="spyre-cb --version", description="Print the versions of what a result depends on.")
    parser.add_argument("--json", action="store_true", help="a JSON object in place of text")
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
