"""The environment variables that users of the plugin know, where a command line honours them."""

from collections.abc import Mapping

from engine.config import ConfigError

BACKEND = "VLLM_SPYRE_DYNAMO_BACKEND"
BATCH_TKV_LIMIT = "VLLM_DT_MAX_BATCH_TKV_LIMIT"


def backend(environ: Mapping[str, str]) -> str:
    """The backend to use where no flag says it."""
    return environ.get(BACKEND, "").strip() or "eager"


def batch_tkv_limit(environ: Mapping[str, str], scheduler: str = "continuous") -> int | None:
    """The most batch size x tkv may be; None where the environment says nothing, or the scheduler has no tkv.

    Raises ConfigError where it is not a positive whole number.
    """
    text = environ.get(BATCH_TKV_LIMIT, "").strip()
    if not text or scheduler == "token_budget":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{BATCH_TKV_LIMIT} must be a whole number of at least 1, not {text!r}")
    return int(text)


def threads(environ: Mapping[str, str]) -> int:
    """Threads for torch: what OMP_NUM_THREADS says, else one, which is fastest for the tiny model."""
    text = environ.get("OMP_NUM_THREADS", "").strip() or "1"
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"OMP_NUM_THREADS must be a whole number of at least 1, not {text!r}")
    return int(text)
