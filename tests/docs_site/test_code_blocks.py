"""Run the code blocks of the Markdown pages, and compare what they print with the output that the page shows.

A comment before a block says if the block is not run (tests/helpers/code_blocks.py).
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.pytest_plugin.known_failures.entries import load_known_failures
from harness.suites.loader import load_suite
from tests.helpers.budget import NIGHTLY
from tests.helpers.code_blocks import Block, blocks_of, matches
from tests.helpers.command_lines import parsed_by_pytest, problems, pytest_arguments
from tests.helpers.paths import DOCS, ROOT

PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
COPIED = ("suites", "expectations", "docs")
LINKED = (
    "benchmarks",
    "checkpoints",
    "conftest.py",
    "engine",
    "examples",
    "harness",
    "pyproject.toml",
    "spyre_cb",
    "tests",
)
SHELL = ("", "console")


def of_kind(*kinds: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind in kinds]


def ids(blocks: list[Block]) -> list[str]:
    return [block.place for block in blocks]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder like a checkout to which commands may write. Its ``bin`` has the programs spyre-cb and python."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / "bin").mkdir()
    for name, module in (("python", ""), ("spyre-cb", " -m harness")):
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    return folder


def shell(command: str, folder: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run a command line in ``folder``, with its ``bin`` on the PATH. CI is not set, since it would forbid blessing."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "COLUMNS")}
    environment |= {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
    )


def pages_with(*languages: str) -> list[tuple[Path, list[Block]]]:
    """Return each page that has blocks to run in one of these languages, with all these blocks in order."""
    pages = [(page, [b for b in of_kind("run") if b.page == page and b.language in languages]) for page in PAGES]
    return [(page, blocks) for page, blocks in pages if blocks]


IN_A_SHELL, IN_PYTHON = pages_with(*SHELL), pages_with("python")


@pytest.mark.parametrize(("page", "blocks"), IN_A_SHELL, ids=[page.name for page, _ in IN_A_SHELL])
def test_commands_print_what_the_page_shows(page: Path, blocks: list[Block], checkout: Path) -> None:
    """Run the blocks of a page in order, in one folder. Where the page shows no output, commands must succeed."""
    shutil.rmtree(checkout / "mine", ignore_errors=True)
    for block in blocks:
        for command, shown in block.dialogue:
            printed = shell(command, checkout).stdout
            assert matches(shown, printed), f"{block.place}: {command} printed:\n{printed}"
        for command in [] if block.dialogue else block.commands:
            done = shell(command, checkout)
            assert done.returncode == 0, f"{block.place}: {command} printed:\n{done.stdout}"


@pytest.mark.parametrize("block", of_kind("steps of"), ids=ids(of_kind("steps of")))
def test_a_step_table_is_that_of_its_workload(block: Block, checkout: Path) -> None:
    """Each row of a step table on a page must equal the row of ``spyre-cb trace`` for the same step.

    The page may leave out rows at the beginning and at the end.
    """
    file, name = block.argument.split()
    output = checkout / f"traced-{Path(file).stem}.json"
    if not output.exists():
        done = shell(f"spyre-cb trace {file} --simulate -o {output.name}", checkout)
        assert done.returncode == 0, done.stdout
    [traced] = [item for item in json.loads(output.read_text(encoding="utf-8")) if item["name"] == name]
    short = {"request_outputs": "outputs", "finished_requests": "finished", "n_reserved_blocks": "reserved"}
    short |= {"n_used_blocks": "used", "usable_hit_blocks": "hits"}
    head, *rows = [line.split("  ") for line in re.sub(r" {2,}", "  ", block.text.strip()).splitlines()]
    columns = [short.get(column, column) for column in traced["columns"]]
    by_step = {str(row[0]): dict(zip(columns, row, strict=True)) for row in traced["steps"]}
    for row in rows:
        row = [cell for cell in row if cell]
        assert row == [cell(by_step[row[0]][column]) for column in head], block.place


def cell(value: object) -> str:
    if isinstance(value, list):
        return " ".join(":".join(map(str, each)) if isinstance(each, list) else str(each) for each in value) or "-"
    return str(value)


@pytest.mark.parametrize(("page", "blocks"), IN_PYTHON, ids=[page.name for page, _ in IN_PYTHON])
def test_python_runs(page: Path, blocks: list[Block], checkout: Path) -> None:
    """Run all Python blocks of a page in one process. Each block starts without the names that other blocks define."""
    script = "\n".join(f"exec(compile({block.text!r}, {block.place!r}, 'exec'), {{}})" for block in blocks)
    (checkout / "blocks.py").write_text(script, encoding="utf-8")
    done = shell("python blocks.py", checkout)
    assert done.returncode == 0, done.stdout


YAML = [block for block in of_kind("run", "parsed") if block.language == "yaml"]


@pytest.mark.parametrize("block", YAML, ids=ids(YAML))
def test_yaml_is_read_and_suites_run(block: Block, checkout: Path) -> None:
    """Run each YAML block that is a whole suite. Load each block that is a part of a case within a suite."""
    file = checkout / "from-a-page.yaml"
    if block.text.startswith("known_failures:"):
        file.write_text(block.text, encoding="utf-8")
        assert load_known_failures(file)
        return
    for text in suites_around(block.text):
        file.write_text(text, encoding="utf-8")
        loaded = load_suite(file)
        if block.kind == "run" and not block.text.startswith(" "):
            bless = "--simulate --bless" if loaded.suite.kind == "scheduler_steps" else '-m "not http"'
            done = shell(f"spyre-cb run {bless} {file.name}", checkout)
            assert done.returncode == 0, done.stdout


def suites_around(text: str) -> list[str]:
    """Return suites that contain ``text``, if it is a part of a case. If it is a whole suite, return only ``text``."""
    if not text.startswith(" "):
        return [text]
    request = "    requests: [{prompt: {random_tokens: 49}, max_tokens: 5}]\n"
    head = "suite: from-a-page\nkind: {kind}\ncases:\n  - id: part\n"
    if "actions:" in text:
        return [head.format(kind="behaviour") + text]
    if "steps:" in text:
        return [head.format(kind="scheduler_steps") + request + text]
    return [head.format(kind="output") + request + line for line in text.splitlines()]


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "toml"], ids=lambda block: block.place)
def test_toml_has_names_that_the_plugin_knows(block: Block) -> None:
    data = tomllib.loads(block.text)
    settings = data.get("tool", {}).get("pytest", {}).get("ini_options", {})
    entry_points = data.get("project", {}).get("entry-points", {})
    folders = (ROOT / "spyre_cb", ROOT / "harness" / "drivers")
    known = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.py"))
    assert settings or entry_points
    for name in {*settings, *entry_points}:
        assert f'"{name}"' in known


def test_json_is_a_workload(checkout: Path) -> None:
    blocks = [block for block in BLOCKS if block.language == "json"]
    assert blocks
    for block in blocks:
        (checkout / "workload.json").write_text(block.text, encoding="utf-8")
        done = shell("spyre-cb trace workload.json --simulate --plot", checkout)
        assert done.returncode == 0, done.stdout


def test_commands_that_are_not_run_have_options_that_exist() -> None:
    wrong = [
        f"{block.place}: {command}: {problem}"
        for block in BLOCKS
        if block.language in SHELL and block.kind in ("at night", "parsed")
        for command in block.commands
        for problem in problems(command)
    ]
    assert wrong == []


def test_commands_of_pytest_have_options_that_exist() -> None:
    commands = [
        arguments
        for block in BLOCKS
        if block.language in SHELL and block.kind in ("at night", "parsed")
        for command in block.commands
        for arguments in pytest_arguments(command)
    ]
    assert len(commands) > 20
    assert parsed_by_pytest(commands) == ""


def test_tests_that_blocks_name_exist() -> None:
    for block in of_kind("tested by"):
        file, _, name = block.argument.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), block.place


def test_the_server_answers(checkout: Path) -> None:
    """Start the server as docs/server.md does, and run the clients of the pages with the port of the server."""
    by_start = {block.text.split()[0]: block for block in BLOCKS if "test_the_server_answers" in block.argument}
    start, client, curl = by_start["python"], by_start["from"], by_start["spyre-cb"]
    command = start.commands[0]
    with subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=checkout,
        env={**os.environ, "PATH": f"{checkout / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        ready = next(line for line in server.stdout if line.startswith("ready: "))
        port = ready.strip().rpartition(":")[2]
        assert start.text.splitlines()[1] == re.sub(r"\d+$", "38231", ready.strip())
        (checkout / "client.py").write_text(client.text.replace("38231", port), encoding="utf-8")
        answer = shell("python client.py", checkout)
        assert answer.returncode == 0, answer.stdout
        assert answer.stdout.strip()
        served = shell(curl.commands[1].replace("8000", port), checkout)
        assert '"text_completion"' in served.stdout
        server.terminate()


AT_NIGHT = [
    (block, command)
    for block in of_kind("at night")
    for command in block.commands
    if command not in ("spyre-cb serve", "source .venv/bin/activate")
]
"""A server runs until it is stopped (test_the_server_answers)."""


@pytest.mark.skipif(NIGHTLY not in os.environ, reason=f"takes minutes: runs at night, with {NIGHTLY}=1")
@pytest.mark.parametrize(("block", "command"), AT_NIGHT, ids=[command for _, command in AT_NIGHT])
def test_commands_run_at_night(block: Block, command: str, checkout: Path) -> None:
    if not (checkout / "results.jsonl").exists():
        first = shell("spyre-cb run suites/scheduler_steps/joining.yaml --simulate --results results.jsonl", checkout)
        assert first.returncode == 0, first.stdout
        for name in ("shard-1", "shard-2", "before", "after", "results-1", "results-2"):
            shutil.copy(checkout / "results.jsonl", checkout / f"{name}.jsonl")
    shutil.rmtree(checkout / "mine", ignore_errors=True)  # `spyre-cb init mine` makes it, on several pages
    done = shell(command.replace("FILE", "suites/scheduler_steps/joining.yaml"), checkout, timeout=3000)
    assert done.returncode == 0, done.stdout[-5000:]
