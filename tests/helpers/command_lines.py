"""Check command lines in Markdown pages without running them: scripts, options, files and make targets must exist."""

import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.cli import command_parser
from harness.cli.run import apart
from tests.helpers.paths import ROOT

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SEPARATORS = ("&&", "|", ";", ">")
PLACEHOLDERS = {"FILE": "suites/scheduler_steps/joining.yaml", "FOLDER": "pictures", "…": "x"}


def problems(line: str) -> Iterator[str]:
    """Yield what is wrong with the commands in a line.

    The options of pytest are checked by ``parsed_by_pytest`` instead.
    """
    for words in simple_commands(line):
        program, *arguments = words
        name = Path(program).name
        if name == "spyre-cb":
            yield from _spyre_cb(arguments)
        elif name.startswith("python"):
            yield from _python(arguments)
        elif name == "make":
            yield from (f"make {word}: no such target" for word in arguments if not _is_target(word))


def pytest_arguments(line: str) -> list[list[str]]:
    """Return the arguments of each pytest command in a line."""
    return [
        words[3:]
        for words in simple_commands(line)
        if Path(words[0]).name.startswith("python") and words[1:3] == ["-m", "pytest"]
    ]


def simple_commands(line: str) -> list[list[str]]:
    """Return the words of each command in a line, without redirections and ``NAME=value`` before a command."""
    # If a quotation continues in the next line of the page, it is closed at the end of this line.
    lexer = shlex.shlex(line if line.count("'") % 2 == 0 else line + "'", posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    words = [PLACEHOLDERS.get(word, word) for word in lexer]
    skipped = False
    for word in words:
        if skipped:
            skipped = False
        elif word.startswith((">", "<")):
            skipped = True
        elif word in SEPARATORS:
            commands.append([])
        elif commands[-1] or not re.fullmatch(r"[A-Z_]+=.*", word):
            commands[-1].append(word)
    return [command for command in commands if command]


def _spyre_cb(arguments: Sequence[str]) -> Iterator[str]:
    if arguments[:1] == ["serve"]:  # its options are those of the server
        yield from _python(["-m", "engine.entrypoints.server", *arguments[1:]])
        return
    if arguments == ["--version"]:
        return
    mine, _ = apart([_there(word) for word in arguments])
    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
            command_parser().parse_args(mine)
    except SystemExit as exit_:
        if exit_.code:
            yield output.getvalue().strip()


def _there(word: str) -> str:
    """Return the path of an existing file in place of ``word``, if ``word`` is a file that an earlier command writes.

    Otherwise return ``word``. Files that do not exist in the repository count as written by an earlier command.
    """
    is_file = word.endswith((".json", ".jsonl", ".yaml")) and not (ROOT / word).exists()
    return str(ROOT / PLACEHOLDERS["FILE"]) if is_file else word


def _python(arguments: Sequence[str]) -> Iterator[str]:
    if arguments[:2] == ["-m", "pytest"]:
        return
    module = arguments[:1] == ["-m"]
    script = f"{arguments[1].replace('.', '/')}.py" if module else arguments[0]
    package = ROOT / script.removesuffix(".py") / "__main__.py"
    if not (ROOT / script).is_file() and not package.is_file() and arguments[:2] != ["-m", "venv"]:
        yield f"{script}: there is no such file"
        return
    source = _sources_of(script)
    for option in (word.partition("=")[0] for word in arguments if word.startswith("--")):
        spelt = re.sub(r"[-_]", "[-_]", option.removeprefix("--"))
        if not re.search(rf"""["'](?:--)?{spelt}["']""", source):
            yield f"{script}: no option {option}"


def _sources_of(script: str) -> str:
    """Return the source text of all files in which the options of a script can be defined.

    These are the Python files in the folder of the script, those of harness/cli, and engine/flags.py.
    """
    path = ROOT / script
    folder = path.parent if path.is_file() else path.with_suffix("")
    files = [*folder.glob("*.py"), *(ROOT / "harness" / "cli").glob("*.py"), ROOT / "engine" / "flags.py"]
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def _is_target(word: str) -> bool:
    return "=" in word or re.search(rf"^{re.escape(word)}:", MAKEFILE, re.MULTILINE) is not None


def parsed_by_pytest(commands: Sequence[Sequence[str]]) -> str:
    """Parse the arguments of many pytest commands in one process. Return pytest's messages about wrong arguments."""
    script = """if True:
        import json, sys, pytest

        class ParseOnly:
            @pytest.hookimpl(tryfirst=True)
            def pytest_cmdline_main(self, config):
                return 0

        for arguments in json.load(sys.stdin):
            if pytest.main([*arguments, "-p", "no:cacheprovider"], plugins=[ParseOnly()]) != 0:
                print("WRONG", arguments)
    """
    given, command = json.dumps(commands), [sys.executable, "-c", script]
    done = subprocess.run(command, input=given, cwd=ROOT, capture_output=True, text=True, timeout=300)
    wrong = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    return "\n".join([*wrong, done.stderr]) if wrong or done.returncode else ""
