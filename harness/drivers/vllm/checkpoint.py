"""Find the checkpoint of a model, and refuse a checkpoint that a plugin would load incorrectly without an error."""

import json

from checkpoints import Checkpoint, CheckpointError, check_supported, resolve


def checked(model: str, transformers_version: str | None) -> Checkpoint:
    """Return the checkpoint of a model. ``transformers_version`` is the installed version, None if it is missing.

    Raises CheckpointError if the model has no checkpoint, or if ibm-fms, with which the plugin loads models, does not
    support the model. Also raises CheckpointError if config.json has ``rope_theta`` only in ``rope_parameters``, as
    transformers 5 may write it, but an earlier transformers is installed, which does not read it there.
    """
    checkpoint = resolve(model)
    check_supported(checkpoint)
    config = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    theta = (config.get("rope_parameters") or {}).get("rope_theta")
    if theta is not None and "rope_theta" not in config and _major(transformers_version) < 5:
        raise CheckpointError(
            f"{checkpoint.name}: config.json has rope_theta {theta} in rope_parameters, where transformers "
            f"{transformers_version} would ignore it; add rope_theta to the top level of config.json"
        )
    return checkpoint


def _major(version: str | None) -> int:
    return int((version or "0").split(".")[0])
