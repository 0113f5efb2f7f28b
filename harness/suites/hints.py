"""An example value for every key of a suite. Error messages without a more specific hint show the example."""

from collections.abc import Mapping

EXAMPLES: Mapping[str, str] = {
    "suite": "mine",
    "kind": "scheduler_steps",
    "about": "What is special here.",
    "markers": "[cb]",
    "parameters": "{model: $models, backend: [eager, sendnn]}",
    "model": "$models",
    "backend": "eager",
    "tensor_parallel_size": "1",
    "scheduler": "continuous",
    "max_tests": "200",
    "cases": "[{id: first, requests: [...], expect: {steps: golden}}]",
    "id": "joins-at-block-end",
    "requirement": "CB-PREFILL-02",
    "limits": "{max_model_len: 128, max_num_seqs: 2}",
    "max_model_len": "128",
    "max_num_seqs": "2",
    "available_blocks": "8",
    "max_batch_tkv_limit": "256",
    "requests": "[{prompt: {random_tokens: 20}, max_tokens: 5}]",
    "generate": "[{prompt: {random_tokens: 20}, max_tokens: 5}]",
    "prompt": "{random_tokens: 20}",
    "random_tokens": "20",
    "text": "Return the number of",
    "text_file": "texts/lighthouse.txt",
    "token_ids": "[40, 41, 42]",
    "special_tokens": "all",
    "parts": "[{random_tokens: 64}, {text: of}]",
    "tokens": "65",
    "max_tokens": "5",
    "min_tokens": "2",
    "join_step": "3",
    "abort_step": "5",
    "ignore_eos": "false",
    "temperature": "0.8",
    "top_k": "5",
    "top_p": "0.9",
    "min_p": "0.1",
    "seed": "1",
    "stop": "the end",
    "stop_token_ids": "[17]",
    "include_stop_str_in_output": "true",
    "skip_special_tokens": "false",
    "logprobs": "5",
    "simulated_tokens": "[292, 17]",
    "happens": "[pause, {abort_of_paused: 0}]",
    "never": "[pause]",
    "expect": "{steps: golden}",
    "steps": "golden",
    "output": "reference",
    "policy": "exact",
    "rel_tol": "0.35",
    "abs_tol": "0.01",
    "margin": "0.02",
    "max_kl": "0.001",
    "same": "[[0, 2]]",
    "unlike": "[[0, 1]]",
    "draws": "50",
    "actions": "[{generate: [{prompt: {random_tokens: 20}, max_tokens: 5}], expect: {token_counts: [5]}}]",
    "error": "{message_contains: too long}",
    "message_contains": "too long",
    "token_counts": "[5]",
    "finish_reasons": "[length]",
    "texts": "[of the screen]",
    "engine": "idle",
}


def example_of(path: tuple[str | int, ...]) -> str:
    """Return a hint with an example for the value at ``path``, in the form ``such as `max_tokens: 5` ``.

    It is the example of the last key in ``path`` that has one, "" if no key has one.
    """
    key = next((part for part in reversed(path) if part in EXAMPLES), None)
    if key in _BY_KIND:
        return _BY_KIND[key]
    return f"such as `{key}: {EXAMPLES[key]}`" if isinstance(key, str) else ""


_BY_KIND = {
    "expect": "such as `expect: {steps: golden}`, `{output: reference}` or `{token_counts: [5]}`, by the suite's kind",
}
