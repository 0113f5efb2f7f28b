"""The real plugin with one line of its scheduler changed must fail the case that is about that line.

Needs the environment that ``make conformance-vllm`` builds.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.real_plugin.patched import CHANGES

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-vllm/bin/python"
CASES = [change.case for change in CHANGES.values()]
SUITES = [f"suites/scheduler_steps/{name}.yaml" for name in ("batch_limit", "context_limit", "blocks", "volume_limit")]


@pytest.mark.skipif(not PYTHON.exists(), reason="the real plugin is not here: make venv-vllm installs it")
def test_a_changed_line_is_caught_by_the_case_about_it() -> None:
    as_it_is = _run()
    assert "4 passed" in as_it_is.stdout, as_it_is.stdout + as_it_is.stderr
    done = _run("-p", "tests.real_plugin.patched", PATCHED="each")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "4 failed" in done.stdout
    for case in CASES:
        assert f"::{case}[tiny-granite-eager]" in done.stdout
    assert done.stdout.count("expected a prefill of ") >= len(CASES)


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} | environment
    wanted = f"({' or '.join(CASES)}) and eager"
    fixed = ["-m", "pytest", "--driver", "vllm", "--simulate", "-p", "no:cacheprovider", "-k", wanted]
    command = [str(PYTHON), *fixed, *arguments, *SUITES]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=500)
