"""The markers of the suites, and marker expressions that name one that does not exist."""

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
    "behaviour": "looks at limits, refusals and how the engine is left",
    "http": "through an OpenAI-compatible server, over HTTP",
    "multi": "on more than one process or card (tensor_parallel_size above 1)",
    "slow": "takes minutes: left out unless -m names it",
    "full_model": "a model of real size, from the hub: left out unless -m names it",
}
"""Every marker the harness itself gives or knows, with what it means."""

ONLY_IF_NAMED = ("slow", "full_model")
"""Tests with one of these run only where the marker expression names it."""


def names_in(expression: str) -> list[str]:
    """The names in a ``-m`` expression, in order. Keyword arguments of a marker are skipped."""
    without_texts = re.sub(r"'[^']*'|\"[^\"]*\"", "", expression)
    without_arguments = re.sub(r"\([^()]*=[^()]*\)", "", without_texts)
    names = re.findall(r"[^\s()]+", without_arguments)
    return [name for name in dict.fromkeys(names) if name not in {"and", "or", "not"}]


def left_out(markers: Collection[str], expression: str) -> str | None:
    """The marker for which a test is left out, because the expression does not name it; None where it is not."""
    named = names_in(expression)
    return next((name for name in ONLY_IF_NAMED if name in markers and name not in named), None)


def unknown_names(expression: str, known: Collection[str]) -> list[str]:
    """The names in a ``-m`` expression that are no markers, in order."""
    return [name for name in names_in(expression) if name not in known]


def explain_unknown(names: Collection[str], known: Collection[str]) -> str:
    """One sentence: which names are no markers, what may have been meant, which there are."""
    parts = []
    for name in names:
        close = difflib.get_close_matches(name, known, n=1)
        parts.append(f"{name!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    what = "is no marker" if len(parts) == 1 else "are no markers"
    return f"-m: {', '.join(parts)} {what}; there are: {', '.join(sorted(known))}"


def closest(name: str, known: Collection[str]) -> str:
    """``did you mean 'x'? `` or nothing."""
    found = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {found[0]!r}? " if found else ""


def registered(lines: Iterable[str]) -> set[str]:
    """The names in pytest's ``markers`` setting, whose lines read ``name(arguments): meaning``."""
    return {line.split(":")[0].split("(")[0].strip() for line in lines}
