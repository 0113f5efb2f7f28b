"""Prepare the top of the HTML page: facts about the run, and a sentence about its outcome."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from harness.report.outcomes import ALWAYS_COUNTED, SYMBOLS, HasStatus, Record, count, duration, named
from harness.report.tested import cards_in_words, models_in_words
from harness.utils import spent
from harness.utils.text import plural

INTERRUPTED = 2
NOTHING_COLLECTED = 5


@dataclass(frozen=True)
class RunView:
    """Facts about a run for the top of the page, as text: the engine, the models, when the run began, and others."""

    engine: str
    models: str
    backends: str
    cards: str
    compiled: str
    command: str
    revision: str
    python: str
    began: str
    began_iso: str
    duration: str
    spent: str


@dataclass(frozen=True)
class Summary:
    """A sentence about the outcome of a run. ``tone`` selects its colour: ``passed``, ``failed`` or ``unknown``."""

    sentence: str
    tone: str


def run_view(about: Record) -> RunView:
    """Return the facts about a run. ``about`` has the fields of the header and the footer of its results file."""
    began = datetime.fromtimestamp(about["began"]).astimezone() if "began" in about else None
    return RunView(
        engine=str(about.get("engine", "unknown")),
        models=models_in_words(about),
        backends=", ".join(map(str, about.get("backends", ()))) or "none",
        cards=cards_in_words(about),
        compiled="; ".join(map(str, about.get("compiled", ()))),
        command=str(about.get("command", "")),
        revision=str(about.get("revision") or ""),
        python=str(about.get("python", "unknown")),
        began=began.strftime("%Y-%m-%d %H:%M:%S %Z") if began else "unknown",
        began_iso=began.isoformat(timespec="seconds") if began else "",
        duration=duration(float(about.get("seconds", 0.0))),
        spent=spent.summary(about.get("spent", {})),
    )


def summary_of(views: Sequence[HasStatus], about: Record, *, cut_off: bool = False) -> Summary:
    """Return the sentence about the outcome of a run, and its tone.

    The tone is ``passed`` only if at least one test passed, no test failed unexpectedly, no result is missing, and
    pytest's exit status is that of a successful run. ``about`` has the fields of the header and the footer of the
    results file, and two more keys: ``running`` has the tests that were running when the run ended, and ``missing`` has
    descriptions of the tests without a result. ``cut_off`` is whether the footer is missing because the run was not
    finished.
    """
    exitstatus = int(about.get("exitstatus", 0))
    sentence, tone = _outcomes_sentence(views, exitstatus)
    if about.get("goes_on"):
        tone = "failed" if tone == "failed" else "unknown"
        return Summary(f"The run is not finished. So far: {_uncapitalised(sentence)}", tone)
    if missing := _missing(about, exitstatus, cut_off=cut_off):
        return Summary(
            f"{missing}. {'So far' if cut_off or about.get('missing') else 'Until then'}: {_uncapitalised(sentence)}",
            "failed",
        )
    if tone == "passed" and exitstatus:
        return Summary(f"{sentence}. But pytest itself failed (exit status {exitstatus})", "failed")
    return Summary(sentence, tone)


def _missing(about: Record, exitstatus: int, *, cut_off: bool) -> str:
    """Return a sentence, without its full stop, that says why results are missing. Return "" if none are missing."""
    if about.get("missing"):
        return f"Results are missing: {'; '.join(each.sentence for each in about['missing'])}"
    ran = named(about.get("running", ()))
    if cut_off:
        return f"The run was not finished{ran}, so results are missing"
    if about.get("stopped"):
        return f"The run ended early ({about['stopped']}), so results are missing"
    return f"The run was interrupted{ran}, so results are missing" if exitstatus == INTERRUPTED else ""


def _outcomes_sentence(views: Sequence[HasStatus], exitstatus: int) -> tuple[str, str]:
    passed, failed, errors, flaky = (count(views, s) for s in ("passed", "failed", "error", "flaky"))
    xfailed, xpassed, skipped = (count(views, s) for s in ("xfailed", "xpassed", "skipped"))
    ran = passed + failed + flaky + xfailed + xpassed
    besides = f"; {xfailed} failed as expected" if xfailed else ""
    besides += f"; {xpassed} passed although listed as known failures" if xpassed else ""
    besides += f"; {skipped} skipped" if skipped else ""
    if not ran and not errors:
        if skipped:
            return f"Nothing ran: {plural(skipped, 'test')} skipped", "unknown"
        return "Nothing ran: no test was " + ("selected" if exitstatus == NOTHING_COLLECTED else "finished"), "unknown"
    if passed == ran and not errors:
        return f"{f'All {ran} tests' if ran > 1 else 'The only test'} that ran passed{besides}", "passed"
    parts = [f"{failed} of {plural(ran, 'test')} that ran failed"] if failed else []
    parts += [plural(errors, "error")] if errors else []
    parts += [f"{flaky} flaky: failed, then passed" if not parts else f"{flaky} flaky"] if flaky else []
    parts += [f"{passed} passed"] if passed else []
    sentence = f"{', '.join(parts) or 'No test passed as expected'}{besides}"
    return sentence, "failed" if failed or errors or (flaky and exitstatus) else "passed" if passed else "unknown"


def counted(views: Sequence[HasStatus]) -> list[tuple[str, str, int]]:
    """Return (outcome, symbol, number of tests) for each outcome that the top of the page shows."""
    counted = [(status, symbol, count(views, status)) for status, symbol in SYMBOLS.items()]
    return [each for each in counted if each[2] or each[0] in ALWAYS_COUNTED]


def _uncapitalised(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
