"""The environment variables that the server and the examples read: two of vllm-spyre, and ``OMP_NUM_THREADS``."""

from collections.abc import Mapping

from engine.config import ConfigError

BACKEND = "VLLM_SPYRE_DYNAMO_BACKEND"
BATCH_TKV_LIMIT = "VLLM_DT_MAX_BATCH_TKV_LIMIT"
MAX_THREADS = 1024
"""More threads than this are a typing error; torch would start them all."""
MAX_DIGITS = 18
"""A number with more digits is a typing error. Python refuses to convert numbers with thousands of digits."""


def backend(environ: Mapping[str, str]) -> str:
    """Return the backend to use if no flag sets one: ``VLLM_SPYRE_DYNAMO_BACKEND``, else ``eager``."""
    return environ.get(BACKEND, "").strip() or "eager"


def batch_tkv_limit(environ: Mapping[str, str], scheduler: str = "continuous") -> int | None:
    """Return ``VLLM_DT_MAX_BATCH_TKV_LIMIT``, the limit on batch size x tkv.

    Return None if the variable is not set, or if the scheduler is ``token_budget``, which has no tkv. Raises
    ConfigError if the value is not a positive integer.
    """
    text = environ.get(BATCH_TKV_LIMIT, "").strip()
    if not text or scheduler == "token_budget":
        return None
    return _whole(BATCH_TKV_LIMIT, text)


def threads(environ: Mapping[str, str]) -> int:
    """Return the number of threads for torch: ``OMP_NUM_THREADS``, or 1 if it is not set.

    One thread is fastest for tiny-granite, the built-in model.

    Raises ConfigError if the value is not a positive integer.
    """
    text = environ.get("OMP_NUM_THREADS", "").strip() or "1"
    count = _whole("OMP_NUM_THREADS", text)
    if count > MAX_THREADS:
        raise ConfigError(f"OMP_NUM_THREADS must be at most {MAX_THREADS}, not {text}")
    return count


def _whole(name: str, text: str) -> int:
    """Return ``text``, the value of the environment variable ``name``, as an integer.

    Raises ConfigError if ``text`` is not a positive integer.
    """
    if not text.isascii() or not text.isdecimal() or len(text) > MAX_DIGITS or int(text) < 1:
        shown = text if len(text) <= MAX_DIGITS else f"{text[:MAX_DIGITS]}…"
        raise ConfigError(f"{name} must be a whole number of at least 1, not {shown!r}")
    return int(text)
