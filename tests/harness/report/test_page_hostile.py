"""Tests of the HTML page of a report with hostile and with many results: no text breaks it, and it stays small."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.pages import HOSTILE, Elements, matrix_cells
from tests.helpers.result_records import (
    Record,
    changed,
    output_verdict,
    page,
    poor,
    record,
    steps_verdict,
    table,
    written,
)

# ---------------------------------------------------------------------------------------- nothing breaks it, or leaks


def hostile_results() -> list[Record]:
    rows = table()
    texts = dict.fromkeys(("suite", "about", "described", "place", "source", "configuration", "text", "kind"), HOSTILE)
    bad = steps_verdict(rows, changed(rows, 3, tkv=1)) | {"headline": HOSTILE, "details": [HOSTILE], "rule": HOSTILE}
    output = output_verdict(False, HOSTILE, f"{HOSTILE}!", [1], [2])
    return [
        record(HOSTILE, "failed", requirements=[HOSTILE], verdicts=[bad, output], **texts),
        record(HOSTILE, "error", **texts),
        record(HOSTILE, "passed", verdicts=[output | {"passed": True}], **texts),
        poor(HOSTILE, "skipped", HOSTILE, HOSTILE),
        {"test": HOSTILE, "outcome": HOSTILE, "seconds": 0.0, "text": HOSTILE},
    ]


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    header: Record = {"engine": HOSTILE, "command": HOSTILE, "models": [HOSTILE], "python": HOSTILE}
    html = page(tmp_path, hostile_results(), **header)
    assert html.count("<script") == html.count("</script>") == 1
    assert html.count("<title>") == html.count("</title>") == 2  # the page and the legend of time-lines
    assert html.count("<details") == html.count("</details>")
    assert '"bold"' not in html
    assert html.count("&lt;/script&gt;&lt;b&gt;&#34;bold&#34;&lt;/b&gt;&amp;amp;&#39;") > 30


def test_what_html_cannot_hold_is_escaped(tmp_path: Path) -> None:
    html = page(tmp_path, [record("odd", "error", text="nul \x00 bell \x07 half \ud800 return \r")])
    assert r"nul \x00 bell \x07 half \ud800 return" in html


def test_everything_is_in_the_file(tmp_path: Path) -> None:
    html = page(tmp_path, [record("one"), record("two", "failed")])
    assert "http://" not in html
    assert "https://" not in html
    assert "url(" not in html.replace("url(#tl-", "")
    elements = Elements(html)
    assert not [attributes for _, attributes in elements.tags if "src" in attributes]
    assert [attributes["href"] for attributes in elements.all("link")] == ["data:,"]
    policy = elements.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert str(policy[0]["content"]).startswith("default-src 'none';")


def test_an_outcome_is_never_shown_by_colour_alone(tmp_path: Path) -> None:
    html = page(tmp_path, [record(outcome, outcome) for outcome in ("passed", "failed", "error", "skipped")])
    for symbol, word in (("✓", "passed"), ("✗", "failed"), ("!", "error"), ("–", "skipped")):
        assert matrix_cells(html, word) == [f"{symbol} {word}"]
        assert f"<b>{symbol} {word}</b> <code>{word}</code>" in html


@pytest.mark.parametrize("outcome", ["passed", "failed"])
def test_a_thousand_results_stay_small(tmp_path: Path, outcome: str) -> None:
    # The average size of a case in suites/: lines of the step table, requests, source.
    rows = table(requests=7, decodes=3)
    seen = rows if outcome == "passed" else changed(rows, 10, reserved=1)
    outputs = [output_verdict(True, "some words " * 20, "some words " * 20, [1] * 60, [1] * 60) for _ in range(4)]
    source = "\n".join(f"      - {{prompt: {{random_tokens: {i}}}, max_tokens: 10, join_step: 3}}" for i in range(7))
    described = "\n".join(f"request {i}: 131 random tokens, max_tokens 6, joins at step 10" for i in range(4))
    steps = steps_verdict(rows, seen)
    steps["data"] |= {"sizes": [[131, 6, 10]] * 7}
    for output in outputs:
        output["data"] |= {"logprobs": [-i / 60 for i in range(60)], "reference_logprobs": [-i / 59 for i in range(60)]}
    more: dict[str, Any] = {"verdicts": [steps, *outputs], "source": source, "described": described}
    results = [record(f"recorded-number-{i}", outcome, **more) for i in range(1000)]
    size = len(written(tmp_path, results).encode())
    assert size < 3_000_000, f"{size:,} bytes"


def test_violated_requirements_come_first(tmp_path: Path) -> None:
    must = {name: {"must": f"{name} MUST hold."} for name in ("CB-A-01", "CB-B-01", "CB-C-01")}
    records = [
        record("fine", requirements=["CB-B-01"]),
        record("wrong", "failed", requirements=["CB-C-01"]),
    ]
    html = page(tmp_path, records, requirements=must)
    rows = re.findall(r'<th scope="row"><code>(CB-[A-C]-01)</code>', html)
    assert rows == ["CB-C-01", "CB-B-01", "CB-A-01"]
    assert "<dt>tkv</dt>" in html
