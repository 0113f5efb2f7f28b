"""Store the results of a release in releases/results/, or print docs/releases.md.

python -m releases keep sendnn-inference-2.1.0 reports/conformance-sendnn-inference-2.1.0.jsonl
python -m releases page > docs/releases.md
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from releases.bugs import BugsError
from releases.kept import read_results, write
from releases.page import render


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 2 if the results cannot be stored or the page cannot be rendered."""
    parser = argparse.ArgumentParser(prog="python -m releases", description="results of the plugins' releases")
    commands = parser.add_subparsers(dest="command", required=True)
    keep = commands.add_parser("keep", help="store the results of a release in place of its earlier results")
    keep.add_argument("name", help="name of the release, such as vllm-spyre-1.4.3-chunked")
    keep.add_argument("results", nargs="+", type=Path, help="results files that --cb-results has written")
    commands.add_parser("page", help="print docs/releases.md")
    given = parser.parse_args(arguments)
    try:
        if given.command == "keep":
            print(write(read_results(given.results, given.name)))
        else:
            sys.stdout.write(render())
    except (BugsError, OSError, ValueError) as error:
        print(f"python -m releases: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
