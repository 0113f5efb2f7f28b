"""Tests of golden step tables: their paths, their file format, and blessing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cases.blessing import Blessing
from harness.golden import tables as expectations
from harness.golden.tables import GoldenError, golden_folder, golden_path, golden_text, read_golden, write_golden
from harness.runs.plain_decodes import cells_of, lengthen, shorten
from harness.suites.schema import COLUMNS
from harness.types import StepRow
from tests.helpers.harness import a_request, simulate, two_that_overlap

BLESS = 'python -m pytest "suites/a.yaml::a-case" --cb-bless'
ROWS = two_that_overlap().rows
LONG = simulate(a_request(60, 40)).rows
GOOD = """\
suite: a
case: a-case
blessed_from: by hand
steps:
- [0, 0, [0], [], [], [], 0, 0]
- [1, 64, [], [0], [0], [], 2, 1]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "expectations" / "a" / "a-case.yaml"


def written(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def bless(path: Path, rows: Sequence[StepRow], engine: str = "this engine") -> bool:
    return write_golden(path, "a", "a-case", engine, rows)


# --- where they lie --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suite", "folder"),
    [
        ("suites/joining.yaml", "expectations/joining"),
        ("suites/scheduler_steps/joining.yaml", "expectations/scheduler_steps/joining"),
        ("suites/a/b/c.d.yml", "expectations/a/b/c.d"),
        ("suites/old/suites/joining.yaml", "suites/old/expectations/joining"),
        ("mine.yaml", "expectations/mine"),
        ("found/my.suite.yaml", "found/expectations/my.suite"),
        ("suites.yaml", "expectations/suites"),
        ("my-suites/joining.yaml", "my-suites/expectations/joining"),
    ],
)
def test_tables_are_next_to_suites_or_to_the_file(tmp_path: Path, suite: str, folder: str) -> None:
    assert golden_folder(tmp_path / suite) == tmp_path / folder
    assert golden_path(tmp_path / suite, "v1.2-case") == tmp_path / folder / "v1.2-case.yaml"


def test_a_suite_is_found_from_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "suites").mkdir()
    monkeypatch.chdir(tmp_path / "suites")
    assert golden_folder(Path("joining.yaml")) == tmp_path / "expectations" / "joining"


# --- as text ---------------------------------------------------------------------------------------------------


def test_a_table_is_written_in_columns_without_plain_decodes() -> None:
    assert golden_text("a", "a-case", "by hand", LONG) == (
        "suite: a\n"
        "case: a-case\n"
        "blessed_from: by hand\n"
        "steps:  # rows left out are plain decodes\n"
        "#   step  tkv  waiting  running  outputs  finished  reserved  used\n"
        "- [ 0,    0,   [0],     [],      [],      [],       0,        0 ]\n"
        "- [ 1,    64,  [],      [0],     [0],     [],       2,        1 ]\n"
        "- [ 2,    65,  [],      [0],     [0],     [],       2,        2 ]\n"
        "- [ 40,   103, [],      [],      [0],     [0],      2,        2 ]\n"
        "- [ 41,   0,   [],      [],      [],      [],       0,        0 ]\n"
    )


@pytest.mark.parametrize("rows", [ROWS, LONG, [LONG[0]]], ids=["two that overlap", "one long", "one row"])
def test_what_is_written_is_read_again(path: Path, rows: list[StepRow]) -> None:
    assert bless(path, rows)
    assert lengthen(read_golden(path, BLESS)) == rows
    assert list(read_golden(path, BLESS)) == shorten(rows)


ids = st.lists(st.integers(0, 40), max_size=4).map(tuple)
counts = st.integers(0, 10**9)


@given(st.lists(st.tuples(counts, ids, ids, ids, ids, counts, counts), min_size=1, max_size=6))
def test_any_table_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, cells: list[Any]) -> None:
    rows = [StepRow(step, *row) for step, row in enumerate(cells)]
    path = written(tmp_path_factory.mktemp("golden") / "t.yaml", golden_text("a", "b", "c", rows))
    assert lengthen(read_golden(path, BLESS)) == rows


@pytest.mark.parametrize(
    "name", ["no", "null", "on", "12", "1.5", "1e5", "0x1f", "2026-01-01", "007", "a-case", "12-requests", "y"]
)
def test_any_id_can_be_the_name_of_a_table(path: Path, name: str) -> None:
    write_golden(path, name, name, "by hand", ROWS)
    assert lengthen(read_golden(path, BLESS)) == ROWS


@pytest.mark.parametrize(
    "engine", ["vllm: 0.11 #2", "spyre-cb 0.1 (torch 2.13.0+cpu)", "'quoted' \"twice\"", "[a]", "größe 1", "- x", "a "]
)
def test_any_engine_can_have_blessed_a_table(path: Path, engine: str) -> None:
    assert bless(path, ROWS, engine)
    assert lengthen(read_golden(path, BLESS)) == ROWS


# --- what is missing or wrong ----------------------------------------------------------------------------------


def complaint(path: Path) -> str:
    """Return the error message of reading a golden table from ``path``.

    It must be one line that ends with the command.
    """
    with pytest.raises(GoldenError) as refusal:
        read_golden(path, BLESS)
    message = str(refusal.value)
    assert message.endswith(f":  {BLESS}")
    assert "\n" not in message
    return message


def test_a_table_that_is_not_there(path: Path) -> None:
    assert complaint(path) == f"there is no golden step table {path}; to write the engine's steps to it:  {BLESS}"


def test_a_folder_is_no_table(path: Path) -> None:
    path.mkdir(parents=True)
    assert complaint(path).startswith(f"{path}: cannot be read: ")
    with pytest.raises(GoldenError, match="cannot be written: Is a directory"):
        bless(path, ROWS)


def test_a_table_of_another_case_is_not_this_ones(path: Path) -> None:
    bless(path, ROWS)
    assert lengthen(read_golden(path, BLESS, ("a", "a-case"))) == ROWS
    for of in (("b", "a-case"), ("a", "b-case")):
        with pytest.raises(
            GoldenError, match=f"this is the table of the case a-case in a, not of {of[1]} in {of[0]}; to write"
        ):
            read_golden(path, BLESS, of)
    assert write_golden(path, "b", "a-case", "this engine", ROWS)
    assert lengthen(read_golden(path, BLESS, ("b", "a-case"))) == ROWS


ROW = "- [1, 64, [], [0], [0], [], 2, 1]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ":1:1: this file is empty"),
        ("suite: [a\n", ":1:8: there is no `]` for this bracket"),
        (GOOD.replace("case: a-case", "case: [x"), ":3:13: `,` or `]` expected here"),
        (b"suite: \xff\n", "byte 0xff is not UTF-8"),
        (b"\x00\x01", "is not allowed in a YAML file"),
        ("suite: a\n\tcase: b\n", "tab"),
        ("- a\n- b\n", ":1:1: must be a mapping with suite, case, blessed_from and steps, not a list"),
        (GOOD.replace("case: a-case\n", ""), ":1:1: the key `case` is missing"),
        (GOOD + "extra: 1\n", ":7:8: extra: unknown key"),
        (GOOD.replace("suite: a\n", "suite: 12\n"), ":1:8: suite: must be text, not 12"),
        (GOOD.replace(ROW, "- [1, 64, [], [0]]"), ": steps[1]: a row must be a list of 8"),
        (GOOD.replace(ROW, "- {step: 1}"), ": steps[1]: a row must be a list of 8"),
        (GOOD.replace(ROW, '- ["1", 64, [], [0], [0], [], 2, 1]'), ":6:4: steps[1][0]: must be a whole number, not"),
        (GOOD.replace(ROW, "- [1, 64, [], [0], [0], [], 2, -1]"), ": steps[1][7]: "),
        (GOOD.replace(ROW, ROW.replace("1, 64", "0, 64")), ": steps must be in order, but step 0 comes after step 0"),
        (GOOD.split("- [")[0], ": steps: "),
    ],
)
def test_an_unreadable_table_is_reported_in_one_line_with_what_to_do(
    path: Path, text: str | bytes, message: str
) -> None:
    reported = complaint(written(path, text))
    assert message in reported
    assert path.name in reported
    assert "Value error" not in reported


def test_the_first_of_several_yaml_errors_is_reported(path: Path) -> None:
    reported = complaint(written(path, "suite: a\nsuite: b\ncase: 010\ncase: c\n"))
    assert ":2:1: " in reported


def test_a_table_that_may_not_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(expectations, "read_yaml", denied)
    assert complaint(written(path, GOOD)).startswith(f"{path}: cannot be read: Permission denied; ")


def test_a_good_table_is_read(path: Path) -> None:
    assert read_golden(written(path, GOOD), BLESS) == (
        StepRow(0, 0, (0,), (), (), (), 0, 0),
        StepRow(1, 64, (), (0,), (0,), (), 2, 1),
    )


# --- blessing --------------------------------------------------------------------------------------------------


def test_blessing_writes_a_table_that_is_not_there(path: Path) -> None:
    assert bless(path, ROWS)
    assert "blessed_from: this engine\n" in path.read_text()


def test_blessing_keeps_a_table_with_equal_rows_of_any_origin(path: Path) -> None:
    bless(path, LONG, "vllm-spyre 1.6.1 (recorded)")
    before = path.read_bytes()
    assert not bless(path, LONG, "this engine")
    assert path.read_bytes() == before


def test_blessing_keeps_the_same_rows_however_they_are_laid_out(path: Path) -> None:
    text = golden_text("a", "a-case", "by hand", LONG)
    rows = text.splitlines()[5:]
    loose = text.replace("\n- [", "\n\n  -   [").replace("#   step", "# a comment\n#   step")
    every_row = (
        "\n".join([*text.splitlines()[:5], *(f"- {list(map(_listed, cells_of(row, COLUMNS)))}" for row in LONG)]) + "\n"
    )
    assert len(rows) == 5
    for layout in (loose, every_row):
        assert not bless(written(path, layout), LONG)
        assert path.read_text() == layout


def _listed(value: int | tuple[int, ...]) -> int | list[int]:
    return list(value) if isinstance(value, tuple) else value


@pytest.mark.parametrize("column", COLUMNS[1:])
def test_blessing_writes_rows_that_differ_in_one_cell(path: Path, column: str) -> None:
    bless(path, LONG, "another engine")
    old = LONG[20]
    value: Any = getattr(old, column)
    changed: Any = (*value, 7) if isinstance(value, tuple) else value + 1
    rows = [*LONG[:20], old._replace(**{column: changed}), *LONG[21:]]
    assert bless(path, rows)
    assert lengthen(read_golden(path, BLESS)) == rows
    assert "another engine" not in path.read_text()


def test_blessing_writes_a_table_that_is_shorter_or_longer(path: Path) -> None:
    bless(path, LONG)
    assert bless(path, LONG[:-1])
    assert lengthen(read_golden(path, BLESS)) == LONG[:-1]
    assert bless(path, LONG)
    assert lengthen(read_golden(path, BLESS)) == LONG


@pytest.mark.parametrize(
    "text",
    [b"suite: \xff\n", b"", b"suite: [a\n", golden_text("a", "a-case", "x", ROWS).replace("suite: a\n", "").encode()],
    ids=["not UTF-8", "empty", "not YAML", "right rows without a suite"],
)
def test_blessing_mends_a_table_that_cannot_be_read(path: Path, text: bytes) -> None:
    written(path, text)
    complaint(path)
    Blessing("this engine").accept(path, "a", "a-case", ROWS)
    assert lengthen(read_golden(path, BLESS)) == ROWS
