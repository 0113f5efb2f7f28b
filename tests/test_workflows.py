"""Tests of the workflows in .github: the YAML is valid, the commands exist, and the shards are complete."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def commands(name: str) -> list[str]:
    steps = [step for job in read(name)["jobs"].values() for step in job["steps"]]
    return [step["run"] for step in steps if "run" in step]


def test_all_are_what_github_takes() -> None:
    """Check the workflows with the JSON Schema for GitHub workflows that check-jsonschema includes."""
    names = ["ci.yml", "conformance-cards.yml", "docs.yml", "properties.yml", "release.yml"]
    assert [file.name for file in WORKFLOWS] == names
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows"]
    done = subprocess.run([*check, *map(str, WORKFLOWS)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ci_runs_what_a_change_must_pass() -> None:
    assert commands("ci.yml") == ["make test", "make conformance"]
    for command in (*commands("ci.yml"), *commands("properties.yml")):
        assert re.search(rf"^{command.removeprefix('make ')}:", MAKEFILE, re.MULTILINE)


def test_the_site_is_built_for_every_change_and_published_from_main() -> None:
    assert commands("docs.yml") == ["make docs"]
    assert re.search(r"^docs:", MAKEFILE, re.MULTILINE)
    jobs = read("docs.yml")["jobs"]
    assert "if" not in jobs["build"]
    assert jobs["publish"]["needs"] == "build"
    assert "refs/heads/main" in jobs["publish"]["if"]
    folder = jobs["build"]["steps"][-1]["with"]["path"]
    assert yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["site_dir"] == folder


def test_property_tests_have_many_examples_at_night() -> None:
    assert commands("properties.yml") == ["make properties"]
    assert read("properties.yml")[True]["schedule"]
    recipe = re.search(r"^properties:.*\n\t(.*)", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    assert "SPYRE_CB_NIGHTLY=1" in recipe[1]
    assert "--hypothesis-profile nightly" in recipe[1]


def test_the_nightly_run_is_on_cards_in_parts_that_make_a_whole() -> None:
    workflow = read("conformance-cards.yml")
    job = workflow["jobs"]["shard"]
    assert workflow[True]["schedule"], "YAML reads the key `on` as true"
    assert "self-hosted" in job["runs-on"]
    shards = job["strategy"]["matrix"]["shard"]
    assert shards == [*range(1, len(shards) + 1)]
    assert not job["strategy"]["fail-fast"], "what one shard finds does not end the others"
    (pytest_command,) = (each for each in commands("conformance-cards.yml") if "pytest" in each)
    assert '--cb-shard "${{ matrix.shard }}/${{ strategy.job-total }}"' in pytest_command
    assert "--cb-require-hardware" in pytest_command
    upload = job["steps"][-1]
    assert upload["uses"].startswith("actions/upload-artifact@")
    assert upload["if"] == "always()"


def test_the_nightly_command_is_one_that_pytest_understands(tmp_path: Path) -> None:
    """Pass the nightly command with shard numbers to pytest, without ``--cb-require-hardware``. No tests are run."""
    (command,) = (each for each in commands("conformance-cards.yml") if "pytest" in each)
    filled = (
        command.replace("${{ matrix.shard }}", "2").replace("${{ strategy.job-total }}", "4").replace("$RETRIES", "1")
    )
    words = shlex.split(filled.replace("\\\n", " "))[3:]
    words = [word.replace("reports/", f"{tmp_path}/") for word in words if word != "--cb-require-hardware"]
    command_line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", *words]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"shard 2/4: \d+ of \d+ tests", done.stdout)


def test_a_release_is_tagged_with_its_version_and_tried_first() -> None:
    workflow = read("release.yml")
    assert workflow[True]["push"] == {"tags": ["v*"]}
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert publish["needs"] == "build"
    scripts = "\n".join(step.get("run", "") for step in build["steps"])
    for command in ("python -m build", "twine check --strict", "spyre-cb run suites/scheduler_steps --simulate"):
        assert command in scripts
    step = next(step for step in build["steps"] if step.get("name") == "The tag is the version")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for tag, status in ((f"v{version}", 0), (version, 1), ("v99.0.0", 1)):
        env = {**os.environ, "PATH": path, "GITHUB_REF_NAME": tag}
        done = subprocess.run(["bash", "-ec", step["run"]], cwd=ROOT, env=env)
        assert done.returncode == status
