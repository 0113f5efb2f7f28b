"""Mutations that leave something of a case behind in a server that several cases share.

The harness must detect each of them before the next case uses the server.
"""

from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pytest

from engine.config import Limits, ResolvedLimits
from engine.entrypoints.async_llm import AsyncLLM
from engine.entrypoints.engine_thread import EngineThread
from engine.entrypoints.server.admin import Administration
from engine.entrypoints.server.metrics import Metrics
from tests.harness.mutations.registry import Mutation, mutation

SERVER_MUTATIONS: list[Mutation] = []
server_mutation = partial(mutation, SERVER_MUTATIONS)


@server_mutation("tighter", "/v1/models has max_model_len 512, but it was set to 128")
def accept_limits_and_keep_its_own(patch: pytest.MonkeyPatch) -> None:
    async def agree(self: AsyncLLM, limits: Limits) -> ResolvedLimits:
        return ResolvedLimits(**asdict(limits))

    patch.setattr(AsyncLLM, "tighten", agree)


@server_mutation("tighter", "available_blocks was set to 5, but the server reports 35")
def keep_all_of_its_blocks(patch: pytest.MonkeyPatch) -> None:
    tighten = EngineThread._tighten

    def roomy(self: EngineThread, limits: ResolvedLimits) -> ResolvedLimits:
        return tighten(self, replace(limits, available_blocks=self._core.config.available_blocks))

    patch.setattr(EngineThread, "_tighten", roomy)


@server_mutation("tighter", "the server has an API key, but answers requests without it")
def accept_requests_without_a_key(patch: pytest.MonkeyPatch) -> None:
    go_on = Administration._go_on_with

    async def forgetful(self: Administration, wanted: Any) -> Any:
        before = self._service.settings
        answer = await go_on(self, wanted)
        self._service.settings = before
        return answer

    patch.setattr(Administration, "_go_on_with", forgetful)


@server_mutation("as it was", "the metrics are not those of a new server")
def count_on(patch: pytest.MonkeyPatch) -> None:
    restart = Metrics.restart
    patch.setattr(Metrics, "restart", lambda self: None if hasattr(self, "registry") else restart(self))


@server_mutation("as it was", "the engine is not idle: ")
def let_requests_of_the_case_before_run_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AsyncLLM, "_close", lambda self, collector: self._open.pop(collector) and None)


@server_mutation("as it was", "the server answers /v1/models with status 401")
def require_the_key_of_the_case_before(patch: pytest.MonkeyPatch) -> None:
    go_on, calls = Administration._go_on_with, []

    async def once(self: Administration, wanted: Any) -> Any:
        before = self._service.settings
        answer = await go_on(self, wanted)
        calls.append(wanted)
        if len(calls) > 1:
            self._service.settings = before
        return answer

    patch.setattr(Administration, "_go_on_with", once)


def as_table() -> str:
    """Return the table for docs/behaviour.md, as Markdown: each mutation, and the message that it must cause."""
    lines = ["| fault: the server would … | message |", "| --- | --- |"]
    lines += [f"| {mutation.name} | {mutation.message} |" for mutation in SERVER_MUTATIONS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_table(), end="")
