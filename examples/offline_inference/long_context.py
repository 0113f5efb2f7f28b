"""Run long prompts on the reference engine, and generate tokens until the context is full.

python examples/offline_inference/long_context.py --max_model_len 2048 --max_prompt_len 1024 --trunc_print_len 80
"""

import argparse
import sys
import sysconfig
from pathlib import Path

from shared import add_common_flags, all_match, fail, print_outputs, run, start

from engine.backends.errors import DeviceRefusedError, RecompileError
from engine.config import ConfigError
from engine.flags import positive
from engine.kv_cache.blocks import round_up_to_block
from engine.request import SamplingParams

SOURCES = ("os.py", "gzip.py", "inspect.py", "abc.py", "dataclasses.py", "enum.py", "functools.py", "io.py")
FORM = "Summarize the following code:\n\n{}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    add_common_flags(parser, max_model_len=2048)
    parser.add_argument(
        "--max_prompt_len",
        "--max-prompt-len",
        type=positive,
        default=1024,
        metavar="N",
        help="maximum length of prompts in tokens (default: %(default)s)",
    )
    parser.add_argument(
        "--trunc_print_len",
        "--trunc-print-len",
        type=positive,
        metavar="N",
        help="print only the first N characters of each prompt and of each generated text (default: all)",
    )
    arguments = parser.parse_args()

    folder = Path(sysconfig.get_paths()["stdlib"])
    texts = [FORM.format((folder / name).read_text(encoding="utf-8")) for name in SOURCES]
    texts = [texts[i % len(texts)] for i in range(arguments.num_prompts)]
    try:
        if round_up_to_block(arguments.max_prompt_len) >= arguments.max_model_len:
            raise ConfigError(
                f"--max_prompt_len {arguments.max_prompt_len}, rounded up to whole blocks of 64 tokens, leaves no room "
                f"for new tokens in --max_model_len {arguments.max_model_len}: use a smaller --max_prompt_len"
            )
        llm = start(arguments)
        token_ids = [llm.engine.tokenizer.encode(text)[: arguments.max_prompt_len] for text in texts]
        lengths = [len(ids) for ids in token_ids]
        print(f"Prompts have {min(lengths)} to {max(lengths)} tokens.")
        if max(lengths) < arguments.max_prompt_len:
            print(f"Warning: all prompts are shorter than --max_prompt_len {arguments.max_prompt_len}.")
        params = [
            SamplingParams(max_tokens=arguments.max_model_len - round_up_to_block(n), temperature=0, ignore_eos=True)
            for n in lengths
        ]
        outputs, summary = run(llm, [{"prompt_token_ids": ids} for ids in token_ids], params, arguments.trace)
    except (ValueError, DeviceRefusedError, RecompileError) as error:
        return fail(error)
    prompts = [llm.engine.tokenizer.decode(ids) for ids in token_ids]
    print_outputs(prompts, outputs, arguments.trunc_print_len)
    print(f"\n{summary}")
    return 0 if not arguments.compare_with_CPU or all_match(llm, outputs, arguments.trunc_print_len) else 1


if __name__ == "__main__":
    sys.exit(main())
