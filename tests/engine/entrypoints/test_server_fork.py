"""Tests that a server in a fork of a process that has imported all modules behaves like one in a new process."""

import subprocess

import httpx

from engine.entrypoints.server.arguments import ADMIN_TOKEN
from tests.helpers.paths import ROOT
from tests.helpers.server_process import SECONDS, command, environment, post, started

FORKED = "tests.helpers.forked_server"


def test_a_fork_can_become_the_server() -> None:
    with started("--max-model-len", "128", module=FORKED, **{ADMIN_TOKEN: "token"}) as server:
        answer = post(server, {"prompt": [5, 6], "max_tokens": 5, "ignore_eos": True})
        assert answer.json()["usage"]["completion_tokens"] == 5
        headers = {"Authorization": "Bearer token"}
        limited = httpx.post(f"{server.url}/admin/limits", headers=headers, json={"max_model_len": 64})
        assert limited.json()["max_model_len"] == 64


def test_what_cannot_work_is_its_exit_status() -> None:
    words = command("--port", "0", "--max-model-len", "100", module=FORKED)
    done = subprocess.run(words, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 2
    assert "max_model_len 100 is not a multiple of 64" in done.stderr
