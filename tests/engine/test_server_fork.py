"""A server in a fork of a process that has imported everything: the same as one of its own."""

import subprocess
import sys

import httpx

from tests.engine.server_process import ROOT, SECONDS, environment

FORKING = """
import os, sys
import engine.entrypoints.server.admin, engine.entrypoints.server.run
import engine.model.runner, fms.models.hf.utils
from engine.entrypoints.server.__main__ import become
from harness.utils.subprocesses import die_with
parent = os.getpid()
if os.fork() == 0:
    die_with(parent)
    become(["--port", "0", *sys.argv[1:]], os.environ | {"SPYRE_CB_ADMIN_TOKEN": "token"}, 1, 2)
_, status = os.wait()
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_a_fork_can_become_the_server() -> None:
    command = [sys.executable, "-c", FORKING, "--max-model-len", "128"]
    with subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        word, _, url = process.stdout.readline().strip().partition(" ")
        assert word == "ready:"
        answer = httpx.post(f"{url}/v1/completions", json={"prompt": [5, 6], "max_tokens": 5}, timeout=SECONDS)
        assert answer.json()["usage"]["completion_tokens"] == 5
        asked = {"headers": {"Authorization": "Bearer token"}, "json": {"max_model_len": 64}}
        assert httpx.post(f"{url}/admin/limits", **asked).json()["max_model_len"] == 64
        process.kill()


def test_what_cannot_work_is_its_exit_status() -> None:
    command = [sys.executable, "-c", FORKING, "--max-model-len", "100"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 2
    assert "max_model_len 100 is not a multiple of 64" in done.stderr
