"""Compare a decode step of smollm2-135m with reading the model's weights once from memory.

    python benchmarks/memory_floor.py [--json FILE]

A decode cannot be faster than reading the weights. The time to read them is measured with a sum over all weights. The
matrix products of the step are also measured alone: as the engine computes them, and as torch computes them by default.
"""

import time

from measuring import Metric, in_turn, medians, milliseconds, one_thread, parser_of, report

BATCH, CONTEXT = 4, 64


def main() -> None:
    began = time.perf_counter()
    arguments = parser_of(__doc__, 15).parse_args()
    one_thread()
    import torch

    from engine.build import build_engine
    from engine.config import EngineConfig
    from engine.scheduling.plan import Decode

    engine = build_engine(EngineConfig(model="smollm2-135m", max_model_len=512, max_num_seqs=BATCH))
    runner = engine.executor
    plan = Decode(tuple("abcd"), CONTEXT - 1, (0,) * BATCH, tuple((1 + row,) for row in range(BATCH)))
    layers = [module for module in runner.model.modules() if isinstance(module, torch.nn.Linear)]
    inputs = {layer: torch.randn(BATCH, 1, layer.in_features) for layer in layers}
    total = sum(layer.weight.numel() for layer in layers)

    @torch.inference_mode()
    def read() -> None:
        for layer in layers:
            layer.weight.sum()

    @torch.inference_mode()
    def products() -> None:
        for layer in layers:
            layer(inputs[layer])

    @torch.inference_mode()
    def torch_products() -> None:
        for layer in layers:
            torch.nn.functional.linear(inputs[layer], layer.weight)

    def step() -> None:
        runner.logits(plan, (7, 8, 9, 10))

    ways = {"read": read, "step": step, "products": products, "torch": torch_products}
    seconds = medians(in_turn(ways, arguments.repeat))
    floor = seconds["read"]
    speed = f"{4 * total / floor / 1e9:.1f} GB/s"
    metrics = [
        Metric(
            f"decode step, batch {BATCH}, to reading {total / 1e6:.0f} M weights once",
            seconds["step"] / floor,
            " ×",
            at_most=1.5,
            base=f"{milliseconds(seconds['step'])} to {milliseconds(floor)}, which is {speed}",
        ),
        Metric("its products alone", seconds["products"] / floor, " ×", base=milliseconds(seconds["products"])),
        Metric("products as torch has them", seconds["torch"] / floor, " ×", base=milliseconds(seconds["torch"])),
    ]
    report("A decode step and the memory it reads", metrics, arguments.json, began=began)


if __name__ == "__main__":
    main()
