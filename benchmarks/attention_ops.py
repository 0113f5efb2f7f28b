"""Compare a decode step with our attention operation and with the one that ibm-fms ships.

    python benchmarks/attention_ops.py [--json FILE]

The step has four sequences of 64 to 2,048 tokens, on tiny-granite in eager mode. The measured time includes the input
tensors, the forward and the logits. The operation of ibm-fms copies the whole KV cache in every layer, so both engines
have a cache of the same size, for four sequences of 2,048 tokens. The blocks of a sequence are consecutive, as after
long prompts; in the last measurement they are in random order.
"""

import random
import time
from typing import Any

from measuring import Metric, in_turn, medians, milliseconds, one_thread, parser_of, report

BATCH = 4
CONTEXTS = (64, 512, 2048)
STEPS = {"paged": 10, "fms": 1}
"""The number of steps per round, for each operation."""


def decode(context: int, scattered: bool) -> Any:
    """Return a plan of ``BATCH`` rows with ``context`` tokens each, including the new one."""
    from engine.scheduling.plan import Decode

    width = context // 64
    blocks = list(range(1, 1 + BATCH * width))
    if scattered:
        random.Random(1).shuffle(blocks)
    tables = tuple(tuple(blocks[row * width : (row + 1) * width]) for row in range(BATCH))
    return Decode(tuple("abcd"), context - 1, (0,) * BATCH, tables)


def main() -> None:
    began = time.perf_counter()
    arguments = parser_of(__doc__, 7).parse_args()
    one_thread()
    from engine.build import build_engine
    from engine.config import EngineConfig

    runners = {
        name: build_engine(EngineConfig(attention=name, max_model_len=max(CONTEXTS), max_num_seqs=BATCH)).executor
        for name in ("paged", "fms")
    }

    def way(name: str, plan: Any) -> Any:
        def run() -> None:
            for _ in range(STEPS[name]):
                runners[name].logits(plan, (7, 8, 9, 10))

        return run

    ways = {(name, context): way(name, decode(context, False)) for context in CONTEXTS for name in runners}
    ways["paged", "scattered"] = way("paged", decode(max(CONTEXTS), True))
    seconds = {key: value / STEPS[key[0]] for key, value in medians(in_turn(ways, arguments.repeat)).items()}
    metrics = []
    for context in CONTEXTS:
        shipped, own = seconds["fms", context], seconds["paged", context]
        base = f"{milliseconds(shipped)} to {milliseconds(own)}"
        least = 5 if context == 512 else None
        metrics.append(
            Metric(f"{context:,} tokens: the shipped operation to ours", shipped / own, " ×", least, None, base)
        )
    short = seconds["paged", 64]
    for name, key in (("", 2048), (", blocks in random order", "scattered")):
        own = seconds["paged", key]
        base = f"{milliseconds(own)} to {milliseconds(short)}"
        most = None if name else 2
        metrics.append(Metric(f"ours, 2,048 tokens to 64{name}", own / short, " ×", at_most=most, base=base))
    report("Attention operations, a decode step at batch 4", metrics, arguments.json, began=began)


if __name__ == "__main__":
    main()
