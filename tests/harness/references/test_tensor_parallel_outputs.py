"""Run every output case with one process and with two (tensor parallelism): the tokens must be the same.

The test is marked ``slow``, so that it runs only with ``-m slow``.
"""

from collections.abc import Iterator

import pytest

from harness.drivers.engine_pool import EnginePool
from harness.drivers.reference import ReferenceDriver
from harness.runs.runner import run_workload
from harness.suites.expand import Configuration, Expanded
from harness.suites.loader import load_suite
from harness.suites.markers import ONLY_IF_NAMED
from harness.suites.prompts import model_of_run, request_spec, vocabulary_of
from harness.suites.schema import OutputCase
from harness.types import SchedulingLimits
from tests.helpers.paths import SUITES

SUITES = SUITES / "output"


def output_cases() -> Iterator[tuple[str, OutputCase, Configuration]]:
    """Yield each output case once: its id, the case, and a configuration.

    The configuration has the first scheduler and the largest batch of the suite.
    """
    for path in sorted(SUITES.glob("*.yaml")):
        suite = load_suite(path).suite
        for case in suite.cases:
            assert isinstance(case, OutputCase)
            if not set(ONLY_IF_NAMED).intersection((*suite.markers, *case.markers)):
                seqs = max(suite.parameters.max_num_seqs or (0,)) or None
                scheduler = suite.parameters.scheduler[0]
                yield case.id, case, Configuration("tiny-granite", "eager", 1, seqs, scheduler)


CASES = list(output_cases())


@pytest.fixture(scope="module")
def engines() -> Iterator[EnginePool]:
    pool = EnginePool(ReferenceDriver())
    yield pool
    pool.close()


def tokens_of(case: OutputCase, configuration: Configuration, engines: EnginePool) -> list[tuple[int, ...]]:
    expanded = Expanded(0, case, configuration)
    session = engines.session(expanded.setup)
    session.reset(SchedulingLimits(**expanded.limits.model_dump()))
    vocabulary = vocabulary_of(model_of_run("tiny-granite"))
    specs = [request_spec(request, case.id, i, vocabulary) for i, request in enumerate(case.requests)]
    run = run_workload(session, specs, case.requests)
    assert run.unfinished is None
    return [tuple(token.token_id for token in tokens) for tokens in run.tokens]


@pytest.mark.slow
@pytest.mark.parametrize(("case", "configuration"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_two_processes_give_the_tokens_of_one(
    case: OutputCase, configuration: Configuration, engines: EnginePool
) -> None:
    two = Configuration("tiny-granite", "eager", 2, configuration.max_num_seqs, configuration.scheduler)
    alone, divided = (tokens_of(case, c, engines) for c in (configuration, two))
    assert divided == alone
    assert any(alone)


def test_no_output_case_is_left_out() -> None:
    assert len(CASES) >= 40
