"""Run continuous batching on the reference engine: many prompts with different ``max_tokens`` in a small batch.

python examples/offline_inference/cb_spyre_inference.py --num-prompts 8 --max-tokens 20,65 --compare-with-CPU
"""

import argparse
import sys

from shared import add_common_flags, all_match, fail, print_outputs, run, start

from engine.backends.errors import DeviceRefusedError, RecompileError
from engine.flags import positive
from engine.request import SamplingParams

FORM = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{}\n\n### Response:"
)
INSTRUCTIONS = (
    "Provide a list of instructions for preparing chicken soup for a family of four.",
    "Provide instructions for preparing chicken soup.",
    "Return the number of items in a list.",
    "Explain to a child in two sentences why the sky is blue.",
    "Compare a bus and a train: cost, speed, comfort, and what each needs to be built. Name three cities that chose "
    "well, say what they gained, and end with a recommendation for a town of fifty thousand people by a river.",
    "Write a short announcement for the next release of a library.",
    "Which animals sleep through the winter?",
    "Describe a torpedo boat.",
)


def budgets(text: str) -> list[int]:
    """Parse a comma-separated list of positive integers. This is a ``type`` for argparse."""
    return [positive(part.strip()) for part in text.split(",")]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add_common_flags(parser, max_model_len=2048)
    parser.add_argument(
        "--max-tokens",
        "--max_tokens",
        type=budgets,
        default=[20, 65],
        metavar="N[,N...]",
        help="number of tokens to generate for each prompt; a shorter list is repeated (default: 20,65)",
    )
    arguments = parser.parse_args()

    prompts = [FORM.format(INSTRUCTIONS[i % len(INSTRUCTIONS)]) for i in range(arguments.num_prompts)]
    params = [
        SamplingParams(max_tokens=arguments.max_tokens[i % len(arguments.max_tokens)], temperature=0, ignore_eos=True)
        for i in range(arguments.num_prompts)
    ]
    try:
        llm = start(arguments)
        outputs, summary = run(llm, prompts, params, arguments.trace)
    except (ValueError, DeviceRefusedError, RecompileError) as error:
        return fail(error)
    print_outputs(prompts, outputs)
    print(f"\n{summary}")
    return 0 if not arguments.compare_with_CPU or all_match(llm, outputs) else 1


if __name__ == "__main__":
    sys.exit(main())
