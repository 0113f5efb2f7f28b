"""What goes between the engine's process and its workers, pickled. No torch in here."""

from typing import TYPE_CHECKING, NamedTuple

from engine.backends.compilation import Compilation
from engine.config import EngineConfig
from engine.scheduling.plan import Runnable

if TYPE_CHECKING:
    import numpy


class Start(NamedTuple):
    """To a worker, first: which of ``config.tensor_parallel_size`` it is, from 0."""

    config: EngineConfig
    rank: int


class Step(NamedTuple):
    """To every worker: one forward. ``token_ids`` is the prompt of a prefill, the newest token a row of a decode."""

    plan: Runnable
    token_ids: tuple[int, ...]


class Ready(NamedTuple):
    """From every worker, once: weights are loaded, and what has to be compiled is."""

    compilation: Compilation | None


class Logits(NamedTuple):
    """From worker 0, for each step: float32 ``[rows, vocabulary]``."""

    values: "numpy.ndarray"


class Failed(NamedTuple):
    """From a worker, last: what was raised in it, in a line and as a traceback, and when (``time.monotonic``).

    ``recompile``: it was a step that fitted no graph.
    """

    error: str
    traceback: str
    when: float
    recompile: bool = False
