"""Tests of the scripts in examples/, which are run in subprocesses."""

import os
import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT

FOLDER = ROOT / "examples" / "offline_inference"


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(FOLDER / script), *arguments]
    return subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300)


def test_inference_matches_hugging_face() -> None:
    done = run("cb_spyre_inference.py", "--num-prompts", "8", "--max-tokens", "20,65", "--compare-with-CPU")
    assert done.returncode == 0, done.stderr
    assert "All results match!" in done.stdout
    assert "8 prefills" in done.stdout
    assert "tokens/s" in done.stdout
    assert "Text 7:" in done.stdout


def test_long_context_runs_to_the_end_of_the_context_and_matches() -> None:
    flags = ["--max-model-len", "192", "--max_prompt_len", "100", "-n", "3", "--trunc_print_len", "40"]
    done = run("long_context.py", *flags, "--compare-with-cpu")
    assert done.returncode == 0, done.stderr
    assert "Prompts have 100 to 100 tokens." in done.stdout
    assert f"{3 * (192 - 128)} tokens" in done.stdout
    assert "All results match!" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if line.startswith("Text")) < 80


def test_two_processes_write_what_one_writes() -> None:
    done = run("cb_spyre_inference.py", "--tp", "2", "-n", "3", "--max-tokens", "5,12", "--compare-with-cpu")
    assert done.returncode == 0, done.stderr
    assert "All results match!" in done.stdout


def test_prompts_in_chunks_match_too() -> None:
    flags = ["--scheduler", "chunked", "--chunk-size", "64", "--enable-prefix-caching", "yes", "-n", "3", "--trace"]
    done = run("cb_spyre_inference.py", *flags, "--max-tokens", "5,40", "--compare-with-cpu")
    assert done.returncode == 0, done.stderr
    assert "All results match!" in done.stdout
    assert int(done.stdout.partition(" prefills")[0].rpartition("(")[2]) > 3


@pytest.mark.parametrize("spelling", ["max_model_len", "max-model-len"])
def test_both_spellings_of_a_flag_work(spelling: str) -> None:
    done = run("cb_spyre_inference.py", f"--{spelling}", "256", "-n", "1", "--max-tokens", "2", "--max-num-seqs", "1")
    assert done.returncode == 0, done.stderr


def test_trace_prints_the_step_table_as_it_happens() -> None:
    done = run("cb_spyre_inference.py", "-n", "2", "--max-tokens", "3", "--trace")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["step", "kind", "tkv", "reserved", "used", "waiting", "running", "finished"]
    assert [line.split()[1] for line in lines[1:6]] == ["prefill", "prefill", "decode", "decode", "idle"]


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--tp", "3"], {}, "tensor_parallel_size 3 does not divide the model's num_attention_heads of 4"),
        (["--max_model_len", "100"], {}, "max_model_len 100 is not a multiple of 64"),
        (["--max_model_len", "64"], {}, "Could not add request: prompt length is"),
        (["--max_model_len", "8192"], {}, "max_model_len 8192 exceeds max_position_embeddings 4096"),
        (["--model", "no-such-model"], {"HF_HUB_OFFLINE": "1"}, "no-such-model"),
        (["--max-tokens", "5,x"], {}, "must be a whole number of at least 1, not 'x'"),
        (["--num-prompts", "0"], {}, "must be a whole number of at least 1, not '0'"),
        (
            ["--chunk-size", "64"],
            {},
            "chunk_size is an option of scheduler 'chunked', but this engine has scheduler 'continuous'",
        ),
        (["--scheduler", "chunked", "--chunk-size", "100"], {}, "chunk_size 100 is not a multiple of 64"),
        (["--interleave", "maybe"], {}, "must be yes or no, not 'maybe'"),
        ([], {"VLLM_SPYRE_DYNAMO_BACKEND": "sendn"}, "backend 'sendn' is not known: choose from eager"),
        ([], {"VLLM_DT_MAX_BATCH_TKV_LIMIT": "many"}, "VLLM_DT_MAX_BATCH_TKV_LIMIT must be a whole number"),
    ],
)
def test_what_is_typed_wrongly_is_one_sentence(
    arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    done = run("cb_spyre_inference.py", *arguments, **environment)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) < 400


def test_a_prompt_length_that_leaves_no_room_is_one_sentence() -> None:
    done = run("long_context.py", "--max_model_len", "256", "--max_prompt_len", "250")
    assert done.returncode == 2
    assert "leaves no room for new tokens" in done.stderr
    assert "Traceback" not in done.stderr
