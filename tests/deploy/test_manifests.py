"""Tests of the manifests in deploy/kubernetes.

They match Kubernetes' schemas and the restricted Pod Security Standard, and the harness accepts their commands.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from harness.cli import main
from harness.pytest_plugin.isolation.worker import START_SECONDS
from harness.suites.discovery import suite_files
from harness.suites.expand import expand
from harness.suites.loader import load_suite
from tests.helpers.kustomization import Manifest, rendered
from tests.helpers.paths import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
VERSIONS = ("1.31", "1.34", "1.37")
"""Versions of Kubernetes whose schemas the manifests are checked with. From 1.31 on, podFailurePolicy is stable."""


def with_component(folder: Path, overlay: str, component: str) -> Path:
    """Return a copy of an overlay that uses this component to store results, edited as a user would edit it."""
    shutil.copytree(KUBERNETES, folder / "kubernetes", dirs_exist_ok=True)
    file = folder / "kubernetes" / "overlays" / overlay / "kustomization.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[../../components/shared-volume]", component), encoding="utf-8")
    return file.parent


VARIANTS = {
    "cpu": "[../../components/shared-volume]",
    "spyre": "[../../components/shared-volume]",
    "cpu with s3": "[../../components/s3, ../../components/fs-group]",
    "spyre with s3": "[../../components/s3]",
}


@pytest.fixture(params=VARIANTS)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return with_component(tmp_path, request.param.partition(" ")[0], VARIANTS[request.param])


@pytest.fixture
def manifests(folder: Path) -> list[Manifest]:
    return rendered(folder)


def jobs(manifests: list[Manifest], component: str = "") -> list[Manifest]:
    every = [each for each in manifests if each["kind"] == "Job"]
    return [job for job in every if component in ("", job["metadata"]["labels"]["app.kubernetes.io/component"])]


def pod(job: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


def containers(job: Manifest) -> Iterator[dict[str, Any]]:
    yield from pod(job).get("initContainers", ())
    yield from pod(job)["containers"]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_them(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_misspelt_field_is_found(manifests: list[Manifest]) -> None:
    job = jobs(manifests, "parts")[0]
    job["spec"]["backoffLimitPerIndexes"] = 3
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl, whose rendering is compared, is not installed")
def test_the_loader_of_these_tests_renders_as_kubectl_does(folder: Path, manifests: list[Manifest]) -> None:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=True)

    def by_name(all_: list[Manifest]) -> dict[str, Manifest]:
        return {f"{each['kind']} {each['metadata']['name']}": each for each in all_}

    assert by_name(manifests) == by_name(list(yaml.safe_load_all(done.stdout)))


# --- restricted pods -------------------------------------------------------------------------------------------

SAFE_VOLUMES = {
    "configMap",
    "emptyDir",
    "persistentVolumeClaim",
    "secret",
    "projected",
    "downwardAPI",
    "csi",
    "ephemeral",
}


def violations(job: Manifest) -> list[str]:
    """Return how a Job violates the profile "restricted" of the Pod Security Standards.

    A root file system that is not read-only is also reported, although the profile allows it.
    """
    spec, found = pod(job), []
    found += [f"{name} is set" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    found += [f"volume {v['name']}" for v in spec["volumes"] if not (v.keys() - {"name"}) <= SAFE_VOLUMES]
    context = spec.get("securityContext", {})
    for container in containers(job):
        its, name = container.get("securityContext", {}), container["name"]
        if {**context, **its}.get("runAsNonRoot") is not True or 0 in (context.get("runAsUser"), its.get("runAsUser")):
            found.append(f"{name} may run as root")
        if (its.get("seccompProfile") or context.get("seccompProfile", {})).get("type") not in (
            "RuntimeDefault",
            "Localhost",
        ):
            found.append(f"{name} has no seccomp profile")
        if its.get("allowPrivilegeEscalation") is not False or its.get("privileged"):
            found.append(f"{name} may get privileges")
        capabilities = its.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
            found.append(f"{name} has capabilities")
        if its.get("readOnlyRootFilesystem") is not True:
            found.append(f"{name} may write to its root file system")
        found += [f"{name} has host ports" for port in container.get("ports", ()) if port.get("hostPort")]
    return found


def test_every_pod_is_restricted(manifests: list[Manifest]) -> None:
    for job in jobs(manifests):
        assert violations(job) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"hostNetwork": True}, "hostNetwork is set"),
        ({"securityContext": {"runAsNonRoot": False, "seccompProfile": {"type": "RuntimeDefault"}}}, "may run as root"),
        ({"securityContext": {"runAsNonRoot": True}}, "has no seccomp profile"),
        ({"volumes": [{"name": "host", "hostPath": {"path": "/"}}]}, "volume host"),
    ],
)
def test_a_pod_that_is_not_restricted_is_found(change: dict[str, Any], says: str) -> None:
    job = jobs(rendered(KUBERNETES / "overlays" / "cpu"), "parts")[0]
    pod(job).update(change)
    assert any(says in violation for violation in violations(job))


def test_a_container_that_is_not_restricted_is_found() -> None:
    job = jobs(rendered(KUBERNETES / "overlays" / "cpu"), "parts")[0]
    for name in ("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"):
        context = dict(pod(job)["containers"][0]["securityContext"])
        pod(job)["containers"][0]["securityContext"] = {key: value for key, value in context.items() if key != name}
        assert violations(job)
        pod(job)["containers"][0]["securityContext"] = context


def test_what_is_written_to_is_a_volume(manifests: list[Manifest]) -> None:
    for job in jobs(manifests):
        names = {volume["name"] for volume in pod(job)["volumes"]}
        for container in containers(job):
            mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
            assert set(mounts.values()) <= names
            assert "/tmp" in mounts
            written = [
                str(each["value"]) for each in container.get("env", ()) if str(each.get("value", "")).startswith("/")
            ]
            written += re.findall(r"=(/[^$]*)", " ".join(container.get("args", ())))
            for path in written:
                assert any(f"{path}/".startswith(f"{mount}/") for mount in mounts), path


# --- how the Jobs run ------------------------------------------------------------------------------------------


def test_the_number_of_parts_is_said_once(manifests: list[Manifest]) -> None:
    for job in jobs(manifests, "parts"):
        env = {each["name"]: each.get("value") for each in pod(job)["containers"][0]["env"]}
        assert job["spec"]["completionMode"] == "Indexed"
        assert env["JOB_COMPLETIONS"] == str(job["spec"]["completions"])
        assert job["spec"]["parallelism"] <= job["spec"]["completions"]


def test_a_hang_is_found_by_the_harness_before_kubernetes_ends_the_pod(manifests: list[Manifest]) -> None:
    for job in jobs(manifests, "parts"):
        [limit] = [arg.partition("=")[2] for arg in pod(job)["containers"][0]["args"] if "--case-timeout" in arg]
        assert START_SECONDS + 2 * float(limit) < pod(job)["activeDeadlineSeconds"]
        [merge] = jobs(manifests, "merge")
        assert pod(job)["activeDeadlineSeconds"] < merge["spec"]["activeDeadlineSeconds"]


def test_a_lost_node_does_not_count_and_a_failed_test_is_not_run_again(manifests: list[Manifest]) -> None:
    for job in jobs(manifests):
        ignore, final = job["spec"]["podFailurePolicy"]["rules"]
        assert ignore == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        assert final["onExitCodes"]["containerName"] == pod(job)["containers"][0]["name"]
        assert pod(job)["restartPolicy"] == "Never", "Kubernetes takes a podFailurePolicy only with this"
        assert 1 in final["onExitCodes"]["values"]
        assert {2, 3} & set(final["onExitCodes"]["values"]) <= ({2} if job in jobs(manifests, "merge") else set())


def test_only_the_merge_job_talks_to_kubernetes_and_may_only_look(manifests: list[Manifest]) -> None:
    assert all(pod(job)["automountServiceAccountToken"] is False for job in jobs(manifests, "parts"))
    [role] = [each for each in manifests if each["kind"] == "Role"]
    assert role["rules"] == [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get"]}]


def test_the_merge_job_waits_for_every_job_of_parts(manifests: list[Manifest]) -> None:
    names = [job["metadata"]["name"] for job in jobs(manifests, "parts")]
    [merge] = jobs(manifests, "merge")
    scripts = {"sh /scripts/wait.sh", "sh /scripts/merge.sh"}
    run = {" ".join(each["command"]): each.get("args") for each in containers(merge)}
    assert all(run[script] == names for script in scripts)
    maps = {each["metadata"]["name"]: each["data"] for each in manifests if each["kind"] == "ConfigMap"}
    for job in jobs(manifests):
        for container in containers(job):
            if container["command"][0] == "sh":
                mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
                volumes = {each["name"]: each for each in pod(job)["volumes"]}
                script = container["command"][1].removeprefix("/scripts/")
                assert script in maps[volumes[mounts["/scripts"]]["configMap"]["name"]]


def test_the_command_is_one_that_this_program_has(
    manifests: list[Manifest], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["run", "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for job in jobs(manifests, "parts"):
        [part] = pod(job)["containers"]
        assert part["command"] == ["spyre-cb", "run"]
        assert {arg.partition("=")[0] for arg in part["args"] if arg.startswith("--")} <= known
        names = set(re.findall(r"\$\((\w+)\)", " ".join(part["args"])))
        assert names <= {each["name"] for each in part["env"]} | {"JOB_COMPLETION_INDEX"}


def test_pods_request_as_many_cards_as_their_tests_need() -> None:
    """For each number of cards per engine, one Job's pods request this number and select the tests that need it."""
    sizes: dict[bool, set[int]] = {False: set(), True: set()}
    for file in suite_files([ROOT / "suites"]):
        loaded = load_suite(file)
        for test in expand(loaded.suite, ("tiny-granite",), None, "continuous"):
            markers = test.markers(loaded.suite)
            if {"spyre", "cb"} <= set(markers):
                sizes["multi" in markers].add(test.configuration.tensor_parallel_size)
    found = {}
    for job in jobs(rendered(KUBERNETES / "overlays" / "spyre"), "parts"):
        [part] = pod(job)["containers"]
        selection = part["args"][part["args"].index("-m") + 1]
        found[selection] = {int(part["resources"]["limits"]["ibm.com/spyre_pf"])}
        assert pod(job)["schedulerName"] == "spyre-scheduler"
        assert "--require-hardware" in part["args"]
        assert "--case-timeout=1800" in part["args"]
    assert found == {"spyre and cb and not multi": sizes[False], "spyre and cb and multi": sizes[True]}


def test_the_overlay_of_the_documentation(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    [overlay] = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    mine = tmp_path / "kubernetes" / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(overlay, encoding="utf-8")
    manifests = rendered(mine)
    test_kubernetes_accepts_them(manifests, VERSIONS[-1])
    test_the_number_of_parts_is_said_once(manifests)
    [parts] = jobs(manifests, "parts")
    assert parts["spec"]["completions"] == 12
    assert pod(parts)["securityContext"]["fsGroup"] == 1001
    assert pod(parts)["containers"][0]["image"] == "registry.mine.org/spyre-cb:0.1.0"


def test_what_the_loader_does_not_know_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("kind: Kustomization\nnamePrefix: a-\n")
    with pytest.raises(ValueError, match="namePrefix"):
        rendered(tmp_path)
