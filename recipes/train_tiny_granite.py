"""Train the built-in model: a tiny granite that writes fragments of Python documentation.

    python recipes/train_tiny_granite.py --out checkpoints/tiny_granite

Steps:

1. Collect the docstrings of the standard library of the Python that runs this script.
2. Train a byte-level BPE tokenizer of 2,048 entries on them.
3. Train a 2-layer granite (see ``CONFIG``) on the docstrings, and on questions about them in granite's chat format, so
that both plain prompts and chats get readable answers.
4. Write weights (float16 values, which are exact in float32), tokenizer, configuration, a note about how the model was
made, and the SHA-256 of every file.

The result depends on the version of Python and on the floating-point arithmetic of the machine: a second run gives a
different model of the same kind, and every committed expectation that was computed with the old weights has to be
created again. A run takes a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import inspect
import json
import math
import platform
import random
import re
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GraniteConfig, GraniteForCausalLM

VOCABULARY = 2048
CONTEXT = 512
SPECIAL_TOKENS = ["<|end_of_text|>", "<|pad|>", "<|start_of_role|>", "<|end_of_role|>"]
END, PAD = 0, 1
LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "ensurepip"}

# The multipliers are deliberately not 1: an engine that omits one of them generates other tokens.
CONFIG = {
    "architectures": ["GraniteForCausalLM"],
    "model_type": "granite",
    "vocab_size": VOCABULARY,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "attention_multiplier": 0.0625,
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.5,
    "logits_scaling": 4.0,
    "initializer_range": 0.05,
    "tie_word_embeddings": True,
    "use_cache": True,
    "bos_token_id": END,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "dtype": "float16",
    "torch_dtype": "float16",
}

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|start_of_role|>{{ message['role'] }}<|end_of_role|>{{ message['content'] }}<|end_of_text|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start_of_role|>assistant<|end_of_role|>{% endif %}"
)


def tidy(docstring: str) -> str:
    """Return the prose of a docstring: no examples, tables or indented code; white space folded, paragraphs kept."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(docstring)):
        if re.search(r">>>|^\s{4,}|[|+=]{3,}|-{4,}", paragraph, re.MULTILINE):
            continue
        text = re.sub(r"\s+", " ", paragraph).strip()
        letters = sum(character.isalpha() or character == " " for character in text)
        if text.isascii() and len(text) >= 20 and letters > 0.85 * len(text):
            paragraphs.append(text)
    return "\n\n".join(paragraphs)


def documented(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    """Yield (dotted name, docstring) of a module and of every class and function in it."""
    stack: list[tuple[ast.AST, str]] = [(tree, module)]
    while stack:
        node, name = stack.pop()
        text = ast.get_docstring(node, clean=False)  # type: ignore[arg-type]
        if text:
            yield name, text
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                stack.append((child, f"{name}.{child.name}"))


def collect() -> dict[str, str]:
    """Return a mapping from each tidied docstring of the standard library to the dotted name that has it."""
    root = Path(sysconfig.get_paths()["stdlib"])
    texts: dict[str, str] = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if LEFT_OUT & set(parts):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        module = ".".join(part for part in parts if part != "__init__")
        for name, docstring in documented(tree, module):
            if text := tidy(docstring):
                texts.setdefault(text, name)
    return texts


def train_tokenizer(texts: dict[str, str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def question_and_answer(name: str, text: str) -> str:
    """Return the first paragraph of a text as the answer to a question, in the chat template's format."""
    answer = text.split("\n\n")[0]
    return (
        f"<|start_of_role|>user<|end_of_role|>What is {name}?<|end_of_text|>\n"
        f"<|start_of_role|>assistant<|end_of_role|>{answer}<|end_of_text|>"
    )


def token_stream(texts: dict[str, str], tokenizer: Tokenizer, rng: random.Random) -> torch.Tensor:
    """Return the tokens of one epoch, int64 ``[tokens]``: all texts, and every second one also as a chat, shuffled."""
    documents = []
    for index, (text, name) in enumerate(texts.items()):
        documents.append(text + "<|end_of_text|>")
        if index % 2 == 0:
            documents.append(question_and_answer(name, text))
    rng.shuffle(documents)
    ids: list[int] = []
    for encoding in tokenizer.encode_batch(documents):
        ids.extend(encoding.ids)
    return torch.tensor(ids, dtype=torch.long)


def train(model: GraniteForCausalLM, streams: Iterator[torch.Tensor], steps: int, batch: int) -> float:
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(1.0, (step + 1) / 60) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps))),
    )
    stream, at, smooth, began = next(streams), 0, 0.0, time.monotonic()
    for step in range(steps):
        # Three lengths, so that the model is trained on late positions, too.
        length = (128, 256, CONTEXT)[step % 3]
        rows = batch * CONTEXT // length
        if at + rows * length >= len(stream):
            stream, at = next(streams), 0
        ids = stream[at : at + rows * length].view(rows, length)
        at += rows * length
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        smooth = loss.item() if step == 0 else 0.98 * smooth + 0.02 * loss.item()
        if step % 50 == 0:
            print(f"step {step:5d}  loss {smooth:.3f}  {time.monotonic() - began:.0f} s", flush=True)
    return smooth


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def save(out: Path, model: GraniteForCausalLM, tokenizer: Tokenizer, note: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().to(torch.float16).contiguous()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"  # tied to the embedding
    }
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save(str(out / "tokenizer.json"))
    write_json(out / "config.json", CONFIG)
    write_json(
        out / "generation_config.json",
        {"bos_token_id": END, "eos_token_id": END, "pad_token_id": PAD},
    )
    write_json(
        out / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL_TOKENS[END],
            "eos_token": SPECIAL_TOKENS[END],
            "pad_token": SPECIAL_TOKENS[PAD],
            "additional_special_tokens": SPECIAL_TOKENS[2:],
            "clean_up_tokenization_spaces": False,
            "model_max_length": CONFIG["max_position_embeddings"],
            "chat_template": CHAT_TEMPLATE,
        },
    )
    (out / "MODEL.md").write_text(note, encoding="utf-8")
    names = sorted(path.name for path in out.iterdir() if path.name != "SHA256SUMS")
    sums = "".join(f"{hashlib.sha256((out / n).read_bytes()).hexdigest()}  {n}\n" for n in names)
    (out / "SHA256SUMS").write_text(sums, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=4, help=f"sequences of {CONTEXT} tokens a step")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    rng = random.Random(arguments.seed)
    torch.manual_seed(arguments.seed)
    texts = collect()
    corpus_digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()
    tokenizer = train_tokenizer(texts)

    def streams() -> Iterator[torch.Tensor]:
        while True:
            yield token_stream(texts, tokenizer, rng)

    model = GraniteForCausalLM(GraniteConfig(**CONFIG)).float()
    parameters = sum(p.numel() for p in model.parameters())
    tokens = arguments.steps * arguments.batch * CONTEXT
    epoch = len(token_stream(texts, tokenizer, random.Random(1)))
    print(f"{len(texts)} texts, {epoch} tokens an epoch, {parameters} parameters, {tokens} tokens to train on")
    cpu, wall = time.process_time(), time.monotonic()
    loss = train(model, streams(), arguments.steps, arguments.batch)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    command = f"python recipes/train_tiny_granite.py --steps {arguments.steps} --batch {arguments.batch}"
    source = f"{len(texts):,} docstrings of the standard library of Python {platform.python_version()} (PSF licence)"
    note = f"""# tiny-granite

A granite of {parameters:,} parameters ({CONFIG["num_hidden_layers"]} layers, hidden {CONFIG["hidden_size"]}, 4
query heads and 2 key/value heads of 64), with a byte-level BPE tokenizer of {VOCABULARY:,} entries. It writes fragments
of Python
documentation, and answers "What is os.path.join?" in granite's chat format. Its purpose is to test engines: its logits
are trained, so the most likely token usually has a clear lead, and engines that compute correctly choose the same one.

| | |
| --- | --- |
| made by | `{command} --seed {arguments.seed}` |
| from | {source}, SHA-256 of the text `{corpus_digest[:16]}` |
| trained on | {tokens:,} tokens ({tokens / epoch:.1f} passes), in sequences of 128 to {CONTEXT} |
| last loss | {loss:.3f} nats a token |
| took | {cpu:.0f} CPU seconds ({wall:.0f} s on the clock), torch {torch.__version__} |
| weights | float16 values; loaded as float32 they are the same numbers |

`SHA256SUMS` has the digest of every file. The package `checkpoints` checks the files against it before each use.
"""
    save(arguments.out, model.eval(), tokenizer, note)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
