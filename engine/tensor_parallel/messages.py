"""Messages between the engine's process and its workers, pickled. Does not import torch."""

from typing import TYPE_CHECKING, NamedTuple

from engine.backends.compilation import Compilation
from engine.config import EngineConfig
from engine.scheduling.plan import Runnable

if TYPE_CHECKING:
    import numpy


class Start(NamedTuple):
    """The first message to a worker: its rank, from 0, of ``config.tensor_parallel_size``."""

    config: EngineConfig
    rank: int


class Step(NamedTuple):
    """To every worker: run one forward. ``token_ids`` is a prompt, or the newest token per row of a decode."""

    plan: Runnable
    token_ids: tuple[int, ...]


class Ready(NamedTuple):
    """From every worker, once: weights are loaded and compilation is done."""

    compilation: Compilation | None


class Logits(NamedTuple):
    """From worker 0, for each step: float32 ``[rows, vocabulary]``."""

    values: "numpy.ndarray"


class Failed(NamedTuple):
    """The last message from a worker: its error in one line and as a traceback, and the time (``time.monotonic``).

    ``recompile``: the error is a step that matched no graph.
    """

    error: str
    traceback: str
    when: float
    recompile: bool = False
