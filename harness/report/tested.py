"""Describe the models and the cards of a run."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from checkpoints import CheckpointError, resolve
from harness.drivers.base import TOKENS, Driver
from harness.report.outcomes import Record
from harness.utils.text import plural

SHOWN = 12
"""Number of characters that reports show of a digest."""


def model_digests(names: Iterable[str], driver: Driver) -> dict[str, str]:
    """Return the digest of each model's checkpoint (configuration, tokenizer and weights), by the model's name.

    Models that are not on this machine are left out. The result is empty if the driver runs no model. The digests of
    large files are cached on this machine.
    """
    digests = {}
    for name in dict.fromkeys(names) if TOKENS in driver.capabilities else ():
        try:
            digests[name] = resolve(name).digest
        except CheckpointError:
            continue
    return digests


def models_that_ran(results: Iterable[Record]) -> list[str]:
    """Return the names of the models with which tests ran, without duplicates. Skipped tests are ignored."""
    return list(dict.fromkeys(str(r["model"]) for r in results if "model" in r and r.get("verdicts")))


def leases_of(results: Iterable[Record]) -> dict[str, int]:
    """Return the number of tests that leased each set of cards.

    The key of a set is the PCI addresses of its cards, separated by spaces.
    """
    return dict(Counter(" ".join(map(str, result["cards"])) for result in results if result.get("cards")))


def models_in_words(about: Mapping[str, Any]) -> str:
    """Return the models of a run as text, each with the beginning of its digest if the digest is known."""
    digests = about.get("digests", {})
    names = dict.fromkeys([*map(str, about.get("models", ())), *digests])
    return ", ".join(f"{name} ({digests[name][:SHOWN]})" if name in digests else name for name in names) or "none"


def cards_in_words(about: Mapping[str, Any]) -> str:
    """Return text that lists the cards of a run, and says how many tests ran on which cards.

    It also says whether the backend sendnn was simulated. Return "" if the run did not record its cards.
    """
    if "cards" not in about:
        return ""
    cards = list(map(str, about["cards"]))
    there = f"{plural(len(cards), 'card')}: {', '.join(cards)}" if cards else "none"
    simulated = "; sendnn is simulated" if about.get("simulated") else ""
    leases = [f"{plural(tests, 'test')} on {ids}" for ids, tests in about.get("leases", {}).items()]
    return "; ".join([f"{there}{simulated}", *leases])
