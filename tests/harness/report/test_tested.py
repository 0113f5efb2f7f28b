"""Tests of how results and reports identify what was tested: the digests of models, and the Spyre cards."""

import json
from pathlib import Path
from typing import Any

from checkpoints import resolve
from harness.drivers.reference import ReferenceDriver, SimulationDriver
from harness.report.allure_files import write_allure
from harness.report.markdown import write_markdown
from harness.report.merging import merged
from harness.report.reading import Recorded
from harness.report.tested import cards_in_words, leases_of, model_digests, models_in_words, models_that_ran
from tests.helpers.result_records import HEADER, page, record, verdict

DIGEST = "0123456789abcdef" * 4
TESTED: dict[str, Any] = {
    "digests": {"tiny-granite": DIGEST},
    "cards": ["0 (0000:29:00.0)", "1 (0000:2a:00.0)"],
    "simulated": False,
}
LEASES = {"0000:29:00.0": 3, "0000:29:00.0 0000:2a:00.0": 1}


def recorded(path: Path, **footer: Any) -> Recorded:
    return Recorded(path, HEADER | TESTED, (record("a"),), {"footer": 1, "exitstatus": 0, "leases": LEASES, **footer})


def test_a_digest_is_of_the_checkpoint_that_a_model_is() -> None:
    assert model_digests(["tiny-granite", "no/such/folder"], ReferenceDriver(None)) == {
        "tiny-granite": resolve("tiny-granite").digest
    }
    # No model ran, so none was tested.
    assert model_digests(["tiny-granite"], SimulationDriver()) == {}


def test_only_models_that_ran_and_leased_cards_are_reported() -> None:
    results = [record("a", verdicts=[verdict(True, "fine")], cards=["x"]), record("b", model="large"), record("c")]
    assert models_that_ran(results) == ["tiny-granite"]
    assert leases_of(results) == {"x": 1}


def test_it_is_shown_in_words() -> None:
    assert models_in_words({"models": ["tiny-granite", "other"], **TESTED}) == "tiny-granite (0123456789ab), other"
    assert cards_in_words({**TESTED, "leases": LEASES}) == (
        "2 cards: 0 (0000:29:00.0), 1 (0000:2a:00.0); 3 tests on 0000:29:00.0; 1 test on 0000:29:00.0 0000:2a:00.0"
    )
    assert cards_in_words({"cards": [], "simulated": True}) == "none; sendnn is simulated"
    assert cards_in_words({}) == ""


def test_every_report_says_it(tmp_path: Path) -> None:
    html = page(tmp_path, [record("a")], **TESTED)
    assert "tiny-granite (0123456789ab)" in html
    assert "2 cards: 0 (0000:29:00.0)" in html
    run = recorded(tmp_path / "r.jsonl")
    write_markdown(tmp_path / "r.md", run)
    assert "models tiny-granite (0123456789ab); cards 2 cards: 0" in (tmp_path / "r.md").read_text(encoding="utf-8")
    write_allure(tmp_path / "allure", run)
    environment = (tmp_path / "allure" / "environment.properties").read_text(encoding="utf-8").splitlines()
    assert f"digest.tiny-granite={DIGEST}" in environment
    assert any(line.startswith("cards=2 cards: 0 (0000:29:00.0)") for line in environment)


def test_merged_runs_say_it_of_all(tmp_path: Path) -> None:
    one = recorded(tmp_path / "1.jsonl", digests={"tiny-granite": DIGEST})
    other = Recorded(tmp_path / "2.jsonl", HEADER, (record("b", cards=["0000:29:00.0"]),), {"footer": 1})
    both = merged([one, other])
    assert both.header["digests"] == {"tiny-granite": DIGEST}
    assert both.header["cards"] == TESTED["cards"]
    assert both.footer is not None
    assert both.footer["leases"] == {"0000:29:00.0": 1}
    assert json.dumps(both.footer)
