"""Tests of the content of the HTML page of a report."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from urllib.parse import quote

import pytest

from harness.runs.plain_decodes import shorten
from tests.helpers.pages import Elements, matrix_cells, plain
from tests.helpers.result_records import (
    REASON,
    SUITE,
    changed,
    output_verdict,
    page,
    poor,
    record,
    steps_verdict,
    table,
    verdict,
)


def step_rows(html: str) -> list[str]:
    """Return the rows of the first step table of a page, without tags, and with ``|`` before each cell."""
    body = re.search(r"<table class=t>.*?<tbody>\n(.*?)</table>", html, re.DOTALL)
    assert body is not None
    return [
        unescape(re.sub(r"</?(tr|b)[^>]*>", "", re.sub(r"<t[hd][^>]*>", "|", line))) for line in body[1].split("\n")
    ]


# ------------------------------------------------------------------------------------------------------------ the top


def sentence(html: str) -> tuple[str, str]:
    found = re.search(r'<p class="sentence (\w+)">(.*?)</p>', html)
    assert found is not None
    return found[2], found[1]


@pytest.mark.parametrize(
    ("outcomes", "exitstatus", "text", "tone"),
    [
        (["passed"] * 16 + ["skipped"] * 14, 0, "All 16 tests that ran passed; 14 skipped.", "passed"),
        (["passed"], 0, "The only test that ran passed.", "passed"),
        (["failed", "passed", "passed"], 1, "1 of 3 tests that ran failed, 2 passed.", "failed"),
        (
            ["failed", "failed", "error", "passed", "skipped"],
            1,
            "2 of 3 tests that ran failed, 1 error, 1 passed; 1 skipped.",
            "failed",
        ),
        (["error", "passed"], 1, "1 error, 1 passed.", "failed"),
        (["skipped", "skipped"], 0, "Nothing ran: 2 tests skipped.", "unknown"),
        ([], 5, "Nothing ran: no test was selected.", "unknown"),
        ([], 0, "Nothing ran: no test was finished.", "unknown"),
        (
            ["passed"],
            2,
            "The run was interrupted, so results are missing. Until then: the only test that ran passed.",
            "failed",
        ),
        (
            ["passed", "passed"],
            3,
            "All 2 tests that ran passed. But pytest itself failed (exit status 3).",
            "failed",
        ),
    ],
)
def test_one_sentence_says_how_it_went(
    tmp_path: Path, outcomes: list[str], exitstatus: int, text: str, tone: str
) -> None:
    html = page(tmp_path, [record(f"case-{i}", outcome) for i, outcome in enumerate(outcomes)], exitstatus)
    assert sentence(html) == (text, tone)
    assert f"<title>{text.removesuffix('.')} – Continuous batching conformance</title>" in html


def test_the_run_is_described(tmp_path: Path) -> None:
    text = plain(page(tmp_path, [], models=["a", "/models/b"]))
    for part in ("Engine reference engine 0.1.0", "Models a, /models/b", "Command pytest suites", "Took 1 min 12 s"):
        assert part in text
    assert "Began 2027-01-1" in text


def test_counts_are_filter_buttons_that_wait_for_the_script(tmp_path: Path) -> None:
    outcomes = ["passed"] * 3 + ["failed"] * 2 + ["skipped"]
    html = page(tmp_path, [record(f"case-{i}", outcome) for i, outcome in enumerate(outcomes)])
    buttons = re.findall(r"<button[^>]*data-status[^>]*>.*?</button>", html)
    assert [plain(button) for button in buttons] == ["3 ✓ passed", "2 ✗ failed", "0 ! error", "1 – skipped"]
    assert all(" disabled" in button and 'aria-pressed="false"' in button for button in buttons)
    assert '<div class="bar" role="search" aria-label="results" hidden>' in html


def test_reasons_to_skip_are_shown_once(tmp_path: Path) -> None:
    skipped = [poor(f"case-{i}", "skipped", f"Skipped: {REASON}", "tiny-granite-sendnn") for i in range(14)]
    html = page(tmp_path, [*skipped, poor("odd", "skipped", "Skipped: no card")])
    text = plain(html.partition('<section id="matrix">')[0])
    assert f"14 skipped: {REASON} 1 skipped: no card" in text
    assert text.count(REASON) == 1


def test_what_went_wrong_comes_first(tmp_path: Path) -> None:
    expected = table()
    bad = steps_verdict(expected, changed(expected, 32, reserved=9))
    html = page(tmp_path, [record("fine"), record("broken", "failed", verdicts=[bad, verdict(False, "and this")])])
    problems = html[html.index('id="problems"') : html.index('id="matrix"')]
    text = plain(problems)
    assert "✗ failed broken tiny-granite-eager CB-JOIN-02" in text
    assert bad["headline"] in text
    assert "step 32" in text
    assert f"Rule {bad['rule']}" in text
    assert "(and 1 more failed check)" in text
    assert f"{SUITE}:12" in text
    assert "fine" not in text


# --------------------------------------------------------------------------------------------------------- the matrix


def test_the_matrix_has_a_cell_for_every_case_and_configuration(tmp_path: Path) -> None:
    html = page(
        tmp_path,
        [
            record("one"),
            record("two", "failed"),
            record("one", "error", "tiny-granite-inductor"),
            poor("one", "skipped", REASON, "tiny-granite-sendnn"),
        ],
    )
    assert matrix_cells(html, "one") == ["✓ passed", "! error", "– skipped"]
    assert matrix_cells(html, "two") == ["✗ failed", "not run", "not run"]
    heads = re.findall(r'<th scope="col">([^<]*)', html[html.index('id="matrix"') :])
    assert heads == ["case", "tiny-granite-eager", "tiny-granite-inductor", "tiny-granite-sendnn"]


def test_the_ten_tests_that_took_longest_are_named(tmp_path: Path) -> None:
    results = [record(f"case-{number}") | {"seconds": float(number)} for number in range(1, 13)]
    skipped = record("never-ran", "skipped") | {"seconds": 99.0}
    html = page(tmp_path, [*results, skipped])
    slowest = html[html.index('id="slowest"') : html.index("</section>", html.index('id="slowest"'))]
    assert [f"case-{number}<" in slowest for number in range(1, 13)] == [False] * 2 + [True] * 10
    assert slowest.index("case-12<") < slowest.index("case-11<")
    assert "never-ran" not in slowest


def test_every_link_leads_to_something(tmp_path: Path) -> None:
    results = [record("one"), record("two", "failed"), poor("one", "skipped", REASON, "sendnn")]
    elements = Elements(page(tmp_path, results))
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    links = [attributes["href"] for attributes in elements.all("a")]
    assert len(set(ids)) == len(ids)
    tests = {quote(result["test"]) for result in results}
    assert {str(link).removeprefix("#") for link in links} <= {*ids, *tests}
    # The matrix, the problem, the suite, the requirement in its matrix and as a failed one, each test itself, and the
    # slowest tests.
    assert len(links) == 3 + 1 + 1 + 2 + 2 + 3 + 2


def test_the_matrix_names_the_first_wrong_step(tmp_path: Path) -> None:
    expected = table()
    bad = steps_verdict(expected, changed(expected, 40, 45, tkv=1))
    html = page(tmp_path, [record("broken", "failed", verdicts=[bad])])
    assert matrix_cells(html, "broken") == ["✗ failed step 40"]


def test_two_tests_of_one_name_share_a_cell(tmp_path: Path) -> None:
    html = page(tmp_path, [record("same"), record("same", "failed")])
    assert matrix_cells(html, "same") == ["✓ passed ✗ failed"]


# ---------------------------------------------------------------------------------------------------------- a result


def test_a_result_tells_all_of_its_case(tmp_path: Path) -> None:
    html = page(tmp_path, [record("joins", verdicts=[verdict(True, "25 steps as expected")])])
    text = plain(html)
    for part in (f"{SUITE}:12", "One joins while", "CB-JOIN-02", "request 0: 49 random", "✓ 25 steps as expected"):
        assert part in text
    assert "<pre aria-hidden=true>\n12\n13\n14</pre>" in html
    assert "<pre>\n- id: joins\n  requests:\n    - {prompt" in html


def test_only_what_went_wrong_is_open(tmp_path: Path) -> None:
    outcomes = ("passed", "failed", "error", "skipped")
    details = Elements(page(tmp_path, [record(outcome, outcome) for outcome in outcomes])).all("details")
    results = {a["class"]: "open" in a for a in details if str(a.get("class")).startswith("r ")}
    assert results == {"r passed": False, "r failed": True, "r error": True, "r skipped": False}


def test_what_went_wrong_can_be_run_again(tmp_path: Path) -> None:
    text = plain(page(tmp_path, [record("broken", "failed")]))
    assert f"pytest '{SUITE}::broken[tiny-granite-eager]'" in text


def test_a_traceback_is_summarised_by_its_last_exception(tmp_path: Path) -> None:
    text = (
        "a.py:1: in f\nE   KeyError: 1\n\nb.py:2: in g\nE   RuntimeError: no blocks\nE   left\n\nb.py:2: RuntimeError"
    )
    html = page(tmp_path, [record("broken", "error", text=text)])
    assert '<span class="why">RuntimeError: no blocks</span>' in html
    assert f"<pre>\n{text}</pre>" in html


def test_long_texts_lose_their_middle(tmp_path: Path) -> None:
    html = page(tmp_path, [record("broken", "error", text="begin " + "x" * 100_000 + " end")])
    assert len(html) < 50_000
    assert re.search(r"begin x+ … 92,010 more characters … x+ end", html)


def test_a_poor_record_takes_from_its_siblings(tmp_path: Path) -> None:
    died = poor("joins", "failed", f"{SUITE}::joins[tiny-granite-inductor]: running the test CRASHED with signal 11")
    died["test"] = f"{SUITE}::joins[tiny-granite-inductor]"
    html = page(tmp_path, [record("joins"), died])
    assert matrix_cells(html, "joins") == ["✓ passed", "✗ failed"]
    assert html.count("One joins while another decodes.") == 2
    assert '<span class="why">running the test CRASHED with signal 11</span>' in html


def test_a_file_that_was_not_collected_is_an_error(tmp_path: Path) -> None:
    broken = {"test": "suites/bad.yaml", "outcome": "error", "seconds": 0.0, "text": "suites/bad.yaml:3:5: is missing"}
    html = page(tmp_path, [broken], 1)
    assert sentence(html) == ("1 error.", "failed")
    assert "! error suites/bad.yaml suites/bad.yaml:3:5: is missing" in plain(html)
    assert 'id="matrix"' not in html


def test_tests_that_are_no_suite_have_no_matrix(tmp_path: Path) -> None:
    unit = {"test": "tests/test_pool.py::test_free[a-b]", "outcome": "passed", "seconds": 0.01}
    html = page(tmp_path, [unit])
    assert 'id="matrix"' not in html
    assert "<code>test_free[a-b]</code>" in html


# -------------------------------------------------------------------------------------------------------- step tables


def test_plain_decodes_are_one_line(tmp_path: Path) -> None:
    rows = table(requests=2, decodes=30)
    html = page(tmp_path, [record("fine", verdicts=[steps_verdict(rows, rows)])])
    lines = step_rows(html)
    assert lines[:4] == [
        "|0|start|0|0||||0|0",
        "|1|prefill|64||0|0||3|2",
        "|… 30 plain decodes, tkv 65 to 94 …",
        lines[3],
    ]
    assert lines[3] == "|32|prefill|94||1 0|1||6|4"
    shown = {int(line.split("|")[1]) for line in lines if re.match(r"\|\d", line)}
    assert {row.step for row in shorten(rows)} <= shown


def test_a_differing_cell_is_marked_with_both_values(tmp_path: Path) -> None:
    expected = table()
    html = page(
        tmp_path, [record("bad", "failed", verdicts=[steps_verdict(expected, changed(expected, 32, reserved=9))])]
    )
    assert "<tr class=differs><th>32<td>prefill<td>94<td><td>1 0<td>1<td><td class=x><b>9</b> ≠ 6<td>4\n" in html
    assert len(Elements(html).all("td", **{"class": "x"})) == 1
    assert "Step table: 64 steps, 1 not as expected" in plain(html)
    around = [line for line in step_rows(html) if re.match(r"\|(3[0-4])\|", line)]
    assert len(around) == 5  # some plain rows of context


def test_a_difference_that_stays_is_folded_too(tmp_path: Path) -> None:
    expected = table()
    html = page(
        tmp_path, [record("bad", "failed", verdicts=[steps_verdict(expected, changed(expected, 5, 31, used=7))])]
    )
    assert "<tr class=differs><th colspan=9>… 24 plain decodes, tkv 71 to 94, used wrong as above …\n" in html


def test_steps_that_are_missing_or_too_many(tmp_path: Path) -> None:
    rows = table()
    missing = page(tmp_path, [record("bad", "failed", verdicts=[steps_verdict(rows, rows[:40])])])
    assert "<tr class=missing><th>40<td>missing<td class=x><b></b> ≠ 102<td class=x><b></b> ≠ -" in missing
    assert "… 20 plain decodes missing, tkv 105 to 124 …" in missing
    extra = page(tmp_path, [record("bad", "failed", verdicts=[steps_verdict(rows[:40], rows)])])
    assert "<tr class=extra><th>40<td>decode<td>102" in extra
    assert "… 20 plain decodes too many, tkv 105 to 124 …" in extra


def test_an_engine_that_tells_no_blocks_has_no_such_columns(tmp_path: Path) -> None:
    rows = table()
    html = page(tmp_path, [record("fine", verdicts=[steps_verdict(rows, rows, blocks=False)])])
    assert step_rows(html)[1] == "|1|prefill|64||0|0|"
    assert "<th>reserved" not in html


# ------------------------------------------------------------------------------------------------------------ outputs


def test_equal_texts_are_shown_once(tmp_path: Path) -> None:
    html = page(
        tmp_path, [record("fine", verdicts=[output_verdict(True, "to be\nused.", "to be\nused.", [1, 2], [1, 2])])]
    )
    assert "✓ request 0: 2 tokens as Hugging Face <q>to be\\nused.</q>" in html


def test_different_texts_are_shown_one_under_the_other(tmp_path: Path) -> None:
    bad = output_verdict(False, "to be used", "to be or not", [1, 2, 3], [1, 2, 4, 5])
    html = page(tmp_path, [record("bad", "failed", verdicts=[bad])])
    assert "2 of 4 tokens equal" in html
    assert "<span>engine</span> <q>to be <mark>used</mark></q>" in html
    assert "<span>Hugging Face</span> <q>to be <mark>or not</mark></q>" in html
    assert "<pre>\n2 of 4 tokens differ</pre>" in html
