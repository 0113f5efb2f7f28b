"""The command line of the server."""

import argparse
import os
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from engine import environment
from engine.backends import BACKENDS
from engine.config import ATTENTION_OPS, SCHEDULERS, EngineConfig, require_hardware
from engine.entrypoints.server.job import AppSettings
from engine.flags import add_scheduler_flags, not_negative, positive, scheduler_options

API_KEY = "SPYRE_CB_API_KEY"

ADMIN_TOKEN = "SPYRE_CB_ADMIN_TOKEN"
"""Environment variable with the bearer token of ``POST /admin/limits`` (admin.py). Without it, that path is off."""

PROGRAM = "SPYRE_CB_PROG"
"""Environment variable with the program name for messages. Commands that start the server set this variable."""


@dataclass(frozen=True)
class ServerSettings:
    """The settings of a server, from its command line and environment.

    ``max_queue`` is the maximum number of waiting sequences. ``port`` 0 is any free port. ``drain_seconds`` is the time
    that running requests have after SIGTERM. ``admin_token`` is the bearer token for ``POST /admin/limits`` (admin.py);
    with None that path is disabled.
    """

    engine: EngineConfig
    app: AppSettings
    host: str
    port: int
    max_queue: int
    drain_seconds: float
    admin_token: str | None = None


def program() -> str:
    """Return the program name for usage and error messages."""
    return os.environ.get(PROGRAM, "python -m engine.entrypoints.server")


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parse(argv: Sequence[str] | None, environ: MutableMapping[str, str] = os.environ) -> ServerSettings:
    """Return the settings from the command line ``argv`` and from ``environ``.

    Raises ConfigError for values that EngineConfig refuses. For other invalid arguments, prints one line and exits with
    status 2. The token for ``POST /admin/limits`` is removed from ``environ``, so that subprocesses do not inherit it.
    """
    token = environ.pop(ADMIN_TOKEN, None) or None
    given = _parser().parse_args(argv)
    batch_tkv = given.max_batch_tkv_limit
    if batch_tkv is None:
        batch_tkv = environment.batch_tkv_limit(environ, given.scheduler)
    backend = environment.backend(environ) if given.backend is None else given.backend
    if given.require_hardware:
        require_hardware(backend)
    engine = EngineConfig(
        model=given.model,
        backend=backend,
        attention=given.attention,
        scheduler=given.scheduler,
        tensor_parallel_size=given.tensor_parallel_size,
        max_model_len=given.max_model_len,
        max_num_seqs=given.max_num_seqs,
        num_blocks=given.num_blocks,
        max_batch_tkv_limit=batch_tkv,
        seed=given.seed,
        **scheduler_options(given),
    )
    key = environ.get(API_KEY) or None if given.api_key is None else given.api_key
    app = AppSettings(key, given.max_body_bytes)
    return ServerSettings(engine, app, given.host, given.port, given.max_queue, given.drain_seconds, token)


def _parser() -> argparse.ArgumentParser:
    name = program()
    parser = _Parser(
        prog=name,
        description="Serve the reference engine over HTTP, as OpenAI's API.",
        epilog=f"example: {name} --port 0 --max-num-seqs 8",
        formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=32, width=100),
        allow_abbrev=False,
        usage="%(prog)s [options]",
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help=argparse.SUPPRESS)

    def add(flag: str, default: Any, kind: Any, metavar: str | None, about: str, **more: Any) -> None:
        shown = "" if default is None else f" ({default})"
        parser.add_argument(flag, default=default, type=kind, metavar=metavar, help=about + shown, **more)

    add("--model", "tiny-granite", str, "NAME", "built-in name, folder, or Hugging Face id")
    add("--host", "127.0.0.1", str, "ADDR", "address to listen on")
    add("--port", 8000, _port, "PORT", "0 is any free port; it is printed")
    add("--max-model-len", 512, positive, "N", "context: padded prompt plus new tokens")
    add("--max-num-seqs", 4, positive, "N", "maximum number of sequences in the decode batch")
    add("--num-blocks", None, positive, "N", "blocks of the KV cache, including the padding block")
    add("--max-batch-tkv-limit", None, positive, "N", f"limit on batch x tkv; or ${environment.BATCH_TKV_LIMIT}")
    names = f"{', '.join(SCHEDULERS)} (its flags: docs/server.md)"
    add("--scheduler", "continuous", str, "NAME", names, choices=SCHEDULERS)
    # The options of single schedulers are documented in docs/server.md, so that the help fits on a screen.
    add_scheduler_flags(parser, in_help=False)
    add("--backend", None, str, "NAME", f"{', '.join(BACKENDS)}; or ${environment.BACKEND}")
    add("--attention", None, str, "NAME", f"{' or '.join(ATTENTION_OPS)}; default: by backend", choices=ATTENTION_OPS)
    parser.add_argument("--require-hardware", action="store_true", help=argparse.SUPPRESS)
    add("--tensor-parallel-size", 1, positive, "N", "processes that share the model")
    add("--seed", 0, not_negative, "N", "for requests that sample without a seed")
    add("--api-key", None, _key, "KEY", f"key that clients must send for paths under /v1; or ${API_KEY}")
    add("--max-queue", 256, not_negative, "N", "maximum number of sequences that wait for a place in the batch")
    add("--max-body-bytes", 2**20, positive, "N", "maximum size of a request's body")
    add("--drain-seconds", 30, _seconds, "S", "seconds that running requests have to finish after SIGTERM")
    return parser


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or len(text) > 5 or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"must be a number of seconds from 0 to 86400, not {text!r}")
    return seconds


def _key(text: str) -> str:
    if not text.strip() or not text.isascii() or not text.isprintable():
        raise argparse.ArgumentTypeError("must be printable ASCII and not empty")
    return text
