"""Tests of the driver ``vllm`` for the plugin's chunked scheduler, with a fake of vLLM.

They test steps, limits, options, servers and capabilities.
"""

import sys
from dataclasses import replace

import pytest

from harness.drivers.base import Observation
from harness.drivers.optional import scheduler_of
from harness.drivers.reference import SimulationDriver
from harness.drivers.vllm import VllmDriver, plugins, server
from harness.drivers.vllm.chunked import engine_arguments, engine_environment
from harness.drivers.vllm.plugins import CHUNKED, ONE_TKV, find_plugin
from harness.drivers.vllm.session import VllmSession
from harness.drivers.vllm.started import StartedEngine
from harness.suites.expand import expand
from harness.suites.schema import OutputCase, OutputSuite, ServerOptions
from harness.types import ChunkingSetup, EngineSetup, RequestSpec, SchedulingLimits
from tests.helpers.fake_vllm_chunked import FIRST, TWIN, FakeChunkedCore, install_chunked
from tests.helpers.harness import suite

PLAIN = EngineSetup("tiny-granite", "eager", 1, 512, 4)
SETUP = replace(PLAIN, scheduler="chunked", options=ChunkingSetup())
ONE, OTHER = RequestSpec(0, (5,) * 200, 3), RequestSpec(1, (5,) * 200, 2)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> VllmSession:
    install_chunked(monkeypatch)
    return VllmSession(CHUNKED, SETUP, StartedEngine(CHUNKED, SETUP))


def core_of(session: VllmSession) -> FakeChunkedCore:
    core = session.core
    assert isinstance(core, FakeChunkedCore)
    return core


def test_chunks_hits_and_blocks_are_read_from_scheduler_and_model_runner(session: VllmSession) -> None:
    session.reset(SchedulingLimits())
    session.add_request(ONE)
    session.add_request(OTHER)
    assert session.observe() == Observation(0, (0, 1), (), 0, 0, (), ())
    seen: list[object] = []
    while session.has_work():
        record = session.step()
        seen.append((record.kind, record.request_outputs, record.finished_requests, record.block_tables))
        seen.append(session.observe())
    assert seen == [
        ("prefill", (), (), ()),
        Observation(200, (1,), (0,), 2, 2, (), ()),
        ("prefill", (0,), (), (FIRST,)),
        Observation(200, (1,), (0,), 0, 4, (), ()),
        ("decode", (0,), (), (FIRST,)),
        Observation(201, (1,), (0,), 0, 4, (), ()),
        ("prefill", (1,), (), (TWIN,)),
        Observation(200, (), (1, 0), 0, 5, (), ((1, 2),)),
        ("decode", (1, 0), (1, 0), (TWIN, FIRST)),  # freed within the step, and read before that
        Observation(202, (), (), 0, 0, (), ()),
        ("idle", (), (), ()),
        Observation(0, (), (), 0, 0, (), ()),
    ]


def test_a_reset_tightens_and_forgets_what_is_reserved_and_cached(session: VllmSession) -> None:
    core = core_of(session)
    scheduler, manager = core.scheduler, core.scheduler.kv_cache_manager
    scheduler.total_reserved_blocks, scheduler.reserved_blocks = 3, {"0-0": 3}
    scheduler.request_last_decode_step["0-0"] = 2
    effective = session.reset(SchedulingLimits(max_model_len=128, max_num_seqs=2, available_blocks=6))
    assert effective == SchedulingLimits(128, 2, 6, 2048)
    assert (scheduler.max_model_len, scheduler.max_num_running_reqs, scheduler.max_batch_tkv_limit) == (128, 2, 2048)
    assert (scheduler.total_reserved_blocks, scheduler.reserved_blocks, dict(scheduler.request_last_decode_step)) == (
        0,
        {},
        {},
    )
    assert scheduler.kv_cache_manager is manager  # other objects have references to it
    assert manager.made_with["kv_cache_config"].num_blocks == 7  # including the padding block
    assert manager.made_with["enable_caching"] is True
    from vllm.platforms import current_platform

    assert type(current_platform)._max_batch_tkv_limit == 2048


def test_requests_bring_no_end_of_text_of_their_own(session: VllmSession) -> None:
    session.reset(SchedulingLimits())
    session.add_request(ONE)
    _, name, params = core_of(session).calls[-1]
    assert (name, params.eos) == ("0-0", 0)


def test_options_of_the_scheduler_are_set_where_the_plugin_reads_them() -> None:
    chunking = ChunkingSetup(256, enable_prefix_caching=False, interleave=False, long_output_priority=True)
    setup = replace(SETUP, options=chunking)
    assert engine_arguments(setup) == {
        "enable_prefix_caching": False,
        "max_num_batched_tokens": 256,
        "structured_outputs_config": {"backend": "guidance"},
    }
    assert engine_environment(setup) == {
        "SENDNN_INFERENCE_CP_INTERLEAVE_STEPS": "0",
        "SENDNN_INFERENCE_LONG_OUT_PRIO": "1",
    }


def test_a_server_gets_its_chunk_options(monkeypatch: pytest.MonkeyPatch) -> None:
    command = CHUNKED.adapter.server_command("/somewhere", SETUP)
    assert command[:5] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", "/somewhere"]
    assert command[5:] == ["--enable-prefix-caching", "--max-num-batched-tokens", "128"]
    assert ONE_TKV.adapter.server_command("/somewhere", PLAIN)[1:] == ["serve", "/somewhere"]
    environ = server._environ(CHUNKED, SETUP, SchedulingLimits(256, 2))
    assert environ["SENDNN_INFERENCE_CP_INTERLEAVE_STEPS"] == "1"
    assert environ["SENDNN_INFERENCE_DYNAMO_BACKEND"] == "eager"


def test_each_plugin_says_what_it_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert VllmDriver(CHUNKED).unavailable(SETUP) is None
    message = "scheduler continuous: the driver supports sendnn-inference with chunked prefill only"
    assert VllmDriver(CHUNKED).unavailable(PLAIN) == message
    assert "the driver supports vllm-spyre with continuous batching only" in str(VllmDriver(ONE_TKV).unavailable(SETUP))
    monkeypatch.setattr(server, "find_plugin", lambda: CHUNKED)
    assert server.vllm_unavailable(PLAIN) == message


def test_what_does_not_say_how_it_is_batched_runs_in_the_drivers_scheduler() -> None:
    assert [scheduler_of(d) for d in (VllmDriver(CHUNKED), VllmDriver(ONE_TKV), SimulationDriver())] == [
        "chunked",
        "continuous",
        "continuous",
    ]
    case = {"id": "a", "requests": [{"prompt": {"random_tokens": 9}, "max_tokens": 3}], "expect": {"output": "alone"}}
    outputs = OutputSuite.model_validate({"suite": "o", "kind": "output", "markers": ["cb"], "cases": [case]})
    [test] = expand(outputs, ["m"], scheduler="chunked")
    assert (test.name, test.setup.options) == ("a[m-eager-chunked]", ChunkingSetup())
    assert test.markers(outputs) == ("output", "cpu", "chunked_prefill", "prefix_caching")
    assert [t.setup.scheduler for t in expand(suite("a"), ["m"], scheduler="chunked")] == ["continuous"]


def test_events_are_required_with_the_scheduler_that_a_case_was_written_for() -> None:
    case = {"id": "a", "requests": [{"prompt": {"random_tokens": 9}, "max_tokens": 3}], "expect": {"output": "alone"}}
    case |= {"happens": ["join"], "never": ["tkv_growth"]}
    data = {"suite": "o", "kind": "output", "cases": [case]}
    plain = OutputSuite.model_validate(data)
    named = OutputSuite.model_validate(data | {"parameters": {"scheduler": ["chunked"]}})
    for outputs, scheduler, required in (
        (plain, "continuous", True),
        (plain, "chunked", False),
        (named, "chunked", True),
    ):
        [test] = expand(outputs, ["m"], scheduler=scheduler)  # type: ignore[arg-type]
        assert isinstance(test.case, OutputCase)
        assert (bool(test.case.happens), bool(test.case.never)) == (required, required)


def test_the_plugin_that_is_installed_is_the_one_that_is_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"sendnn-inference": "2.6.3"}
    monkeypatch.setattr(plugins, "version_of", versions.get)
    monkeypatch.setattr(plugins, "find_spec", lambda name: versions.get(name.replace("_", "-")))
    assert find_plugin() is CHUNKED
    assert server.vllm_scheduler() == "chunked"
    assert not server.vllm_unfit(ServerOptions(api_key="k"))
