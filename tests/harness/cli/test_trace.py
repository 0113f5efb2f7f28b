"""Tests of ``spyre-cb trace``: traces have the format and rows of the recordings, and errors are one sentence."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from harness.drivers.base import Driver
from harness.drivers.reference import ReferenceDriver, SimulationDriver
from harness.golden.tables import golden_path, read_golden
from harness.runs.plain_decodes import cells_of, lengthen
from harness.suites.loader import load_suite
from harness.suites.schema import COLUMNS, StepsCase
from harness.trace import RECORDED_AS, TraceError, as_json, read_items, trace_items
from tests.helpers.paths import SUITES

MODEL = "tiny-granite"


def traced(path: Path, driver: Driver) -> list[dict[str, Any]]:
    items = json.loads(as_json(trace_items(read_items(path, MODEL), driver)))
    assert isinstance(items, list)
    return items


def written(path: Path, data: object) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


def golden_rows(suite: str, case_id: str) -> list[list[Any]]:
    rows = lengthen(read_golden(golden_path(SUITES / suite, case_id), ""))
    return [[list(cell) if isinstance(cell, tuple) else cell for cell in cells_of(row, COLUMNS)] for row in rows]


@pytest.mark.parametrize("driver", [SimulationDriver(), ReferenceDriver()], ids=lambda driver: driver.name)
def test_a_suite_traced_gives_its_golden_tables(driver: Driver) -> None:
    suite = "scheduler_steps/joining.yaml"
    items = traced(SUITES / suite, driver)
    cases = load_suite(SUITES / suite).suite.cases
    assert [item["name"] for item in items] == [case.id for case in cases]
    for item in items:
        assert item["columns"] == [RECORDED_AS.get(name, name) for name in COLUMNS]
        assert item["steps"] == golden_rows(suite, item["name"])


def test_recorded_workloads_as_json_give_the_recorded_rows(tmp_path: Path) -> None:
    """Trace the recorded workloads from JSON in the format of the recordings. The rows must be the recorded ones."""
    suite = "scheduler_steps/recorded.yaml"
    items = []
    for case in load_suite(SUITES / suite).suite.cases:
        assert isinstance(case, StepsCase)
        requests = [
            {"prompt_len": r.prompt.random_tokens, "max_tokens": r.max_tokens, "join_step": r.join_step}
            for r in case.requests
        ]
        items.append({"name": case.id, "mode": "kept", "limits": case.limits.model_dump(), "requests": requests})
    again = traced(written(tmp_path / "recorded.json", items), SimulationDriver())
    for before, after in zip(items, again, strict=True):
        assert {name: after[name] for name in before} == before
        assert list(after) == [*before, "columns", "steps"]
        assert after["steps"] == golden_rows(suite, str(before["name"]))


def test_what_was_traced_can_be_traced_again(tmp_path: Path) -> None:
    """A trace has the token ids of prompts that were given as text. Tracing a trace gives the same trace."""
    once = traced(SUITES / "output" / "basic.yaml", ReferenceDriver())
    assert all(len(r["prompt_token_ids"]) == r["prompt_len"] for item in once for r in item["requests"])
    again = traced(written(tmp_path / "once.json", once), ReferenceDriver())
    assert again == once


def test_aborts_and_stop_tokens_are_carried_out(tmp_path: Path) -> None:
    requests = [
        {"prompt_token_ids": [5, 6, 7], "max_tokens": 9, "abort_step": 3},
        {"prompt_token_ids": [5, 6, 7], "max_tokens": 9, "stop_token_ids": [*range(2048)]},
    ]
    [item] = traced(written(tmp_path / "w.json", [{"name": "x", "requests": requests}]), ReferenceDriver())
    assert item["steps"] == [
        [0, 0, [0, 1], [], [], [], 0, 0],
        [1, 64, [1], [0], [0], [], 2, 1],
        [2, 64, [], [0], [1], [1], 4, 2],
        [3, 65, [], [], [0], [], 2, 2],
        [4, 0, [], [], [], [], 0, 0],
    ]


def test_a_list_without_workloads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"w\.json: the list has no workloads"):
        traced(written(tmp_path / "w.json", []), SimulationDriver())


def test_an_empty_model_name_is_not_the_default_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "w.json", [{"requests": [{"prompt_len": 1, "max_tokens": 1}]}])
    assert main(["trace", str(path), "--model", ""]) == 2
    assert capsys.readouterr().err.startswith("spyre-cb: ")
    assert main(["trace", str(path), "--model", "", "--simulate"]) == 2


def item_with(**request: object) -> list[object]:
    return [
        {"name": "first", "requests": [{"prompt_len": 1, "max_tokens": 1}]},
        {"name": "second", "requests": [{"prompt_len": 1, "max_tokens": 1} | request]},
    ]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("{", "w.json: is not JSON: Expecting property name enclosed in double quotes at line 1, column 2"),
        ("[" * 100_000, "w.json: lists and objects are nested too deeply"),
        (f"[{'9' * 5000}]", "w.json: a number has too many digits"),
        ("\ufeff[]", "w.json: is not JSON"),
        ({}, "w.json: the file must contain a JSON list of items, not an object"),
        ([3], "item 0: an item must be an object with the key requests, not 3"),
        ([{"requests": []}], "item 0: requests: must be a list of at least one request, not an empty list"),
        ([{"name": 3}], "item 0: name: must be text, not 3"),
        ([{"name": None}], "item 0: name: must be text, not null or nothing"),
        ([{"requests": [{"prompt_len": 1}]}], "item 0: requests[0].max_tokens: is missing"),
        ([{"name": "x"}], "item 0: requests: must be a list of at least one request, not null or nothing"),
        (
            [{"name": "x", "requests": []}],
            "item 0: requests: must be a list of at least one request, not an empty list",
        ),
        ([{"name": "x", "requests": [7]}], "item 0 (x): requests[0]: must be an object, not 7"),
        (
            [{"name": "x", "limits": {"max_num_seq": 2}, "requests": [{"prompt_len": 1, "max_tokens": 1}]}],
            "item 0 (x): limits.max_num_seq: is an unknown field",
        ),
        (
            [{"name": "x", "limits": [2], "requests": [{"prompt_len": 1, "max_tokens": 1}]}],
            "item 0 (x): limits: must be an object, not a list",
        ),
        (
            [{"name": "x", "limits": {"max_num_seqs": 0}, "requests": [{"prompt_len": 1, "max_tokens": 1}]}],
            "item 0 (x): limits.max_num_seqs: must be greater than 0, not 0",
        ),
        ([{"name": "x", "requests": [{"prompt_len": 1}]}], "item 0 (x): requests[0].max_tokens: is missing"),
        (item_with(max_tokens="5"), 'item 1 (second): requests[0].max_tokens: must be a whole number, not "5"'),
        (item_with(join_step=True), "item 1 (second): requests[0].join_step: must be a whole number, not true"),
        (item_with(join_step=4, abort_step=3), "requests[0].abort_step: abort_step 3 is before join_step 4"),
        (item_with(prompt_len=None), "requests[0]: prompt_len or prompt_token_ids is missing"),
        (item_with(prompt_len=0), "requests[0].prompt_len: must be greater than 0, not 0"),
        (item_with(prompt_token_ids=[1, 2]), "requests[0]: prompt_len is 1, but prompt_token_ids has 2 tokens"),
        (item_with(prompt_token_ids=["a"]), 'requests[0].prompt_token_ids[0]: must be a whole number, not "a"'),
        (item_with(prompt_token_ids=7), "requests[0].prompt_token_ids: must be a list, not 7"),
        (item_with(prompt_len=None, prompt_token_ids=[]), "requests[0].prompt_token_ids: must not be empty"),
        (item_with(prompt={"text": "x"}), "requests[0].prompt: only suites have this field; give prompt_len or"),
        (item_with(prompt_length=3), "requests[0].prompt_length: is an unknown field"),
        (
            [{"limit": {}, "requests": [{"prompt_len": 1}]}],
            "item 0: limit: is an unknown field: did you mean",
        ),
        (
            [{"aborts": [], "requests": [{"prompt_len": 1}]}],
            "item 0: aborts: is an unknown field: a request",
        ),
        ([{"scheduler": "chunked", "requests": [{}]}], "scheduler: is an unknown field: the key chunking selects"),
        ([{"x": 1, "name": "y", "requests": [{}]}], "item 0 (y): x: is an unknown field: an item has name,"),
        ('[{"requests": [{"prompt_len": 1, "prompt_len": 2}]}]', 'w.json: the key "prompt_len" occurs twice in one'),
        ('[{"name": "\\ud800", "requests": []}]', "w.json: a \\u escape is only half of a surrogate pair"),
    ],
)
def test_mistakes_are_one_sentence_with_the_item_and_the_field(data: object, says: str, tmp_path: Path) -> None:
    path = written(tmp_path / "w.json", data)
    with pytest.raises(TraceError) as error:
        traced(path, SimulationDriver())
    assert says in str(error.value)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            {"max_tokens": 5000},
            "request 0 (prompt 1, max_tokens 5000) needs 80 blocks with nothing else running, but 35 are available; "
            "the engine failed in step 1",
        ),
        ({"stop_token_ids": [1]}, "requests[0]: generated tokens can end this request early"),
    ],
)
def test_a_workload_that_fails_has_an_error_and_the_others_their_steps(
    wrong: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = {"requests": [{"prompt_len": 1, "max_tokens": 2}]}
    path = written(tmp_path / "w.json", [*item_with(**wrong), {"name": "third", **good, "steps": [], "error": "old"}])
    assert main(["trace", str(path), "--simulate", "-o", str(tmp_path / "out.json")]) == 1
    first, failed, third = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert failed["error"].startswith(says)
    assert "steps" not in failed
    assert "error" not in third
    assert (len(first["steps"]), len(third["steps"])) == (3, 4)
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"spyre-cb: {path}: item 1 (second): {says}")
    assert complaint.count("\n") == 1


def test_impossible_limits_are_an_error_of_their_workload_alone(tmp_path: Path) -> None:
    requests = [{"prompt_len": 1, "max_tokens": 1}]
    path = written(
        tmp_path / "w.json", [{"limits": {"max_batch_tkv_limit": 9999}, "requests": requests}, {"requests": requests}]
    )
    failed, other = traced(path, SimulationDriver())
    assert failed["error"] == "max_batch_tkv_limit 9999 exceeds the 2048 that the engine was built with"
    assert len(other["steps"]) == 3


def test_a_token_the_model_does_not_have_is_an_error_of_its_workload_alone(tmp_path: Path) -> None:
    wrong = {"chunking": {}, "requests": [{"prompt_token_ids": [99_999], "max_tokens": 1}]}
    right = {"requests": [{"prompt_len": 1, "max_tokens": 1}]}
    failed, other = traced(written(tmp_path / "w.json", [wrong, right]), SimulationDriver())
    assert failed["error"] == "request 0: token id 99999 is not in the model's vocabulary of 2048 tokens"
    assert len(other["steps"]) == 3


def test_files_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_bytes(b"\xff")
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path / "w.json", "is not UTF-8 text"),
        (tmp_path, "cannot be read: Is a directory"),
        (tmp_path / "pipe", "cannot be read: not a regular file"),
    ):
        with pytest.raises(TraceError, match=says):
            read_items(path, MODEL)


def test_a_behaviour_suite_cannot_be_traced() -> None:
    with pytest.raises(TraceError, match="a suite of kind behaviour can't be traced"):
        read_items(SUITES / "behaviour" / "limits.yaml", MODEL)


def test_a_batch_size_that_is_a_parameter_gives_an_item_each(tmp_path: Path) -> None:
    suite = tmp_path / "sizes.yaml"
    suite.write_text(
        "suite: sizes\nkind: output\nparameters: {max_num_seqs: [1, 2], backend: [eager, sendnn]}\ncases:\n"
        "  - id: two\n    requests:\n      - {prompt: {random_tokens: 3}, max_tokens: 2}\n"
        "      - {prompt: {random_tokens: 3}, max_tokens: 2}\n    expect: {output: reference}\n",
        encoding="utf-8",
    )
    items = traced(suite, SimulationDriver())
    assert [(item["limits"]["max_num_seqs"], len(item["steps"])) for item in items] == [(1, 6), (2, 5)]


def test_an_item_needs_no_name(tmp_path: Path) -> None:
    item = {"limits": {"max_num_seqs": 2}, "requests": [{"prompt_len": 49, "max_tokens": 3, "join_step": 0}]}
    [after] = traced(written(tmp_path / "w.json", [item]), SimulationDriver())
    assert list(after) == ["name", "limits", "requests", "columns", "steps"]
    assert after["name"] == "item-0"
    assert after["steps"][1] == [1, 64, [], [0], [0], [], 2, 1]


def test_a_time_line_is_drawn_in_place_of_json_and_written_as_svg(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, name = str(SUITES / "scheduler_steps" / "joining.yaml"), "new-sequence-joins-during-decode"
    assert main(["trace", suite, "--simulate", "--plot", "--only", name, "--svg", str(tmp_path / "new")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == name
    assert any(line.startswith("after step ") for line in lines)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [f"{name}.svg"]
    assert main(["trace", suite, "--simulate", "--only", "new-sequence-join-during-decode"]) == 2
    assert capsys.readouterr().err.endswith(f"no workload of that name; did you mean {name}?\n")
