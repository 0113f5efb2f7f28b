"""``spyre-cb trace``: run workloads, and write every step of the engine as JSON or as a time-line.

A workload is a list of requests with limits: a case of a suite, or an entry of a JSON file.
"""

import re
import shutil
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from checkpoints import test_models
from harness.cli.arguments import CommandError, Subparsers, add_command, apart, existing_suite, named, stepped_driver
from harness.drivers.base import UnavailableError
from harness.drivers.registry import DEFAULT, DriverOptions, make_driver
from harness.timeline import as_svg, as_text, legend_of, of_trace
from harness.trace import Item, TraceError, as_json, read_items, trace_items
from harness.utils.files import write_text_whole

FAILED = 1
"""Exit status if the engine did not finish a workload."""

_EXAMPLES = """\
  spyre-cb trace suites/scheduler_steps/joining.yaml --simulate --plot
  spyre-cb trace workloads.json --model tiny-granite -o traced.json
"""


def add_to(subparsers: Subparsers) -> None:
    parser = add_command(
        subparsers, "trace", run, "run workloads, and write each step as JSON or a time-line", _EXAMPLES
    )
    parser.add_argument(
        "file",
        type=existing_suite,
        metavar="FILE",
        help="a suite (.yaml), or a JSON list of workloads",
    )
    parser.add_argument(
        "--driver",
        type=stepped_driver,
        default=DEFAULT,
        metavar="NAME",
        help=f"engine under test (default: {DEFAULT})",
    )
    parser.add_argument("--simulate", action="store_true", help="run the scheduler only, without a model")
    parser.add_argument("--model", metavar="NAME", help="the model to run (default: the first test model)")
    parser.add_argument(
        "--attention",
        choices=("paged", "fms"),
        metavar="OP",
        help="attention: paged or fms (default: the backend's)",
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="run only this workload; may be repeated")
    parser.add_argument("--plot", action="store_true", help="write time-lines as text instead of JSON")
    parser.add_argument("--svg", type=named, metavar="FOLDER", help="also write each time-line as SVG to this folder")
    parser.add_argument("-o", "--output", type=named, metavar="OUT", help="output file (default: standard output)")


def run(arguments: Namespace) -> int:
    """Run the workloads of a file, and write the engine's steps to ``--output`` (default: standard output).

    Return exit status 1 if the engine did not finish all requests of each workload, else 0.
    """
    if arguments.simulate and arguments.model is not None:
        raise CommandError("--simulate runs no model, so it can't be combined with --model")
    apart([arguments.file], {"--svg": arguments.svg, "--output": arguments.output})
    try:
        driver = make_driver(arguments.driver, DriverOptions(arguments.simulate, arguments.attention))
    except UnavailableError as error:
        raise CommandError(f"--driver {arguments.driver}: {error}") from error
    try:
        model = test_models()[0] if arguments.model is None else str(arguments.model)
        items = _chosen(read_items(arguments.file, model), arguments)
    except TraceError as error:
        raise CommandError(str(error)) from error
    # Write the output only when all workloads have run: an incomplete trace can't be distinguished from a complete one.
    traced = list(trace_items(items, driver))
    drawn = [item for item in traced if "error" not in item]
    if arguments.svg:
        folder = _folder(arguments.svg)
        for name, item in _named_apart(drawn):
            _write(folder / f"{name}.svg", as_svg(of_trace(item), title=f"Time-line of {item['name']}"))
    text = _plotted(drawn) if arguments.plot else as_json(traced)
    if arguments.output:
        _write(arguments.output, text)
    else:
        sys.stdout.write(text)
    return _report_failed(items, traced)


def _report_failed(items: Sequence[Item], traced: Sequence[Mapping[str, Any]]) -> int:
    """Print a sentence to stderr for each workload that was not finished, and return the exit status."""
    failed = [(item.where, trace["error"]) for item, trace in zip(items, traced, strict=True) if "error" in trace]
    for where, error in failed:
        print(f"spyre-cb: {where}: {error}", file=sys.stderr)
    return FAILED if failed else 0


def _chosen(items: list[Item], arguments: Namespace) -> list[Item]:
    """Return the workloads that ``--only`` names, without ``--only`` all. Raises CommandError for an unknown name."""
    if not arguments.only:
        return items
    names = [item.name for item in items]
    for name in arguments.only:
        if name not in names:
            close = get_close_matches(name, names, 1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise CommandError(f"--only {name}: {arguments.file} has no workload of that name{hint}")
    return [item for item in items if item.name in arguments.only]


def _named_apart(items: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (unique name for a file, workload) for each traced workload."""
    taken: Counter[str] = Counter()
    for item in items:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", item["name"]).strip("-.") or "workload"
        taken[name] += 1
        yield (name if taken[name] == 1 else f"{name}-{taken[name]}"), item


def _plotted(items: Iterable[Mapping[str, Any]]) -> str:
    width = shutil.get_terminal_size().columns
    drawn = [(item["name"], of_trace(item)) for item in items]
    lines = [line for name, time_line in drawn for line in (name, *as_text(time_line, width))]
    legends = dict.fromkeys(legend_of(time_line) for _, time_line in drawn)
    return "\n".join([*lines, *(line for legend in legends for line in legend), ""])


def _write(path: Path, text: str) -> None:
    try:
        write_text_whole(path, text)
    except OSError as error:
        raise CommandError(f"{path}: cannot be written: {error.strerror or error}") from error


def _folder(path: Path) -> Path:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"{path}: the folder cannot be created: {error.strerror or error}") from error
    return path
