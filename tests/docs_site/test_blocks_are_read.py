"""Tests of the code that reads and checks code blocks of Markdown pages (tests/helpers/code_blocks.py).

A block that shows a wrong command, option or output must be detected.
"""

from pathlib import Path

import pytest

from tests.helpers.code_blocks import blocks_of, matches
from tests.helpers.command_lines import parsed_by_pytest, problems, pytest_arguments, simple_commands


def written(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return page


def test_a_comment_says_how_a_block_is_run(tmp_path: Path) -> None:
    page = written(
        tmp_path, "```\na   # one\nb\n```\n\n<!-- parsed: it needs a card -->\n```console\n$ c \\\n  d\ne\n```\n"
    )
    run, parsed = blocks_of(page)
    assert (run.kind, run.line, run.commands, run.dialogue) == ("run", 1, ["a", "b"], [])
    assert (parsed.kind, parsed.argument, parsed.line) == ("parsed", "it needs a card", 7)
    assert parsed.commands == ["c d"]


def test_a_page_may_say_it_for_all_its_blocks(tmp_path: Path) -> None:
    page = written(tmp_path, "<!-- all parsed: minutes -->\n\n```\na\n```\n\n<!-- at night -->\n```\nb\n```\n")
    assert [(block.kind, block.argument) for block in blocks_of(page)] == [("parsed", "minutes"), ("at night", "")]


@pytest.mark.parametrize("comment", ["perhaps", "parsed", "parsed:", "at night: why"])
def test_a_comment_that_is_not_understood_is_an_error(tmp_path: Path, comment: str) -> None:
    with pytest.raises(ValueError, match=r"page\.md:2: .* is none of run, at night"):
        blocks_of(written(tmp_path, f"<!-- {comment} -->\n```\na\n```\n"))


@pytest.mark.parametrize(
    ("shown", "printed", "equal"),
    [
        ("a\n", "a\n", True),
        ("a\n", "b\n", False),
        ("a\n", "a\nb\n", False),
        ("…\nb\n", "a\na\nb\n", True),
        ("…\nb\n", "a\na\nc\n", False),
        ("a … c\n", "a b c\n", True),
        ("1 passed in 0.5s\n", "==== 1 passed in 12.34s ====\n", True),
        ("1 passed in 0.5s\n", "==== 2 passed in 0.50s ====\n", False),
        ("", "", True),
        ("", "a\n", False),
    ],
)
def test_what_is_shown_is_what_was_printed(shown: str, printed: str, equal: bool) -> None:
    assert matches(shown, printed) is equal


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("spyre-cb cases --marker cpu && spyre-cb models", ""),
        ("spyre-cb cases --markers=cpu", "unrecognized arguments: --markers"),
        ("spyre-cb traces x", "invalid choice: 'traces'"),
        ("spyre-cb serve --port 8000", ""),
        ("spyre-cb serve --prot 8000", "no option --prot"),
        ("make test", ""),
        ("make tests", "make tests: no such target"),
        ("python benchmarks/all.py attention_ops", ""),
        ("python benchmarks/al.py", "benchmarks/al.py: there is no such file"),
        ("A=1 python examples/offline_inference/long_context.py --max_model_len 2048 > out", ""),
        ("python examples/offline_inference/long_context.py --max_length 2048", "no option --max_length"),
    ],
)
def test_commands_with_mistakes_are_found(line: str, wrong: str) -> None:
    found = list(problems(line))
    assert (not found) if not wrong else any(wrong in problem for problem in found), found


def test_options_of_pytest_with_mistakes_are_found() -> None:
    right = pytest_arguments("X=1 python -m pytest --cb-simulate suites | tail -1")
    assert right == [["--cb-simulate", "suites"]]
    assert parsed_by_pytest(right) == ""
    assert "--cb-simulation" in parsed_by_pytest([*right, ["--cb-simulation", "suites"]])


def test_redirections_and_variables_are_not_words_of_a_command() -> None:
    assert simple_commands("A=1 b c > d && e 'f g' | h") == [["b", "c"], ["e", "f g"], ["h"]]
