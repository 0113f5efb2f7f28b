"""Tests of the differences between releases of the plugins and between versions of vLLM, with neither installed."""

from types import SimpleNamespace
from typing import Any

import pytest

from harness.cases.skip_reasons import missing_capability
from harness.drivers.base import GOLDEN_TOKENS, PAUSING, STEP_TRACE, TOKENS, UnavailableError
from harness.drivers.openai_http import OpenAIHttpDriver
from harness.drivers.vllm import VllmDriver, chunked_1, plugins, versions
from harness.drivers.vllm.api import abort_outputs, eos_token_id, input_processor, set_step, step_of
from harness.drivers.vllm.chunked_rules import rules_of
from harness.drivers.vllm.continuous import blocks_of_runner, set_limits
from harness.drivers.vllm.plugins import CHUNKED, CHUNKED_1, CHUNKED_PREFILL, ONE_TKV, find_plugin
from harness.suites.expand import expand
from harness.suites.loader import load_suite
from harness.types import ChunkingSetup, EngineSetup, SchedulingLimits
from tests.helpers.paths import ROOT

CHUNKED_SETUP = EngineSetup("tiny-granite", "eager", 1, 512, 4, scheduler="chunked", options=ChunkingSetup())


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return a dictionary of versions by package, from which the driver reads the installed packages.

    A plugin can be imported if its package is in the dictionary.
    """
    found: dict[str, str] = {}
    for module in (plugins, versions, chunked_1):
        monkeypatch.setattr(module, "version_of", found.get)
    monkeypatch.setattr(plugins, "find_spec", lambda name: found.get(name.replace("_", "-")))
    return found


@pytest.mark.parametrize(
    ("version", "rules"),
    [
        ("1.3.0", (False, False)),
        ("1.10.0", (False, False)),
        ("2.1.4", (False, False)),
        ("2.2.0", (True, False)),
        ("2.3.1", (True, False)),
        ("2.4.0", (True, True)),
        ("2.6.3", (True, True)),
    ],
)
def test_each_release_has_its_rules(version: str, rules: tuple[bool, ...]) -> None:
    assert tuple(rules_of(version)) == rules


def test_the_variable_of_the_plugin_selects_its_scheduler(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    installed["vllm-spyre"] = "1.4.3"
    monkeypatch.delenv(CHUNKED_PREFILL, raising=False)
    assert find_plugin() is ONE_TKV
    monkeypatch.setenv(CHUNKED_PREFILL, "1")
    assert find_plugin() is CHUNKED_1
    installed["vllm-spyre"] = "1.2.0"
    assert find_plugin() is None


def test_what_a_release_lacks_is_no_capability(installed: dict[str, str]) -> None:
    installed["vllm-spyre"] = "1.1.0"
    assert GOLDEN_TOKENS not in ONE_TKV.able
    assert ONE_TKV.injectors() == []
    assert GOLDEN_TOKENS not in OpenAIHttpDriver(start="vllm").capabilities
    with pytest.raises(UnavailableError, match=r"1\.1\.0 can't run without its model, because it has no logits"):
        VllmDriver(schedule_only=True)
    installed["vllm-spyre"] = "1.2.0"
    assert GOLDEN_TOKENS in ONE_TKV.able
    assert GOLDEN_TOKENS in OpenAIHttpDriver(start="vllm").capabilities
    installed["sendnn-inference"] = "2.3.1"
    assert PAUSING not in CHUNKED.able
    installed["sendnn-inference"] = "2.4.0"
    assert PAUSING in CHUNKED.able


def test_a_setup_that_a_release_does_not_have_is_one_sentence(installed: dict[str, str]) -> None:
    installed["vllm-spyre"] = "1.3.0"
    assert chunked_1.unavailable(CHUNKED_SETUP) == (
        "vllm-spyre 1.3.0 has no prefix caching, which the case enables: it was added in 1.4.0"
    )
    installed["vllm-spyre"] = "1.4.0"
    assert chunked_1.unavailable(CHUNKED_SETUP) is None


def test_a_case_about_pauses_needs_pausing() -> None:
    loaded = load_suite(ROOT / "suites/scheduler_steps/chunked_pausing.yaml")
    test = next(test for test in expand(loaded.suite, ("tiny-granite",), 100) if test.case.id == "two-take-turns")
    assert missing_capability(test, frozenset({STEP_TRACE, TOKENS})) == PAUSING
    assert missing_capability(test, frozenset({STEP_TRACE, TOKENS, PAUSING})) is None


# --- calls of vLLM ----------------------------------------------------------------------------------------------


def test_names_of_several_versions_are_found() -> None:
    ends = SimpleNamespace(get_eos_token_id=lambda: 7)
    assert input_processor(SimpleNamespace(processor="old")) == "old"
    assert input_processor(SimpleNamespace(input_processor="new")) == "new"
    assert eos_token_id(SimpleNamespace(input_preprocessor=ends)) == 7
    assert eos_token_id(SimpleNamespace(renderer=ends, input_preprocessor=None)) == 7


def test_requests_are_aborted_with_what_the_version_takes() -> None:
    calls: list[Any] = []

    def old(request_ids: Any) -> None:
        calls.append(list(request_ids))

    def new(request_ids: Any, internal: bool) -> None:
        calls.append((list(request_ids), internal))

    for function in (old, new):
        abort_outputs(SimpleNamespace(output_processor=SimpleNamespace(abort_requests=function)), ["a"])
    assert calls == [["a"], (["a"], True)]


def test_a_core_without_step_fn_is_stepped_by_its_method() -> None:
    core = SimpleNamespace(step=lambda: "old")
    assert step_of(core)() == "old"
    set_step(core, lambda: "watched")
    assert (core.step(), core.step_fn(), step_of(core)()) == ("watched",) * 3


# --- the plugin's own pool of blocks, before 1.3 ---------------------------------------------------------------


def test_blocks_of_the_plugins_own_pool_are_numbered_from_one() -> None:
    runner = SimpleNamespace(req_ids2blocks={"a": [0, 3], "b": []}, req_ids2reserved_blocks={"a": 4})
    assert blocks_of_runner(runner) == ({"a": (1, 4)}, 4)


@pytest.mark.parametrize(("own", "pool"), [(True, 6), (False, 7)])
def test_a_new_pool_has_a_block_for_padding_unless_it_is_the_plugins_own(own: bool, pool: int) -> None:
    made: list[int] = []
    runner = SimpleNamespace(n_blocks=6, _set_blocks=lambda num_blocks: made.append(num_blocks))
    if own:
        runner.req_ids2blocks = {}
    config = SimpleNamespace(model_config=SimpleNamespace(), max_model_len=1)
    scheduler = SimpleNamespace(vllm_config=config, scheduler_config=SimpleNamespace())
    executor = SimpleNamespace(driver_worker=SimpleNamespace(worker=SimpleNamespace(model_runner=runner)))
    set_limits(SimpleNamespace(scheduler=scheduler, model_executor=executor), SchedulingLimits(128, 4, 6, 512))
    assert made == [pool]
    assert (scheduler.max_num_running_reqs, scheduler.max_batch_tkv_limit, scheduler.n_free_blocks) == (4, "512", 6)
    assert config.model_config.max_model_len == scheduler.scheduler_config.max_model_len == 128
