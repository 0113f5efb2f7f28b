"""Code that both example scripts use: flags, starting and running the engine, comparison with Hugging Face."""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence

from engine.backends import label
from engine.config import SCHEDULERS, require_hardware
from engine.core import StepRecord
from engine.entrypoints.llm import LLM
from engine.entrypoints.prompts import Prompt
from engine.environment import backend, batch_tkv_limit, threads
from engine.flags import add_scheduler_flags, positive, scheduler_options
from engine.request import RequestOutput, SamplingParams
from engine.scheduling.plan import kind_of
from engine.trace import HEADER, trace_line


def add_common_flags(parser: argparse.ArgumentParser, max_model_len: int) -> None:
    """Add the flags that both scripts have. Some have two spellings, as in the examples of vllm-spyre."""
    parser.add_argument("--model", default="tiny-granite", help="built-in name, local path or Hugging Face id")
    parser.add_argument(
        "--max_model_len",
        "--max-model-len",
        type=positive,
        default=max_model_len,
        metavar="N",
        help="maximum length of a sequence: padded prompt plus generated tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--max_num_seqs",
        "--max-num-seqs",
        type=positive,
        default=2,
        metavar="N",
        help="maximum number of requests in the batch (default: %(default)s)",
    )
    parser.add_argument(
        "--tp", type=positive, default=1, metavar="N", help="tensor-parallel size: number of processes for the model"
    )
    parser.add_argument(
        "--num-prompts", "-n", type=positive, default=8, metavar="N", help="number of prompts (default: %(default)s)"
    )
    parser.add_argument(
        "--backend",
        default=backend(os.environ),
        help="eager, inductor or sendnn (default: VLLM_SPYRE_DYNAMO_BACKEND or eager)",
    )
    parser.add_argument(
        "--scheduler", choices=SCHEDULERS, default="continuous", help="scheduler (default: %(default)s)"
    )
    add_scheduler_flags(parser, in_help=True)
    parser.add_argument(
        "--require-hardware", action="store_true", help="fail if there is no card, instead of simulating"
    )
    parser.add_argument(
        "--compare-with-CPU",
        "--compare-with-cpu",
        action="store_true",
        help="compare each generated text with that of Hugging Face on CPU; exit status 1 if one differs",
    )
    parser.add_argument("--trace", action="store_true", help="print the step table during the run")


def start(arguments: argparse.Namespace) -> LLM:
    """Start the engine that the flags describe.

    Raises ConfigError if the engine can't have these settings, and CheckpointError if the model can't be loaded.
    """
    if arguments.require_hardware:
        require_hardware(arguments.backend)
    import torch

    torch.set_num_threads(threads(os.environ))
    return LLM(
        arguments.model,
        backend=arguments.backend,
        scheduler=arguments.scheduler,
        **scheduler_options(arguments),
        tensor_parallel_size=arguments.tp,
        max_model_len=arguments.max_model_len,
        max_num_seqs=arguments.max_num_seqs,
        max_batch_tkv_limit=batch_tkv_limit(os.environ, arguments.scheduler),
    )


def run(
    llm: LLM, prompts: Sequence[Prompt], params: Sequence[SamplingParams], trace: bool
) -> tuple[list[RequestOutput], str]:
    """Generate text for the prompts. Return the outputs, and a line with numbers of steps and tokens and the speed.

    With ``trace``, print the step table during the run.
    """
    kinds: Counter[str] = Counter()

    def on_step(record: StepRecord) -> None:
        kinds[kind_of(record.plan)] += 1
        if trace:
            print(trace_line(record), flush=True)

    if trace:
        print(HEADER)
    began = time.perf_counter()
    outputs = llm.generate(prompts, params, progress=not trace, on_step=on_step)
    seconds = time.perf_counter() - began
    tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
    on = label(llm.engine.core.config.backend)
    mixed = f"{kinds['mixed']} mixed, " if kinds["mixed"] else ""
    summary = (
        f"{sum(kinds.values())} steps "
        f"({kinds['prefill']} prefills, {kinds['decode']} decodes, {mixed}{kinds['idle']} idle), "
        f"{tokens} tokens in {seconds:.2f} s, {tokens / seconds:.1f} tokens/s on {on}"
    )
    return outputs, summary


def print_outputs(prompts: Sequence[str], outputs: Sequence[RequestOutput], most: int | None = None) -> None:
    """Print the first ``most`` characters (None: all) of each prompt and of its generated text."""
    for number, (prompt, output) in enumerate(zip(prompts, outputs, strict=True)):
        print(f"\nPrompt {number}: {prompt[:most]!r}")
        print(f"Text {number}:   {output.outputs[0].text[:most]!r}")


def all_match(llm: LLM, outputs: Sequence[RequestOutput], most: int | None = None) -> bool:
    """Compare the outputs with greedy decoding by Hugging Face on CPU, and return whether all texts are equal.

    Print each text that differs, and its first different token. Only ``most`` characters are printed (None: all).
    """
    from harness.references import Oracle, Wanted

    tokenizer, same = llm.engine.tokenizer, True
    print("\nComparing with Hugging Face on CPU ...")
    wanted = [Wanted(output.prompt_token_ids, len(output.outputs[0].token_ids)) for output in outputs]
    references = Oracle().references(llm.engine.checkpoint, wanted)
    for number, (output, wanted) in enumerate(zip(outputs, references, strict=True)):
        ours = output.outputs[0]
        text = tokenizer.decode(wanted.token_ids)
        if text == ours.text:
            continue
        same = False
        pairs = zip(ours.token_ids, wanted.token_ids, strict=True)
        token = next((i for i, (a, b) in enumerate(pairs) if a != b), len(ours.token_ids))
        print(f"\nResults for prompt {number} differ from token {token} on:")
        print(f"  engine:       {ours.text[:most]!r}")
        print(f"  Hugging Face: {text[:most]!r}")
    if same:
        print("All results match!")
    return same


def fail(error: Exception) -> int:
    """Print the message of an error to standard error, and return the exit status 2."""
    print(f"error: {error}", file=sys.stderr)
    return 2
