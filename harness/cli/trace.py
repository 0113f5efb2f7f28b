"""``spyre-cb trace``: run workloads and write every step as JSON."""

import sys
from argparse import Namespace
from pathlib import Path

from checkpoints import test_models
from harness.cli.arguments import CommandError, Subparsers, add_command, existing
from harness.run_settings import driver_by_name
from harness.trace import TraceError, as_json, read_items, trace_items

_EXAMPLES = """\
  spyre-cb trace suites/scheduler_steps/joining.yaml --simulate
  spyre-cb trace workloads.json --model tiny-granite -o traced.json
"""


def add_to(subparsers: Subparsers) -> None:
    parser = add_command(subparsers, "trace", run, "run workloads and write every step as JSON", _EXAMPLES)
    parser.add_argument(
        "file",
        type=existing,
        metavar="FILE",
        help="a suite (.yaml), or a JSON list of {limits, requests: [{prompt_len, max_tokens, join_step}]}",
    )
    parser.add_argument("--simulate", action="store_true", help="schedule only, without a model")
    parser.add_argument("--model", metavar="NAME", help="the model to run (default: the first of the test models)")
    parser.add_argument(
        "--attention", choices=("paged", "fms"), help="attention of the engine (default: the usual one of its backend)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="a file to write to (default: standard output)"
    )


def run(arguments: Namespace) -> int:
    """Trace the workloads of a file."""
    if arguments.simulate and arguments.model:
        raise CommandError("--simulate runs no model, so --model has no meaning beside it")
    driver = driver_by_name("simulation" if arguments.simulate else "reference", arguments.attention)
    try:
        items = read_items(arguments.file, arguments.model or test_models()[0])
        # Written when everything ran: half a trace would look like one.
        text = as_json(trace_items(items, driver))
    except TraceError as error:
        raise CommandError(str(error)) from error
    if not arguments.output:
        sys.stdout.write(text)
        return 0
    try:
        arguments.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{arguments.output}: cannot be written: {error.strerror or error}") from error
    return 0
