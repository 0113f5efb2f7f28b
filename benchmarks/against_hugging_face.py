"""Compare tokens per second with Hugging Face in static batches of 4, and the time of a long prefill.

    python benchmarks/against_hugging_face.py [--json FILE]

Ragged workloads have prompts of 8 to 256 tokens and 4 to 128 new tokens: a static batch pads to its longest prompt and
runs until its longest answer ends. Equal lengths (64 + 64) are the best case of static batching. Only the tokens that a
request asks for are counted. Sampling is greedy, with one thread and float32, and every request must get the same
tokens from the engine and from Hugging Face. The last measurement is a prefill of 2,048 tokens.
"""

import random
import time
from typing import Any, NamedTuple

from measuring import MODELS, Metric, in_turn, medians, one_thread, parser_of, report

BATCH = 4
LONG = 2048
RAGGED = {"tiny-granite": 24, "smollm2-135m": 8}
EQUAL = {"tiny-granite": 16, "smollm2-135m": 4}
ROUNDS = {"tiny-granite": 1.0, "smollm2-135m": 0.4}
"""The fraction of the ``--repeat`` rounds that are run, by model: a round takes longer on the larger model."""


class Work(NamedTuple):
    """A request: the token ids of its prompt, and its number of new tokens."""

    prompt: tuple[int, ...]
    max_tokens: int


def ragged(count: int, vocabulary: int) -> list[Work]:
    draw = random.Random(9)
    lengths = [(draw.randint(8, 256), draw.randint(4, 128)) for _ in range(count)]
    return [Work(tuple(draw.randrange(4, vocabulary) for _ in range(length)), most) for length, most in lengths]


def equal(count: int, vocabulary: int) -> list[Work]:
    draw = random.Random(10)
    return [Work(tuple(draw.randrange(4, vocabulary) for _ in range(64)), 64) for _ in range(count)]


class Both:
    """A model that is loaded by the engine ("ours") and by Hugging Face ("theirs").

    ``tokens["ours"]`` and ``tokens["theirs"]`` have the tokens of all requests in the last run of the engine and of
    Hugging Face.
    """

    def __init__(self, name: str) -> None:
        import transformers

        from checkpoints import resolve
        from engine.entrypoints.llm import LLM

        transformers.logging.set_verbosity_error()
        self.ours = LLM(name, max_model_len=LONG + 64, max_num_seqs=BATCH)
        self.theirs: Any = transformers.AutoModelForCausalLM.from_pretrained(resolve(name).path, dtype="float32").eval()
        self.tokens: dict[str, list[tuple[int, ...]]] = {}

    def run_ours(self, work: list[Work]) -> None:
        from engine.request import SamplingParams

        outputs = self.ours.generate(
            [{"prompt_token_ids": each.prompt} for each in work],
            [SamplingParams(max_tokens=each.max_tokens, temperature=0, ignore_eos=True) for each in work],
            progress=False,
        )
        self.tokens["ours"] = [output.outputs[0].token_ids for output in outputs]

    def run_theirs(self, work: list[Work]) -> None:
        import torch

        tokens: list[tuple[int, ...]] = []
        for first in range(0, len(work), BATCH):
            batch = work[first : first + BATCH]
            longest = max(len(each.prompt) for each in batch)
            ids = torch.zeros(len(batch), longest, dtype=torch.int64)
            mask = torch.zeros_like(ids)
            for row, each in enumerate(batch):
                ids[row, longest - len(each.prompt) :] = torch.tensor(each.prompt)
                mask[row, longest - len(each.prompt) :] = 1
            with torch.inference_mode():
                out = self.theirs.generate(
                    ids,
                    attention_mask=mask,
                    max_new_tokens=max(each.max_tokens for each in batch),
                    do_sample=False,
                    eos_token_id=-1,
                    pad_token_id=0,
                )
            new = out[:, longest:].tolist()
            tokens += [tuple(row[: each.max_tokens]) for row, each in zip(new, batch, strict=True)]
        self.tokens["theirs"] = tokens

    def same(self) -> int:
        """Return how many requests got the same tokens from the engine and from Hugging Face."""
        return sum(a == b for a, b in zip(self.tokens["ours"], self.tokens["theirs"], strict=True))


def throughput(both: Both, name: str, kind: str, work: list[Work], target: float, repeat: int) -> list[Metric]:
    seconds = medians(in_turn({"ours": lambda: both.run_ours(work), "theirs": lambda: both.run_theirs(work)}, repeat))
    total = sum(each.max_tokens for each in work)
    ours, theirs = (total / seconds[who] for who in ("ours", "theirs"))
    base = f"{ours:,.0f} tokens/s to {theirs:,.0f}, {len(work)} requests, {repeat} rounds"
    what = f"{name}, {kind}"
    return [
        Metric(f"{what}: tokens/s to Hugging Face's", ours / theirs, " ×", at_least=target, base=base),
        Metric(f"{what}: requests with the same tokens", 100 * both.same() / len(work), " %", at_least=100),
    ]


def prefill(both: Both, name: str, vocabulary: int, repeat: int) -> Metric:
    import torch

    from engine.scheduling.plan import Prefill

    draw = random.Random(11)
    prompt = [draw.randrange(4, vocabulary) for _ in range(LONG)]
    plan = Prefill("a", LONG, LONG, 0, tuple(range(1, LONG // 64 + 1)))
    runner = both.ours.engine.executor
    ids = torch.tensor([prompt])

    def theirs() -> None:
        with torch.inference_mode():
            both.theirs(ids, use_cache=True, logits_to_keep=1)

    seconds = medians(in_turn({"ours": lambda: runner.logits(plan, prompt), "theirs": theirs}, repeat))
    base = f"{seconds['ours']:.2f} s to {seconds['theirs']:.2f} s, {repeat} rounds"
    return Metric(
        f"{name}: prefill of {LONG:,} tokens to Hugging Face's forward",
        seconds["ours"] / seconds["theirs"],
        " ×",
        at_most=1.5,
        base=base,
    )


def main() -> None:
    began = time.perf_counter()
    arguments = parser_of(__doc__, 5).parse_args()
    one_thread()
    metrics = []
    for name in MODELS:
        both, repeat = Both(name), max(1, round(arguments.repeat * ROUNDS[name]))
        vocabulary = both.theirs.config.vocab_size
        metrics += throughput(both, name, "ragged", ragged(RAGGED[name], vocabulary), 1.3, repeat)
        metrics += throughput(both, name, "equal lengths", equal(EQUAL[name], vocabulary), 0.9, repeat)
        metrics.append(prefill(both, name, vocabulary, repeat))
    report("The engine against Hugging Face, batch 4", metrics, arguments.json, began=began)


if __name__ == "__main__":
    main()
