"""``spyre-cb init``: create a folder with an example suite.

The folder also has the golden step table and reference outputs of the suite, and the JSON Schema for editors.
"""

import json
from argparse import Namespace
from pathlib import Path

from harness.cli.arguments import CommandError, Subparsers, add_command, named
from harness.golden.tables import golden_path, reference_path
from harness.suites.json_schema import schema_text
from harness.suites.yaml import shown_file

_EXAMPLES = """\
  spyre-cb init mine && spyre-cb run mine
"""
_FIRST = Path(__file__).parent / "first_suite"
CASE, MODEL = "one-joins-another", "tiny-granite"
_EDITOR = {"yaml.schemas": {"./suite.schema.json": ["/*.yaml"]}}


def add_to(subparsers: Subparsers) -> None:
    about = "create a folder with an example suite and its JSON Schema"
    parser = add_command(subparsers, "init", run, about, _EXAMPLES)
    parser.add_argument(
        "folder", type=named, metavar="FOLDER", help="the folder, created if necessary; no file is overwritten"
    )


def run(arguments: Namespace) -> int:
    """Write the files and print their names. Raises CommandError if a file exists already or can't be written."""
    files = _files(arguments.folder)
    there = [path for path in files if path.exists()]
    if there:
        raise CommandError(f"{there[0]} exists already and is not overwritten; name another folder")
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{path}: cannot be written: {error.strerror or error}") from error
        print(shown_file(path))
    print(f"to run it:  spyre-cb run {arguments.folder}")
    return 0


def _files(folder: Path) -> dict[Path, str]:
    """Return the path and content of each file to write.

    The paths of the golden step table and reference outputs depend on whether ``folder`` is below a folder ``suites``.
    """
    suite = folder / "first.yaml"
    expected = _FIRST / "expectations"
    table, reference = golden_path(suite, CASE), reference_path(suite, CASE, MODEL)
    return {
        suite: (_FIRST / "first.yaml").read_text(encoding="utf-8"),
        table: (expected / "first" / f"{CASE}.yaml").read_text(encoding="utf-8"),
        reference: (expected / "references" / MODEL / "first" / f"{CASE}.json").read_text(encoding="utf-8"),
        folder / "suite.schema.json": schema_text(),
        folder / ".vscode" / "settings.json": json.dumps(_EDITOR, indent=2) + "\n",
    }
