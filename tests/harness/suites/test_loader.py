"""Tests of the loader: valid suites load, and every error is reported in one line with the right position."""

import codecs
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.suites.loader import MAX_PROBLEMS, LoadedSuite, Problem, SuiteError, load_suite
from harness.suites.schema import BehaviourSuite, OutputSuite, StepsSuite
from harness.suites.yaml import Place, composer
from harness.types import StepRow

MALFORMED = sorted((Path(__file__).parent / "malformed").glob("*.yaml"))
EXPECTED = re.compile(r"# expect: (?P<line>\d+):(?P<column>\d+) (?P<fragment>.+)")

STEPS = """\
# How sequences join.
suite: scheduler_steps/joining
kind: scheduler_steps
markers: [cb]
parameters:
  model: $models
  backend: [eager, sendnn]
cases:
  - id: joins-during-decode   # the first
    requirement: CB-JOIN-02
    about: |
      Sequence 1 joins in the middle of a block.

      Sequence 2 joins at its end.

    limits: &small {max_model_len: 192, max_num_seqs: 3}
    requests:
      - {prompt: {random_tokens: 49}, max_tokens: 60}
      # between two requests
      - {prompt: {text: "It's 1:30"}, max_tokens: 37, join_step: 31, ignore_eos: yes,
         top_p: 1e-1}
    expect:
      steps: golden

  # about the second

  - id: joins-with-rows
    limits: *small
    requests:
      - prompt: {token_ids: [1, 2, 3]}
        max_tokens: 3
        stop: "no"
    expect:
      output: none
      steps:
        - [ 0,  0, [0], [],  [],  [], 0, 0]
        - [ 1, 64, [],  [0], [0], [], 2, 1]

"""
OUTPUT = """\
suite: output/basic
kind: output
cases:
  - {id: one, requests: [{prompt: {random_tokens: 5}, max_tokens: 5}], expect: {output: reference}}
  - {id: two, requests: [{prompt: {text: of}, max_tokens: 5}], expect: {output: reference, policy: exact}}
"""
BEHAVIOUR = """\
suite: behaviour/refusing
kind: behaviour
cases:
  - id: too-long
    actions:
      - generate: [{prompt: {random_tokens: 500}, max_tokens: 60}]
        expect: {error: {message_contains: [too long, "500"]}}
      - generate: [{prompt: {random_tokens: 5}, max_tokens: 6}]
        expect: {token_counts: [6], finish_reasons: [length]}
    expect: {engine: idle}
"""


def load(folder: Path, text: str | bytes) -> LoadedSuite:
    path = folder / "suite.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_suite(path)


def problems(folder: Path, text: str | bytes) -> tuple[Problem, ...]:
    with pytest.raises(SuiteError) as caught:
        load(folder, text)
    return caught.value.problems


def only_problem(folder: Path, text: str | bytes) -> Problem:
    (problem,) = problems(folder, text)
    assert is_one_plain_line(str(problem))
    return problem


def is_one_plain_line(text: str) -> bool:
    noise = ("pydantic", "function-", "Traceback", "Value error", "Input should", "[type=", "literal[", "_as_tuple")
    return text.isprintable() and not any(word in text for word in noise)


# ── what is wrong is told, where it is wrong ──


@pytest.mark.parametrize("path", MALFORMED, ids=lambda path: path.stem)
def test_malformed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parent)
    expected = EXPECTED.fullmatch(path.read_text(encoding="utf-8").split("\n")[0])
    assert expected is not None, "the first line must say what is expected"
    with pytest.raises(SuiteError) as caught:
        load_suite(path)
    text = str(caught.value)
    assert text.startswith(f"malformed/{path.name}:{expected['line']}:{expected['column']}: ")
    assert expected["fragment"] in text
    assert is_one_plain_line(text), "one mistake is one line"
    assert " — " in text, "every mistake comes with what to do about it"


@pytest.mark.parametrize("path", MALFORMED, ids=lambda path: path.stem)
def test_places_are_those_of_the_parser_in_python_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SuiteError) as by_default:
        load_suite(path)
    monkeypatch.setattr(composer, "_Loader", yaml.SafeLoader)
    with pytest.raises(SuiteError) as in_python:
        load_suite(path)
    message, expected_by_default = in_python.value.problems[0], by_default.value.problems[0]
    assert (message.line, message.column, message.what) == (
        expected_by_default.line,
        expected_by_default.column,
        expected_by_default.what,
    )


def test_the_corpus_is_there() -> None:
    assert len(MALFORMED) >= 45


def test_the_line() -> None:
    problem = Problem(
        Path.cwd() / "suites" / "x.yaml",
        12,
        7,
        "cases[2].limits.max_num_seqs",
        "must be greater than 0, not 0",
        "say 1",
    )
    assert str(problem) == "suites/x.yaml:12:7: cases[2].limits.max_num_seqs: must be greater than 0, not 0 — say 1"
    assert str(Problem(Path("/elsewhere/x.yaml"), 1, 1, "", "is empty")) == "/elsewhere/x.yaml:1:1: is empty"


@pytest.mark.parametrize(
    ("content", "place", "fragment"),
    [
        (b"", (1, 1), "is empty"),
        (b"\n \n", (1, 1), "is empty"),
        (b"---\n", (2, 1), "not nothing"),
        (codecs.BOM_UTF8, (1, 1), "is empty"),
        (b"suite: a\nabout: \xc3\xa4 \xff\n", (2, 10), "byte 0xff is not UTF-8"),
        ("suite: a\n".encode("utf-16"), (1, 1), "UTF-16"),
        ("suite: a\n".encode("utf-32"), (1, 1), "UTF-32"),
        (codecs.BOM_UTF32_BE + "suite: a\n".encode("utf-32-be"), (1, 1), "UTF-32"),
        (b"suite: a\ncases: [\n", (3, 1), "a bracket that was opened is not closed"),
        (b"suite: a\nabout: x\x00y\n", (2, 9), "U+0000"),
        (b"suite: a\r\nabout: x\x1by\r\n", (2, 9), "U+001B"),
        (b"suite: a\n" * 300_000, (1, 1), "larger than 2,000,000 bytes"),
        (b"suite: a\rkind: b\r", (2, 7), "must be `scheduler_steps`"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_files_that_cannot_say_what_is_expected(
    tmp_path: Path, content: bytes, place: tuple[int, int], fragment: str
) -> None:
    problem = only_problem(tmp_path, content)
    assert (problem.line, problem.column) == place
    assert fragment in str(problem)


@pytest.mark.parametrize(
    "content",
    [b"[" * 10_000_000, b"[" * 1_900_000, b"{" * 1_900_000, b"- " * 900_000, b"? " * 900_000, b"a: [" * 400_000],
    ids=lambda content: f"{content[:4].decode()} x {len(content)}",
)
def test_deep_nesting_is_refused_at_once(tmp_path: Path, content: bytes) -> None:
    began = time.monotonic()
    only_problem(tmp_path, content)
    assert time.monotonic() - began < 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    for path, fragment in (
        (tmp_path / "none.yaml", "cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "pipe.yaml", "not a regular file"),
        (tmp_path / "nul\0.yaml", "cannot be read"),
    ):
        with pytest.raises(SuiteError) as caught:
            load_suite(path)
        assert fragment in str(caught.value)
        assert is_one_plain_line(str(caught.value))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = tmp_path / "closed.yaml"
    path.touch(mode=0o000)
    with pytest.raises(SuiteError, match="cannot be read: Permission denied"):
        load_suite(path)


def test_all_problems_are_reported_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        STEPS.replace("max_num_seqs: 3", "max_num_seqs: 0").replace("[cb]", "[CB]").replace("max_tokens: 3\n", "x: 3\n")
    )
    assert [problem.where for problem in problems(tmp_path, text)] == [
        "markers[0]",
        "cases[0].limits.max_num_seqs",  # once, although a second case has these limits through an alias
        "cases[1].requests[0]",
        "cases[1].requests[0].x",
    ]


def test_at_most_twenty_are_reported(tmp_path: Path) -> None:
    text = OUTPUT.replace("random_tokens: 5", f"token_ids: [{', '.join(['x'] * 30)}]", 1)
    with pytest.raises(SuiteError) as caught:
        load(tmp_path, text)
    assert len(caught.value.problems) == MAX_PROBLEMS
    assert str(caught.value).splitlines()[-1].endswith("suite.yaml: and 10 more")


def test_what_a_key_holds_cannot_break_the_line(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, OUTPUT + '"a\\nb\\u2028c": 1\n')
    assert r"a\nb\u2028c" in str(problem)


# ── what is good loads ──


def test_every_kind_loads(tmp_path: Path) -> None:
    assert isinstance(load(tmp_path, STEPS).suite, StepsSuite)
    assert isinstance(load(tmp_path, OUTPUT).suite, OutputSuite)
    assert isinstance(load(tmp_path, BEHAVIOUR).suite, BehaviourSuite)


def test_values_are_what_they_look_like(tmp_path: Path) -> None:
    suite = load(tmp_path, STEPS).suite
    assert isinstance(suite, StepsSuite)
    first, second = suite.cases
    assert first.about == "Sequence 1 joins in the middle of a block.\n\nSequence 2 joins at its end.\n"
    assert first.requests[1].prompt.text == "It's 1:30"
    assert first.requests[1].ignore_eos is True
    assert first.requests[1].top_p == 0.1
    assert second.requests[0].stop == ("no",)
    assert second.expect.steps[1] == StepRow(1, 64, (), (0,), (0,), (), 2, 1)


def test_an_alias_stands_for_what_its_anchor_names(tmp_path: Path) -> None:
    first, second = load(tmp_path, STEPS).suite.cases
    assert second.limits == first.limits
    assert second.limits.max_num_seqs == 3


def test_places_of_cases(tmp_path: Path) -> None:
    loaded = load(tmp_path, STEPS)
    lines = STEPS.splitlines()
    assert loaded.text == STEPS
    assert lines[loaded.line_of_case(0) - 1] == "  - id: joins-during-decode   # the first"
    assert lines[loaded.line_of_case(1) - 1] == "  - id: joins-with-rows"
    assert loaded.source_of_case(0) == (9, "\n".join(lines[8 : lines.index("      steps: golden") + 1]))
    first_line, source = loaded.source_of_case(1)
    assert first_line == loaded.line_of_case(1)
    assert source.startswith("  - id: joins-with-rows\n")
    assert source.endswith("[0], [], 2, 1]")


def test_a_case_that_ends_with_a_text_or_an_alias(tmp_path: Path) -> None:
    text = STEPS.replace("    limits: *small\n", "") + "    limits: *small\n    # behind it\n"
    assert load(tmp_path, text).source_of_case(1)[1].endswith("\n    limits: *small")
    text = STEPS.rstrip() + "\n    about: |\n      The last\n\n      words.\n\n\n"
    assert load(tmp_path, text).source_of_case(1)[1].endswith("\n    about: |\n      The last\n\n      words.")


def test_cases_of_one_line(tmp_path: Path) -> None:
    loaded = load(tmp_path, OUTPUT)
    assert [loaded.line_of_case(i) for i in (0, 1)] == [4, 5]
    assert loaded.source_of_case(1) == (5, OUTPUT.splitlines()[4])


@pytest.mark.parametrize("text", [STEPS, OUTPUT, BEHAVIOUR])
def test_line_ends_and_byte_order_mark_change_nothing(tmp_path: Path, text: str) -> None:
    plain, crlf = load(tmp_path, text), load(tmp_path, text.replace("\n", "\r\n"))
    marked = load(tmp_path, codecs.BOM_UTF8 + text.encode())
    assert plain.suite == crlf.suite == marked.suite
    for i in range(len(plain.suite.cases)):
        assert plain.source_of_case(i) == crlf.source_of_case(i) == marked.source_of_case(i)


def test_a_byte_order_mark_is_not_a_column(tmp_path: Path) -> None:
    problem = only_problem(tmp_path, codecs.BOM_UTF8 + OUTPUT.replace("suite", "suit", 1).encode())
    assert (problem.line, problem.column, problem.where) == (1, 1, "suit")


def test_values_and_keys_have_places(tmp_path: Path) -> None:
    places = load(tmp_path, STEPS).places
    path = ("cases", 0, "limits", "max_num_seqs")
    assert places.key_place(path) == Place(16, 41)
    assert places.place(path) == Place(16, 55)
    assert places.node(path).raw == "3"
    assert places.resolve((*path, "more", 3)) == path


# ── nothing but SuiteError, ever ──

TOKENS = [*"[]{}:,-?&*!|>'\"%@`#~\t\n\r \\", ": ", "- ", "<<: ", "&a ", "*a", "*small", "---\n", "...\n", "!!int "]
TOKENS += ["yes", ".nan", "1e999", "0x1", "1_0", "2026-11-20", "9" * 200, "\0", "\x85", "\u2028", "\ufeff", '"\\ud800"']
SUITES = st.sampled_from([STEPS, OUTPUT, BEHAVIOUR])
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 30), st.sampled_from(TOKENS).map(str.encode) | st.binary(max_size=4)),
    min_size=1,
    max_size=6,
)


def loads_or_says_why(folder: Path, content: bytes) -> None:
    path = folder / "mutated.yaml"
    path.write_bytes(content)
    try:
        load_suite(path)
    except SuiteError as error:
        message = error
    else:
        return
    lines = str(message).split("\n")
    assert message.problems
    assert len(lines) == len(message.problems) + bool(message.more)
    assert all(is_one_plain_line(line) for line in lines)


@given(text=SUITES, edits=EDITS)
@settings(max_examples=300, deadline=None)
def test_mutated_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, edits: list[tuple[float, int, bytes]]
) -> None:
    content = text.encode()
    for where, cut, new in edits:
        at = int(where * len(content))
        content = content[:at] + new + content[at + cut :]
    loads_or_says_why(tmp_path_factory.getbasetemp(), content)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["golden", 10**30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["steps", "id", "x", "kind"]), inner),
    max_leaves=5,
)


@given(text=SUITES, edits=st.lists(st.tuples(st.integers(0, 10**6), VALUES), min_size=1, max_size=3))
@settings(max_examples=300, deadline=None)
def test_mutated_data(tmp_path_factory: pytest.TempPathFactory, text: str, edits: list[tuple[int, Any]]) -> None:
    data = yaml.safe_load(text)
    for choice, value in edits:
        containers = [found for found in walk(data) if found]
        if containers:
            container = containers[choice % len(containers)]
            keys = list(container) if isinstance(container, dict) else list(range(len(container)))
            container[keys[choice // 7 % len(keys)]] = value
    loads_or_says_why(tmp_path_factory.getbasetemp(), yaml.safe_dump(data, allow_unicode=True).encode())


def walk(data: Any) -> list[Any]:
    """Return every list and mapping in ``data``, at any depth."""
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    own = [data] if isinstance(data, dict | list) else []
    return own + [found for value in inner for found in walk(value)]
