"""Render the folders of deploy/kubernetes as ``kubectl kustomize`` does, for machines without kubectl.

Only the fields of a kustomization that these folders use are implemented. Any other field is an error, so that nothing
is rendered wrongly.
"""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
KNOWN = {
    *("apiVersion", "kind", "resources", "components", "nameSuffix", "images", "patches", "configMapGenerator"),
}


def rendered(folder: Path) -> list[Manifest]:
    """Return the manifests of a folder with a kustomization.yaml.

    Raises ValueError if the file has a field that is not in KNOWN.
    """
    return _applied(folder, [])


def _applied(folder: Path, manifests: list[Manifest]) -> list[Manifest]:
    """Add the resources of a kustomization or component to ``manifests``, and apply its changes to all manifests."""
    its = _read(folder / "kustomization.yaml")[0]
    if unknown := its.keys() - KNOWN:
        raise ValueError(f"{folder}: unknown fields for tests/helpers/kustomization.py: {', '.join(sorted(unknown))}")
    for name in its.get("resources", ()):
        path = (folder / name).resolve()
        manifests = [*manifests, *(rendered(path) if path.is_dir() else _read(path))]
    manifests = [*manifests, *(_config_map(folder, each) for each in its.get("configMapGenerator", ()))]
    for name in its.get("components", ()):
        manifests = _applied((folder / name).resolve(), manifests)
    for patch in its.get("patches", ()):
        operations = yaml.safe_load((folder / patch["path"]).read_text() if "path" in patch else patch["patch"])
        for manifest in manifests:
            if _is_target(patch["target"], manifest):
                _patch(manifest, operations)
    for manifest in manifests:
        manifest["metadata"]["name"] += its.get("nameSuffix", "")
        _rename_images(manifest, {image["name"]: image for image in its.get("images", ())})
    return manifests


def _read(path: Path) -> list[Manifest]:
    return [copy.deepcopy(each) for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def _config_map(folder: Path, generator: Mapping[str, Any]) -> Manifest:
    if generator.keys() - {"name", "files", "envs", "options"} or generator["options"] != {
        "disableNameSuffixHash": True
    }:
        raise ValueError(f"{folder}: unknown configMapGenerator for tests/helpers/kustomization.py: {dict(generator)}")
    data = {Path(name).name: (folder / name).read_text(encoding="utf-8") for name in generator.get("files", ())}
    for name in generator.get("envs", ()):
        lines = (folder / name).read_text(encoding="utf-8").split()
        data |= {key: value for key, _, value in (line.partition("=") for line in lines)}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data}


def _is_target(target: Mapping[str, str], manifest: Manifest) -> bool:
    metadata = manifest["metadata"]
    key, _, value = target.get("labelSelector", "").partition("=")
    return (
        target["kind"] == manifest["kind"]
        and re.fullmatch(target.get("name", ".*"), metadata["name"]) is not None
        and (not key or metadata.get("labels", {}).get(key) == value)
    )


def _patch(manifest: Manifest, operations: list[Mapping[str, Any]]) -> None:
    """Apply the operations add and replace of JSON Patch (RFC 6902)."""
    for operation in operations:
        *way, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"][1:].split("/"))
        where: Any = manifest
        for part in way:
            where = where[int(part) if isinstance(where, list) else part]
        value = copy.deepcopy(operation["value"])
        match operation["op"]:
            case "add" if isinstance(where, list):
                where.insert(len(where) if last == "-" else int(last), value)
            case "add":
                where[last] = value
            case "replace":
                key = int(last) if isinstance(where, list) else last
                where[key]  # Raises an exception if there is nothing to replace.
                where[key] = value
            case other:
                raise ValueError(f"tests/helpers/kustomization.py can't apply the patch operation {other!r}")


def _rename_images(value: Any, images: Mapping[str, Mapping[str, str]]) -> None:
    if isinstance(value, list):
        for each in value:
            _rename_images(each, images)
    if isinstance(value, dict):
        image = images.get(value["image"].rpartition(":")[0] or value["image"]) if "image" in value else None
        if image is not None:
            value["image"] = f"{image['newName']}:{image['newTag']}"
        for each in value.values():
            _rename_images(each, images)
