"""Detect models that the plugin would load incorrectly without an error."""

import json

from checkpoints import Checkpoint, CheckpointError, check_supported, resolve


def checked(model: str, transformers_version: str | None) -> Checkpoint:
    """Return the model of that name on this disk. Raises CheckpointError, also for a model that would be misread.

    The plugin loads models with ibm-fms, so it has its limitations. And transformers before 5 reads ``rope_theta`` at
    the top level of a configuration only, while version 5 may write it into ``rope_parameters`` alone.
    """
    checkpoint = resolve(model)
    check_supported(checkpoint)
    config = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    theta = (config.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None and "rope_theta" not in config and _major(transformers_version) < 5:
        raise CheckpointError(
            f"{checkpoint.name}: transformers {transformers_version} would ignore rope_theta {theta}, which is "
            "in rope_parameters only: write it at the top of config.json, too"
        )
    return checkpoint


def _major(version: str | None) -> int:
    return int((version or "0").split(".")[0])
