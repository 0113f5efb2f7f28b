"""Environment variables of the plugin that the command lines honour."""

from collections.abc import Mapping

from engine.config import ConfigError

BACKEND = "VLLM_SPYRE_DYNAMO_BACKEND"
BATCH_TKV_LIMIT = "VLLM_DT_MAX_BATCH_TKV_LIMIT"


def backend(environ: Mapping[str, str]) -> str:
    """Return the backend to use where no flag is given."""
    return environ.get(BACKEND, "").strip() or "eager"


def batch_tkv_limit(environ: Mapping[str, str], scheduler: str = "continuous") -> int | None:
    """Return the limit on batch size x tkv; None where the variable is not set or the scheduler has no tkv.

    Raises ConfigError if the value is not a positive integer.
    """
    text = environ.get(BATCH_TKV_LIMIT, "").strip()
    if not text or scheduler == "token_budget":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{BATCH_TKV_LIMIT} must be a whole number of at least 1, not {text!r}")
    return int(text)


def threads(environ: Mapping[str, str]) -> int:
    """Return the number of threads for torch: OMP_NUM_THREADS, or 1, which is fastest for the tiny model."""
    text = environ.get("OMP_NUM_THREADS", "").strip() or "1"
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"OMP_NUM_THREADS must be a whole number of at least 1, not {text!r}")
    return int(text)
