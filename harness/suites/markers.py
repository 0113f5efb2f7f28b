"""Markers of the tests, and detection of unknown names in marker expressions."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

MARKERS: Mapping[str, str] = {
    "cb": "continuous batching with one tkv for the batch",
    "chunked_prefill": "chunked prefill: a tkv for each request, prompts in chunks between decodes",
    "token_budget": "vLLM's own scheduler: steps of a token budget, decodes and prompt chunks mixed, preemption",
    "prefix_caching": "blocks shared by content (with chunked prefill or a token budget)",
    "preemption": "a request loses its blocks to another and is computed again (with a token budget)",
    "sb": "static batching, the baseline: a batch is filled and run to its end",
    "cpu": "runs on the CPU of any machine (backend eager or inductor)",
    "spyre": "compiled for a Spyre card (backend sendnn)",
    "simulated": "on a simulated card: backend sendnn where torch_sendnn is not installed",
    "output": "compares tokens and logprobs with Hugging Face on CPU",
    "scheduler_steps": "compares every engine step with a step table",
    "behaviour": "checks limits, refused requests and the engine's state afterwards",
    "http": "through an OpenAI-compatible server, over HTTP",
    "multi": "on more than one process or card (tensor_parallel_size above 1)",
    "slow": "takes minutes: deselected unless -m names it",
    "full_model": "a model of real size, from the hub: deselected unless -m names it",
}
"""Markers that the harness defines, with their descriptions."""

ONLY_IF_NAMED = ("slow", "full_model")
"""Tests with one of these markers run only if the marker expression names it."""


def names_in(expression: str) -> list[str]:
    """Return the names in a ``-m`` expression, in order, without keyword arguments of markers."""
    without_texts = re.sub(r"'[^']*'|\"[^\"]*\"", "", expression)
    without_arguments = re.sub(r"\([^()]*=[^()]*\)", "", without_texts)
    names = re.findall(r"[^\s()]+", without_arguments)
    return [name for name in dict.fromkeys(names) if name not in {"and", "or", "not"}]


def left_out(markers: Collection[str], expression: str) -> str | None:
    """Return the marker because of which a test is deselected, since the expression does not name it; else None."""
    named = names_in(expression)
    return next((name for name in ONLY_IF_NAMED if name in markers and name not in named), None)


def unknown_names(expression: str, known: Collection[str]) -> list[str]:
    """Return the names in a ``-m`` expression that are not markers, in order."""
    return [name for name in names_in(expression) if name not in known]


def explain_unknown(names: Collection[str], known: Collection[str]) -> str:
    """Return one sentence: which names are not markers, close matches, and all known markers."""
    parts = []
    for name in names:
        close = difflib.get_close_matches(name, known, n=1)
        parts.append(f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    what = "is not a marker" if len(parts) == 1 else "are not markers"
    return f"-m: {', '.join(parts)} {what}; there are: {', '.join(sorted(known))}"


def closest(name: str, known: Collection[str]) -> str:
    """Return ``did you mean 'x'? ``, or an empty string without a close match."""
    found = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {found[0]!r}? " if found else ""


def registered(lines: Iterable[str]) -> set[str]:
    """Return the names in pytest's ``markers`` setting, whose lines read ``name(arguments): meaning``."""
    return {line.split(":")[0].split("(")[0].strip() for line in lines}
