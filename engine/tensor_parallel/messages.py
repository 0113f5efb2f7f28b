"""The messages between the engine's process and its workers, which are pickled. This file does not import torch."""

from typing import TYPE_CHECKING, NamedTuple

from engine.backends.compilation import Compilation
from engine.config import EngineConfig
from engine.scheduling.plan import PromptPart, Runnable

if TYPE_CHECKING:
    import numpy


class Start(NamedTuple):
    """The first message to a worker: the engine's configuration, and the worker's rank. Ranks start at 0."""

    config: EngineConfig
    rank: int


class Step(NamedTuple):
    """A message to every worker: run ``plan``.

    ``token_ids`` are the input tokens of the plan, as ``token_ids_for`` returns them. ``wanted`` has the prompt tokens
    whose logits worker 0 must return in addition to the logits to sample from.
    """

    plan: Runnable
    token_ids: tuple[int, ...]
    wanted: tuple[PromptPart, ...] = ()


class Ready(NamedTuple):
    """The first message from a worker: its weights are loaded and its warm-up is done."""

    compilation: Compilation | None


class Logits(NamedTuple):
    """The message from worker 0 after each step: the logits to sample from, float32 ``[rows, vocabulary]``.

    ``prompts`` has (request id, first position, logits float32 ``[positions, vocabulary]``) for each element of
    ``Step.wanted``.
    """

    values: "numpy.ndarray"
    prompts: "tuple[tuple[str, int, numpy.ndarray], ...]" = ()


class Failed(NamedTuple):
    """The last message from a worker that failed: its error in one line, and the error's traceback.

    ``when`` is the time of the error (``time.monotonic``). ``recompile`` means that the error is a RecompileError.
    """

    error: str
    traceback: str
    when: float
    recompile: bool = False
