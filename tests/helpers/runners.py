"""Helpers that return the ModelRunner and the compiled model of an LLM whose model is in this process."""

from engine.entrypoints.llm import LLM
from engine.execution.compiled import CompiledModel
from engine.execution.runner import ModelRunner


def runner_of(llm: LLM) -> ModelRunner:
    assert isinstance(llm.engine.executor, ModelRunner)
    return llm.engine.executor


def compiled_of(llm: LLM) -> CompiledModel:
    """Return the compiled model of an engine whose backend compiles."""
    compiled = runner_of(llm).compiled
    assert compiled is not None
    return compiled
