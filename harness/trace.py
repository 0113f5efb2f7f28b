"""Run workloads and record every step as JSON, for ``spyre-cb trace``.

The input is either a suite, or a JSON list of items, each of which describes a workload. An item is an object with the
keys ``name``, ``limits`` and ``requests``, of which only ``requests`` is required. A request has ``prompt_len`` or
``prompt_token_ids`` in place of the ``prompt`` that requests in suites have, and otherwise the same fields. The
requests need not be sorted by ``join_step``. An item with the options of a scheduler, such as ``chunking``, is run with
that scheduler.

The output is a list of the same items with the keys ``columns`` and ``steps`` added, so it is also a valid input. If an
item has options of a scheduler, the key ``tables`` is added as well: [step, request, block ids] for each step in which
the block table of a request changes. If the engine did not finish an item, the item has the key ``error`` instead of
``columns`` and ``steps``. Its value is a sentence that says why.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from checkpoints import resolve
from harness.drivers.base import TOKENS, Driver
from harness.drivers.engine_pool import EnginePool
from harness.drivers.start_failures import EngineStartError
from harness.runs.plain_decodes import as_data
from harness.runs.runner import run_workload
from harness.schedulers import scheduler_named
from harness.suites.discovery import SUITE_SUFFIXES
from harness.suites.expand import Configuration, Expanded, expand
from harness.suites.loader import load_suite
from harness.suites.prompts import Vocabulary, nameless_spec, request_spec, simulated_spec, vocabulary_of
from harness.suites.schema import (
    FORMATS,
    OPTION_KEYS,
    BehaviourCase,
    Case,
    Limits,
    MisfitError,
    Options,
    OutputCase,
    Request,
    StepsCase,
)
from harness.suites.yaml import one_line, shown_path
from harness.timeline import tables_of
from harness.types import EngineSetup, RequestSpec, SchedulingLimits
from harness.utils.files import read_ordinary
from harness.utils.json_objects import RepeatedKeyError, unique_keys
from harness.utils.validation import must_be

RECORDED_AS = {
    "outputs": "request_outputs",
    "finished": "finished_requests",
    "reserved": "n_reserved_blocks",
    "used": "n_used_blocks",
    "hits": "usable_hit_blocks",
}
"""Columns that have another name in traces than in step tables: the name in traces, by the name in step tables.

Traces have the same names as the step tables that were recorded from the Spyre plugins.
"""
FIELDS = ("name", "limits", "requests", *OPTION_KEYS)
MADE = frozenset({"columns", "steps", "tables", "error"})
"""Keys that a trace adds to an item. If an item of the input already has such a key, its value is replaced."""
KEPT = MADE | {"mode", "validate"}
"""Keys that an item of the input may have, but that are ignored. Items of traces and of recordings have them."""
MEANT = {
    "aborts": "a request has abort_step",
    "scheduler": "; ".join(f"the key {key} selects the {owner.name} scheduler" for key, owner in OPTION_KEYS.items()),
}
MAX_BYTES = 100_000_000


class TraceError(ValueError):
    """A workload can't be read or run. The message is a sentence that names the file, the item and the wrong field."""


@dataclass(frozen=True)
class Item:
    """A workload. ``data`` is the item of the input that describes it, as JSON.

    ``where`` is the beginning of error messages, which names the file and the item. ``name`` is also the seed of the
    workload's random prompts.
    """

    where: str
    name: str
    data: Mapping[str, Any]
    limits: Limits
    requests: tuple[Request, ...]
    setup: EngineSetup


def read_items(path: Path, model: str) -> list[Item]:
    """Return the workloads in a file, prepared for a run with the model ``model``.

    Raises TraceError if a workload is invalid, and SuiteError if the file is a suite with mistakes.
    """
    return _items_of_suite(path, model) if path.suffix in SUITE_SUFFIXES else _items_of_json(path, model)


def trace_items(items: Sequence[Item], driver: Driver) -> Iterator[dict[str, Any]]:
    """Run the items, and yield each item with its steps, or with the key ``error`` if the engine did not finish it.

    If an engine did not finish an item, this engine is closed, and the next item is run on a new engine. Raises
    CheckpointError if the model can't be used.
    """
    engines = EnginePool(driver)
    try:
        for item in items:
            kept = {name: value for name, value in item.data.items() if name not in MADE}
            data = {"name": item.name, **kept}
            try:
                yield {**data, **_traced(item, engines)}
            except TraceError as error:
                yield {**data, "error": str(error)}
    finally:
        engines.close()


def as_json(items: Iterable[Mapping[str, Any]]) -> str:
    """Return the items as a JSON list with one item on each line."""
    return "".join(["[\n", ",\n".join(json.dumps(item, ensure_ascii=False) for item in items), "\n]\n"])


# --- reading ----------------------------------------------------------------------------------------------------


def _items_of_suite(path: Path, model: str) -> list[Item]:
    suite = load_suite(path).suite
    items: dict[tuple[int, int | None], Item] = {}
    for test in expand(suite, [model], max_tests=len(suite.cases) * 1000):
        if isinstance(test.case, BehaviourCase):
            raise TraceError(
                f"{path}: a suite of kind behaviour can't be traced; use a suite of kind scheduler_steps or output"
            )
        assert isinstance(test.case, StepsCase | OutputCase)
        requests = test.case.requests
        data = {
            "name": test.case.id,
            "limits": test.limits.model_dump(),
            "requests": [_request_data(request) for request in requests],
            **_options_data(test.setup),
        }
        setup = replace(test.setup, model=model, backend="eager", tensor_parallel_size=1)
        # Steps depend on max_num_seqs, but not on backend and model, so each case is traced once for each value of it.
        items[test.index, test.configuration.max_num_seqs] = Item(
            f"{path}: case {test.case.id}", test.case.id, data, test.limits, requests, setup
        )
    return list(items.values())


def _items_of_json(path: Path, model: str) -> list[Item]:
    try:
        text = read_ordinary(path, MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise TraceError(f"{path}: this file is larger than {MAX_BYTES:,} bytes; split it into several files")
        data = json.loads(text.decode("utf-8"), object_pairs_hook=unique_keys)
        json.dumps(data, ensure_ascii=False).encode("utf-8")
    except TraceError:
        raise
    except RepeatedKeyError as error:
        twice = json.dumps(error.key)
        raise TraceError(f"{path}: the key {twice} occurs twice in one object; keep one of them") from error
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TraceError(f"{path}: this file is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except UnicodeEncodeError as error:
        raise TraceError(
            f"{path}: a \\u escape is only half of a surrogate pair; write both halves, or the character itself"
        ) from error
    except json.JSONDecodeError as error:
        raise TraceError(f"{path}: is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise TraceError(f"{path}: lists and objects are nested too deeply; an item needs only a few levels") from error
    except ValueError as error:  # Only a number with too many digits is left. Python's message names a Python setting.
        raise TraceError(f"{path}: a number has too many digits; write a shorter one") from error
    if not isinstance(data, list):
        raise TraceError(f"{path}: the file must contain a JSON list of items, not {_kind(data)}")
    if not data:
        raise TraceError(f"{path}: the list has no workloads; an item is an object with the key requests")
    return [_item(f"{path}: item {number}", f"item-{number}", item, model) for number, item in enumerate(data)]


def _item(where: str, unnamed: str, data: Any, model: str) -> Item:
    if not isinstance(data, dict):
        raise TraceError(f"{where}: an item must be an object with the key requests, not {_kind(data)}")
    name, listed = data.get("name", unnamed), data.get("requests")
    if not isinstance(name, str) or not name:
        raise TraceError(f"{where}: name: must be text, not {_kind(name)}")
    if not isinstance(listed, list) or not listed:
        raise TraceError(f"{where}: requests: must be a list of at least one request, not {_kind(listed)}")
    where = f"{where} ({name})" if "name" in data else where
    if unknown := [field for field in data if field not in FIELDS and field not in KEPT]:
        raise TraceError(f"{where}: {unknown[0]}: is an unknown field{_meant(unknown[0])}")
    try:
        limits = Limits.model_validate(data.get("limits") or {})
    except ValidationError as error:
        raise TraceError(f"{where}: {_first_problem(('limits',), error)}") from error
    requests = tuple(_request(where, number, request) for number, request in enumerate(listed))
    given = [key for key in OPTION_KEYS if key in data]
    if len(given) > 1:
        raise TraceError(f"{where}: {given[0]} and {given[1]} are options of different schedulers; keep one of them")
    case, configuration = Case(id="trace", limits=limits), Configuration(model, "eager")
    for key in given:
        case = case.model_copy(update={key: _options(where, key, data[key])})
        configuration = replace(configuration, scheduler=OPTION_KEYS[key].name)
    return Item(where, name, data, limits, requests, Expanded(0, case, configuration).setup)


def _meant(field: str) -> str:
    if hint := MEANT.get(field):
        return f": {hint}"
    close = get_close_matches(field, FIELDS, 1)
    return f": did you mean {close[0]}?" if close else f": an item has {', '.join(FIELDS)}"


def _options(where: str, key: str, data: Any) -> Options:
    owner = OPTION_KEYS[key]
    assert owner.options is not None
    try:
        return owner.options.model_validate(data)
    except ValidationError as error:
        raise TraceError(f"{where}: {_first_problem((key,), error)}") from error


def _options_data(setup: EngineSetup) -> dict[str, Any]:
    """Return {key: value} with the scheduler options of ``setup``, as in an item. Return {} if it has no options."""
    return {} if setup.options is None else {FORMATS[setup.scheduler].options_key: asdict(setup.options)}


def _request(where: str, number: int, data: Any) -> Request:
    path: tuple[str | int, ...] = ("requests", number)
    if not isinstance(data, dict):
        raise TraceError(f"{where}: {shown_path(path)}: must be an object, not {_kind(data)}")
    if "prompt" in data:
        raise TraceError(
            f"{where}: {shown_path((*path, 'prompt'))}: only suites have this field; "
            "give prompt_len or prompt_token_ids instead"
        )
    length, tokens = data.get("prompt_len"), data.get("prompt_token_ids")
    if length is None and tokens is None:
        raise TraceError(f"{where}: {shown_path(path)}: prompt_len or prompt_token_ids is missing; give one of them")
    if length is not None and isinstance(tokens, list) and length != len(tokens):
        raise TraceError(
            f"{where}: {shown_path(path)}: prompt_len is {length!r}, but prompt_token_ids has {len(tokens)} tokens; "
            "leave prompt_len out"
        )
    rest = {name: value for name, value in data.items() if name not in _PROMPT_FIELDS}
    prompt = {"random_tokens": length} if tokens is None else {"token_ids": tokens}
    try:
        return Request.model_validate({"prompt": prompt, **rest})
    except ValidationError as error:
        raise TraceError(f"{where}: {_first_problem(path, error)}") from error


_PROMPT_FIELDS = {"prompt_len": "random_tokens", "prompt_token_ids": "token_ids"}
_FIELD_NAMES = {("prompt", inner): (outer,) for outer, inner in _PROMPT_FIELDS.items()}


def _first_problem(path: tuple[str | int, ...], error: ValidationError) -> str:
    """Return a message about the first validation error, which says which field is wrong and what its value must be.

    ``path`` is the path of the validated value in its item; the message contains it, followed by the wrong field.
    """
    detail = error.errors(include_url=False)[0]
    location = detail["loc"]
    location = _FIELD_NAMES.get(location[:2], location[:2]) + location[2:]  # type: ignore[arg-type]
    place = shown_path((*path, *location))
    match detail["type"]:
        case "missing":
            return f"{place}: is missing"
        case "extra_forbidden":
            return f"{place}: is an unknown field"
        case "value_error":
            mistake = detail["ctx"]["error"]
            at = mistake.at if isinstance(mistake, MisfitError) else ()
            return f"{shown_path((*path, *location, *at))}: {mistake}"
        case "too_short":
            return f"{place}: must not be empty"
    return f"{place}: {must_be(detail, 'an object')}, not {_kind(detail['input'])}"


def _kind(value: Any) -> str:
    """Return a short description of a JSON value for error messages, such as ``a list`` or the value itself."""
    match value:
        case None:
            return "null or nothing"
        case dict():
            return "an object"
        case list():
            return "a list" if value else "an empty list"
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _request_data(request: Request) -> dict[str, Any]:
    """Convert a request of a suite to the JSON form of requests in a trace.

    The value of ``prompt_len`` is None if the length of the prompt depends on a tokenizer.
    """
    data: dict[str, Any] = {"prompt_len": request.prompt.length}
    if request.prompt.token_ids is not None and request.prompt.tokens is None:
        data["prompt_token_ids"] = list(request.prompt.token_ids)
    data |= {"max_tokens": request.max_tokens, "join_step": request.join_step}
    rest = request.model_dump(mode="json", exclude={"prompt", *data}, exclude_defaults=True)
    return data | rest


# --- running ----------------------------------------------------------------------------------------------------


def _traced(item: Item, engines: EnginePool) -> dict[str, Any]:
    # An unknown model is a mistake in the command, so its error is not caught here, and the command ends. A token that
    # is not in the vocabulary of the model is a mistake in the item, so only this item gets an error.
    scheduler = scheduler_named(item.setup.scheduler)
    # The prompt's tokens matter if a model runs, or if the scheduler shares blocks between requests with equal tokens.
    meant = TOKENS in engines.driver.capabilities or scheduler.reads_tokens
    vocabulary = _vocabulary_for(item, meant)
    try:
        specs = _specs(item, engines.driver, vocabulary)
        session = engines.session(item.setup)
        effective = session.reset(SchedulingLimits(**item.limits.model_dump()))
        run = run_workload(session, specs, item.requests)
    except (ValueError, EngineStartError) as error:
        raise TraceError(one_line(str(error))) from error
    if run.unfinished is not None:
        engines.discard(item.setup)
        impossible = scheduler.impossible(effective, item.setup.options, specs, item.requests, run)
        why = f"{impossible}; " if impossible else ""
        raise TraceError(f"{why}{one_line(run.unfinished)}")
    pairs = zip(item.data["requests"], item.requests, specs, strict=True)
    requests = [_with_prompt(dict(data), request, spec, meant) for data, request, spec in pairs]
    steps = [[row[name] for name in scheduler.format.columns] for row in map(as_data, run.steps)]
    columns = [RECORDED_AS.get(name, name) for name in scheduler.format.columns]
    tables = {"tables": tables_of(run.steps)} if item.setup.options is not None else {}
    return {"requests": requests, "columns": columns, "steps": steps, **_options_data(item.setup), **tables}


def _specs(item: Item, driver: Driver, vocabulary: Vocabulary | None) -> list[RequestSpec]:
    if vocabulary is not None and TOKENS in driver.capabilities:
        return [request_spec(r, item.name, position, vocabulary) for position, r in enumerate(item.requests)]
    if vocabulary is not None and scheduler_named(item.setup.scheduler).reads_tokens:
        return [simulated_spec(r, item.name, position, vocabulary) for position, r in enumerate(item.requests)]
    for number, request in enumerate(item.requests):
        if not request.can_be_simulated:
            field = shown_path(("requests", number))
            raise TraceError(
                f"{field}: generated tokens can end this request early; give simulated_tokens, or do not use --simulate"
            )
    return [nameless_spec(request, position, vocabulary) for position, request in enumerate(item.requests)]


def _vocabulary_for(item: Item, meant: bool) -> Vocabulary | None:
    """Return the vocabulary of the item's model, None if it is not needed.

    It is needed if the token ids of prompts affect the run (``meant``), or if the length of a prompt depends on the
    tokenizer.
    """
    texts = any(request.prompt.length is None for request in item.requests)
    return _vocabulary(item.setup.model) if meant or texts else None


@lru_cache(maxsize=1)
def _vocabulary(model: str) -> Vocabulary:
    return vocabulary_of(resolve(model))


def _with_prompt(data: dict[str, Any], request: Request, spec: RequestSpec, meant: bool) -> dict[str, Any]:
    """Return ``data``, the JSON form of a request, with the length of its prompt and, if needed, the token ids.

    Token ids are needed if they affect the run (``meant``), unless the prompt is random with the item's name as seed.
    """
    if "prompt_token_ids" in data:
        return data
    if data.get("prompt_len") is None:
        data["prompt_len"] = len(spec.prompt_token_ids)
    by_name = request.prompt.random_tokens is not None and request.prompt.seed is None
    if meant and not by_name:
        data["prompt_token_ids"] = list(spec.prompt_token_ids)
    return data
