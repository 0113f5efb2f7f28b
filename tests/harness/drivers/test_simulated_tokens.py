"""Tests of requests that end early in simulation, because their tokens are given in place of a model."""

from pathlib import Path

from checkpoints import resolve
from engine.tokenizer import Tokenizer
from harness.drivers.reference import ReferenceDriver, SimulationDriver
from harness.runs.runner import run_workload
from harness.suites.schema import Request
from harness.types import EngineSetup, RequestSpec, SchedulingLimits
from tests.helpers.cases import case_named, outcome_of
from tests.helpers.pytest_runs import run, write

SETUP = EngineSetup("tiny-granite", "eager", 1, 512, 4)
REQUEST = Request.model_validate({"prompt": {"random_tokens": 5}, "max_tokens": 9})


def count(spec: RequestSpec) -> int:
    """Return the number of tokens that a request gets in simulation when it runs alone."""
    session = SimulationDriver().open(SETUP)
    session.reset(SchedulingLimits())
    return len(run_workload(session, [spec], [REQUEST]).tokens[0])


def test_given_tokens_end_a_request_where_the_model_would() -> None:
    tokens = (292, 587, 567, 86, 298, 265, 615, 459, 0)
    prompt = (0,) * 5
    assert count(RequestSpec(0, prompt, 20, simulated_token_ids=tokens)) == 20
    assert count(RequestSpec(0, prompt, 20, ignore_eos=False, simulated_token_ids=tokens)) == 9
    assert count(RequestSpec(0, prompt, 20, stop_token_ids=(86,), simulated_token_ids=tokens)) == 4
    text = Tokenizer(resolve("tiny-granite")).decode(tokens[:3])
    assert count(RequestSpec(0, prompt, 20, stop=(text[1:],), simulated_token_ids=tokens)) == 3


def test_every_early_stop_of_the_suites_is_simulated() -> None:
    for name in ("end-of-text-ends-a-sequence", "stop-string-ends-a-sequence", "min-tokens-postpones-the-end-of-text"):
        driver = SimulationDriver()
        assert outcome_of(case_named(name, driver), driver, {}) is None


def test_tokens_that_are_not_the_models_fail_with_both(tmp_path: Path) -> None:
    write(
        tmp_path,
        mine="""\
suite: mine
kind: scheduler_steps
cases:
  - id: says-the-wrong-tokens
    requests: [{prompt: {text: "Return the number of"}, max_tokens: 3, simulated_tokens: [292, 587, 568]}]
    expect: {steps: golden, output: none}
""",
    )
    done = run(tmp_path, "--cb-bless", ".")
    assert done.returncode == 1
    assert "request 0: simulated_tokens are not the tokens that the model generates" in done.stdout
    assert "model: [292, 587, 567]" in done.stdout


def test_the_reference_driver_generates_its_own_tokens() -> None:
    session = ReferenceDriver().open(SETUP)
    session.reset(SchedulingLimits())
    spec = RequestSpec(0, (300, 301, 302), 3, simulated_token_ids=(1, 2, 3))
    tokens = run_workload(session, [spec], [REQUEST]).tokens[0]
    assert [token.token_id for token in tokens] != [1, 2, 3]
