"""Tests of the plugin's environment variables, which also configure the reference engine."""

from collections.abc import Callable

import pytest

from engine import environment
from engine.config import ConfigError
from tests.helpers.engine import is_one_sentence

BACKEND = "VLLM_SPYRE_DYNAMO_BACKEND"
BATCH_TKV_LIMIT = "VLLM_DT_MAX_BATCH_TKV_LIMIT"
THREADS = "OMP_NUM_THREADS"


@pytest.mark.parametrize("environ", [{}, {BACKEND: ""}, {BACKEND: "  "}])
def test_the_default_backend_is_eager(environ: dict[str, str]) -> None:
    assert environment.backend(environ) == "eager"


def test_the_backend_is_what_the_environment_says() -> None:
    assert environment.backend({BACKEND: " sendnn "}) == "sendnn"


@pytest.mark.parametrize("environ", [{}, {BATCH_TKV_LIMIT: ""}, {BATCH_TKV_LIMIT: " "}])
def test_there_is_no_batch_tkv_limit_by_default(environ: dict[str, str]) -> None:
    assert environment.batch_tkv_limit(environ) is None


def test_a_scheduler_without_tkv_has_no_such_limit() -> None:
    assert environment.batch_tkv_limit({BATCH_TKV_LIMIT: "1024"}, "token_budget") is None


@pytest.mark.parametrize(("text", "limit"), [("1", 1), ("131072", 131072), (" 64 ", 64)])
def test_the_batch_tkv_limit_is_a_whole_number(text: str, limit: int) -> None:
    assert environment.batch_tkv_limit({BATCH_TKV_LIMIT: text}) == limit


@pytest.mark.parametrize(("environ", "threads"), [({}, 1), ({THREADS: ""}, 1), ({THREADS: "4"}, 4)])
def test_there_is_one_thread_by_default(environ: dict[str, str], threads: int) -> None:
    assert environment.threads(environ) == threads


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", "many", "1 000", "٣", "²"])
@pytest.mark.parametrize(
    ("name", "read"), [(BATCH_TKV_LIMIT, environment.batch_tkv_limit), (THREADS, environment.threads)]
)
def test_anything_but_a_positive_whole_number_is_refused_by_the_variables_name(
    text: str, name: str, read: Callable[[dict[str, str]], object]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        read({name: text})
    assert str(refusal.value).startswith(name)
    assert repr(text) in str(refusal.value)
    assert is_one_sentence(str(refusal.value).replace(text, "…"))


@pytest.mark.parametrize(
    ("name", "read", "digits"),
    [(BATCH_TKV_LIMIT, environment.batch_tkv_limit, 5000), (THREADS, environment.threads, 5)],
)
def test_a_number_that_is_far_too_large_is_refused_in_a_short_sentence(
    name: str, read: Callable[[dict[str, str]], object], digits: int
) -> None:
    with pytest.raises(ConfigError) as refusal:
        read({name: "9" * digits})
    assert str(refusal.value).startswith(f"{name} must be ")
    assert len(str(refusal.value)) < 120
