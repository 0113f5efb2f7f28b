"""The pytest markers of tests from suites, and checks of marker expressions (``-m``)."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping

MARKERS: Mapping[str, str] = {
    "cb": "continuous batching in which all requests of the batch have the same padded length (tkv)",
    "chunked_prefill": "chunked prefill: each request has its own tkv, and prompts run in chunks between decodes",
    "token_budget": "vLLM's own scheduler: steps of at most max_num_batched_tokens, mixed batches, preemption",
    "prefix_caching": "requests share blocks with equal content (with chunked prefill or a token budget)",
    "preemption": "a request loses its blocks to another and is computed again (with a token budget)",
    "sb": "static batching, the baseline: a batch is filled and run to its end",
    "cpu": "runs on the CPU of any machine (backend eager or inductor)",
    "spyre": "compiled for a Spyre card (backend sendnn)",
    "simulated": "runs on a simulated card, because torch_sendnn is not installed (backend sendnn)",
    "output": "compares tokens and logprobs with Hugging Face on CPU",
    "scheduler_steps": "compares every engine step with a step table",
    "behaviour": "sends requests to an engine or a server, and checks answers, errors and the state afterwards",
    "http": "sends requests to an OpenAI-compatible server, over HTTP",
    "multi": "runs on several processes or cards (tensor_parallel_size above 1)",
    "slow": "takes minutes; deselected unless -m names this marker",
    "full_model": "uses a model of real size, from the hub; deselected unless -m names this marker",
}
"""Markers that the harness defines, with their descriptions."""

SET_BY: Mapping[str, str] = {
    "cpu": "the parameter backend (eager or inductor)",
    "spyre": "the parameter backend (sendnn)",
    "simulated": "the parameter backend (sendnn), on a machine without torch_sendnn",
    "http": "the parameter entry_point (http)",
    "multi": "the parameter tensor_parallel_size (above 1)",
    "prefix_caching": "the option enable_prefix_caching of the case's scheduler",
    "output": "the key kind of the suite",
    "scheduler_steps": "the key kind of the suite",
    "behaviour": "the key kind of the suite",
}
"""Markers that a suite must not list, each with what sets it. Otherwise ``-m spyre`` could select a test on a CPU."""

ONLY_IF_NAMED = ("slow", "full_model")
"""Markers of tests that are run only if the marker expression names the marker."""


def names_in(expression: str) -> list[str]:
    """Return the names of markers in a ``-m`` expression, in order, without the keyword arguments of the markers."""
    without_texts = re.sub(r"'[^']*'|\"[^\"]*\"", "", expression)
    without_arguments = re.sub(r"\([^()]*=[^()]*\)", "", without_texts)
    names = re.findall(r"[^\s()]+", without_arguments)
    return [name for name in dict.fromkeys(names) if name not in {"and", "or", "not"}]


def left_out(markers: Collection[str], expression: str) -> str | None:
    """Return the marker that deselects a test, None if no marker does.

    The markers in ``ONLY_IF_NAMED``, such as ``slow``, deselect a test unless ``-m`` names them. ``markers`` are the
    markers of the test, and ``expression`` is the value of ``-m``.
    """
    named = names_in(expression)
    return next((name for name in ONLY_IF_NAMED if name in markers and name not in named), None)


def unknown_names(expression: str, known: Collection[str]) -> list[str]:
    """Return the names in a ``-m`` expression that are not in ``known``, in order."""
    return [name for name in names_in(expression) if name not in known]


def explain_unknown(names: Collection[str], known: Collection[str]) -> str:
    """Return an error message for ``names`` in ``-m`` that are not markers. It suggests close matches in ``known``.

    The message also lists all markers, which are the names ``known``.
    """
    parts = []
    for name in names:
        close = difflib.get_close_matches(name, known, n=1)
        parts.append(f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    what = "is not a marker" if len(parts) == 1 else "are not markers"
    return f"-m: {', '.join(parts)} {what}; the markers are: {', '.join(sorted(known))}"


def closest(name: str, known: Collection[str]) -> str:
    """Return the question ``did you mean 'x'? `` with the known name closest to ``name``, or "" if none is close."""
    found = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {found[0]!r}? " if found else ""


def registered(lines: Iterable[str]) -> set[str]:
    """Return the names of the markers that pytest's setting ``markers`` defines.

    ``lines`` are the lines of the setting, in the form ``name(arguments): meaning``.
    """
    return {line.split(":")[0].split("(")[0].strip() for line in lines}
