"""The environment variables that the server and the examples read: two of vllm-spyre, and ``OMP_NUM_THREADS``."""

from collections.abc import Mapping

from engine.config import ConfigError

BACKEND = "VLLM_SPYRE_DYNAMO_BACKEND"
BATCH_TKV_LIMIT = "VLLM_DT_MAX_BATCH_TKV_LIMIT"


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
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{BATCH_TKV_LIMIT} must be a whole number of at least 1, not {text!r}")
    return int(text)


def threads(environ: Mapping[str, str]) -> int:
    """Return the number of threads for torch: ``OMP_NUM_THREADS``, or 1, which is fastest for tiny-granite.

    Raises ConfigError if the value is not a positive integer.
    """
    text = environ.get("OMP_NUM_THREADS", "").strip() or "1"
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"OMP_NUM_THREADS must be a whole number of at least 1, not {text!r}")
    return int(text)
