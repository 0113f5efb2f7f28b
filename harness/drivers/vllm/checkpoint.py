"""Models that the plugin would load wrongly without a word: found out before it does."""

import json

from checkpoints import Checkpoint, CheckpointError, check_supported, resolve


def checked(model: str, transformers_version: str | None) -> Checkpoint:
    """The model of that name, on this disk. Raises CheckpointError, also for one that would be misread.

    What ibm-fms loads wrongly it loads wrongly in the plugin, too. And transformers before 5 looks for ``rope_theta``
    at the top of a configuration; 5 may write it into ``rope_parameters`` alone, where it is then overlooked.
    """
    checkpoint = resolve(model)
    check_supported(checkpoint)
    config = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    theta = (config.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None and "rope_theta" not in config and _major(transformers_version) < 5:
        raise CheckpointError(
            f"{checkpoint.name}: transformers {transformers_version} would overlook rope_theta {theta}, which stands "
            "in rope_parameters only: write it at the top of config.json, too"
        )
    return checkpoint


def _major(version: str | None) -> int:
    return int((version or "0").split(".")[0])
