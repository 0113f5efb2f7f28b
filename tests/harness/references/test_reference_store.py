"""Tests of reference outputs: they equal Hugging Face's ``generate``, are written to files, and are looked up."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from checkpoints import Checkpoint, CheckpointError, resolve
from harness.references import (
    Oracle,
    Reference,
    ReferenceFileError,
    ReferenceMissingError,
    ReferenceToken,
    Wanted,
    compute,
)
from harness.references.compute import continuations, scored
from harness.references.files import read_references, write_references
from harness.references.values import widened
from harness.suites.prompts import prompt_token_ids, vocabulary_of
from harness.suites.schema import Prompt

PROMPTS = [Prompt(text="Return the number of"), Prompt(random_tokens=1), Prompt(random_tokens=90)]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return resolve("tiny-granite")


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint) -> Any:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=torch.float32).eval()


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPYRE_CB_CACHE", str(tmp_path / "cache"))


def generated(model: Any, prompt: tuple[int, ...], count: int, **more: Any) -> tuple[tuple[int, ...], torch.Tensor]:
    """Return the tokens of a greedy ``generate``, and the logprobs of all tokens at each position (of raw logits)."""
    config = GenerationConfig(
        **{"max_new_tokens": count, "do_sample": False, "eos_token_id": None, "pad_token_id": 1} | more,
        output_logits=True,
        return_dict_in_generate=True,
    )
    model.generation_config = GenerationConfig()
    ids = torch.tensor([prompt])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    return tuple(out.sequences[0, len(prompt) :].tolist()), torch.cat(out.logits).log_softmax(-1)


def prompt_of(checkpoint: Checkpoint, prompt: Prompt) -> tuple[int, ...]:
    return prompt_token_ids(prompt, "the-oracle", 0, vocabulary_of(checkpoint))


def one(checkpoint: Checkpoint, *wanted: Any, **more: Any) -> Reference:
    return continuations(checkpoint, [Wanted(*wanted, **more)])[0]


# --- what it computes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", PROMPTS, ids=["text", "one token", "90 tokens"])
def test_it_equals_a_greedy_generate(checkpoint: Checkpoint, model: Any, prompt: Prompt) -> None:
    ids = prompt_of(checkpoint, prompt)
    right, logprobs = generated(model, ids, 20)
    found = one(checkpoint, ids, 20, top=7)
    assert found.token_ids == right
    for token, row in zip(found.tokens, logprobs, strict=True):
        best = row.topk(7)
        assert token.logprob == pytest.approx(row[token.token_id].item(), abs=1e-4)
        assert [i for i, _ in token.top] == best.indices.tolist()
        assert [p for _, p in token.top] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert token.margin == pytest.approx((best.values[0] - best.values[1]).item(), abs=1e-4)


def test_several_at_once_equal_each_alone(checkpoint: Checkpoint) -> None:
    """Reference outputs of several prompts in one padded batch must equal the outputs of each prompt alone.

    The prompts and outputs have different lengths, and one request has a token that is forbidden at first.
    """
    lengths = [1, 64, 9, 130, 9, 300, 65, 2]
    prompts = [prompt_of(checkpoint, Prompt(random_tokens=n)) for n in lengths]
    first = one(checkpoint, prompts[2], 1).token_ids
    wanted = [Wanted(prompt, 3 + 4 * i) for i, prompt in enumerate(prompts)]
    wanted[2] = replace(wanted[2], forbidden=first, forbidden_until=2, top=9)
    done: list[int] = []
    together = continuations(checkpoint, wanted, done.append)
    assert sum(done) == len(wanted)
    for each, found in zip(wanted, together, strict=True):
        [alone] = continuations(checkpoint, [each])
        assert found.token_ids == alone.token_ids
        assert len(found.tokens) == each.max_tokens
        for ours, theirs in zip(found.tokens, alone.tokens, strict=True):
            assert len(ours.top) == each.top
            assert [p for _, p in ours.top] == pytest.approx([p for _, p in theirs.top], abs=1e-4)


def test_batches_stay_within_their_bounds_and_are_complete(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [Wanted((7,) * n, 1) for n in [500, 1, 3, 400, 2] * 9]
    seen: list[int] = []

    def cells(checkpoint: Checkpoint, batch: list[Wanted]) -> list[Reference]:
        seen.append(len(batch))
        longest = max(len(each.prompt_token_ids) for each in batch)
        assert len(batch) <= compute.MAX_ROWS
        assert len(batch) == 1 or longest * len(batch) <= compute.MAX_CELLS
        return [Reference(()) for _ in batch]

    monkeypatch.setattr(compute, "_greedy", cells)
    monkeypatch.setattr(compute, "MAX_CELLS", 2000)
    assert len(continuations(checkpoint, wanted)) == sum(seen) == 45


def test_it_goes_on_past_the_end_of_the_text(checkpoint: Checkpoint) -> None:
    eos = next(iter(vocabulary_of(checkpoint).eos_token_ids))
    found = one(checkpoint, prompt_of(checkpoint, PROMPTS[0]), 120).token_ids
    assert len(found) == 120
    assert eos in found[:-1]


def test_logprobs_are_of_the_raw_logits_where_a_token_is_forbidden(checkpoint: Checkpoint) -> None:
    free = one(checkpoint, (50, 60, 70), 1)
    second = one(checkpoint, (50, 60, 70), 1, free.token_ids, 1)
    assert second.token_ids != free.token_ids
    assert second.tokens[0].logprob == pytest.approx(free.tokens[0].logprob - free.tokens[0].margin, abs=1e-5)


def test_forbidden_tokens_may_come_as_soon_as_min_tokens_are_there(checkpoint: Checkpoint) -> None:
    stop = one(checkpoint, (50, 60, 70), 6).token_ids[0]
    found = one(checkpoint, (50, 60, 70), 6, (stop,), 2)
    assert stop not in found.token_ids[:2]
    # From there on no token is masked: the same as continuing from those two tokens.
    assert one(checkpoint, (50, 60, 70, *found.token_ids[:2]), 4).token_ids == found.token_ids[2:]


@pytest.mark.parametrize("forbidden", [(), (999_999,), (2048,)], ids=["none", "far beyond", "just beyond"])
def test_forbidding_what_the_vocabulary_does_not_have_changes_nothing(
    checkpoint: Checkpoint, forbidden: tuple[int, ...]
) -> None:
    assert one(checkpoint, (50, 60, 70), 4, forbidden, 2) == one(checkpoint, (50, 60, 70), 4)


def test_given_tokens_are_scored_by_the_tokens_before_them(checkpoint: Checkpoint) -> None:
    own = one(checkpoint, (50, 60, 70), 5)
    same = scored(checkpoint, (50, 60, 70), own.token_ids, 5)
    assert [t.token_id for t in same.tokens] == list(own.token_ids)
    assert [t.logprob for t in same.tokens] == pytest.approx([t.logprob for t in own.tokens], abs=1e-4)
    other = scored(checkpoint, (50, 60, 70), (own.token_ids[0], 99, 98), 5)
    assert other.token_ids == (own.token_ids[0], 99, 98)
    after = one(checkpoint, (50, 60, 70, own.token_ids[0], 99), 1)
    assert other.tokens[2].top[0][0] == after.token_ids[0]


def test_a_model_whose_logits_are_no_numbers_has_no_reference(checkpoint: Checkpoint, tmp_path: Path) -> None:
    broken = changed(checkpoint, tmp_path, logits_scaling=0)
    calls: list[Callable[[], object]] = [
        lambda: one(broken, (5, 6), 2),
        lambda: scored(broken, (5,), (6, 7), 5),
        lambda: compute.raw_logits(broken, (5,), [(6, 7)]),
    ]
    for call in calls:
        with pytest.raises(CheckpointError, match="logits that are infinite or not a number") as caught:
            call()
        assert str(caught.value).startswith(f"{broken.path}: this model has no reference outputs")


def test_a_model_that_transformers_refuses_is_one_sentence(checkpoint: Checkpoint, tmp_path: Path) -> None:
    broken = changed(checkpoint, tmp_path, hidden_size="256")
    with pytest.raises(CheckpointError) as caught:
        one(broken, (5, 6), 2)
    assert str(caught.value).startswith(f"{broken.path}: transformers cannot load this model: Strict")


def changed(checkpoint: Checkpoint, folder: Path, **changes: object) -> Checkpoint:
    """Return a copy of a checkpoint in ``folder`` with changes to its config.json, which are not validated."""
    copy = Path(shutil.copytree(checkpoint.path, folder / "copy"))
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    (copy / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")
    return replace(checkpoint, path=copy, digest=str(changes))


# --- on disk ---------------------------------------------------------------------------------------------------

TOKEN = ReferenceToken(7, -0.123456789, ((7, -0.123456789), (8, -3.5)))
FORBIDDEN = ReferenceToken(9, -2.5, ((7, -0.5), (9, -2.5)))
WANTED = Wanted((1, 2, 3), 2, top=2)


@pytest.fixture
def file(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "references" / "case.json"
    write_references(path, checkpoint, [(WANTED, Reference((TOKEN, FORBIDDEN)))], ["the text\n“x”"], "a test")
    return path


def test_a_file_gives_back_what_was_written_to_six_digits(checkpoint: Checkpoint, file: Path) -> None:
    held = read_references(file)
    assert held is not None
    assert held.model_digest == checkpoint.digest
    [found] = held.by_key.values()
    rounded = TOKEN._replace(logprob=-0.123457, top=((7, -0.123457), (8, -3.5)))
    assert found == Reference((rounded, FORBIDDEN))
    assert found.tokens[1].top == FORBIDDEN.top


def test_a_file_has_a_line_a_token_and_ends_with_a_line_break(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert "   [7,-0.123457,8,-3.5]," in lines
    assert file.read_text(encoding="utf-8").endswith("}\n")
    assert json.loads(file.read_text(encoding="utf-8"))["sequences"][0]["text"] == "the text\n“x”"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("-3.5", "-3.4"), "its digest is wrong"),
        (lambda text: text.replace('"reference": 1', '"reference": 2'), "its digest is wrong"),
        (lambda text: text[:300], "is not a file of reference outputs"),
        (lambda text: "[]", "is not a file of reference outputs"),
        (lambda text: text.replace("[7,", "[[7],"), "is not a file of reference outputs"),
        (lambda text: "", "is not a file of reference outputs"),
    ],
)
def test_a_file_that_was_edited_or_cut_off_is_one_sentence(
    file: Path, change: Callable[[str], str], message: str
) -> None:
    file.write_text(change(file.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ReferenceFileError) as caught:
        read_references(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_is_no_error(tmp_path: Path) -> None:
    assert read_references(tmp_path / "none.json") is None


def test_requests_with_the_same_prompt_share_the_longest_and_widest() -> None:
    short, wide, other = Wanted((1,), 3), Wanted((1,), 2, top=9), Wanted((2,), 4)
    assert widened([short, wide, other]) == (replace(short, top=9), replace(wide, max_tokens=3), other)


# --- where it is looked for ------------------------------------------------------------------------------------


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each call of ``continuations`` adds the number of reference outputs that it computes."""
    counts: list[int] = []
    real = compute.continuations

    def counted(checkpoint: Checkpoint, wanted: list[Wanted], progress: Any = None) -> list[Reference]:
        counts.append(len(wanted))
        return real(checkpoint, wanted, progress)

    monkeypatch.setattr(compute, "continuations", counted)
    return counts


REQUESTS = [Wanted((50, 60, 70), 4), Wanted((50, 60, 71), 3)]


def test_what_was_computed_once_is_kept_in_the_process_and_on_this_machine(
    checkpoint: Checkpoint, computed: list[int]
) -> None:
    oracle = Oracle()
    first = oracle.references(checkpoint, REQUESTS)
    assert oracle.references(checkpoint, REQUESTS) == first
    again = Oracle().references(checkpoint, REQUESTS)
    assert [r.token_ids for r in again] == [r.token_ids for r in first]
    assert computed == [2]


def test_fewer_tokens_are_a_prefix_and_more_are_computed(checkpoint: Checkpoint, computed: list[int]) -> None:
    oracle = Oracle()
    [long] = oracle.references(checkpoint, [replace(REQUESTS[0], max_tokens=6)])
    [short] = oracle.references(checkpoint, [REQUESTS[0]])
    assert short.token_ids == long.token_ids[:4]
    oracle.references(checkpoint, [replace(REQUESTS[0], max_tokens=7)])
    oracle.references(checkpoint, [replace(REQUESTS[0], top=12)])
    assert computed == [1, 1, 1]


def test_a_file_next_to_the_suite_precedes_anything_computed(
    checkpoint: Checkpoint, file: Path, computed: list[int]
) -> None:
    [found] = Oracle(may_compute=False).references(checkpoint, [WANTED], file)
    assert found.token_ids == (7, 9)
    assert computed == []


@pytest.mark.parametrize("where", [None, "missing", "of another model", "too short"])
def test_in_ci_what_is_not_on_file_is_an_error(
    checkpoint: Checkpoint, file: Path, computed: list[int], where: str | None
) -> None:
    place: Path | None = file
    requested, asker = WANTED, checkpoint
    if where in (None, "missing"):
        place = None if where is None else file.with_name("none.json")
    elif where == "of another model":
        asker = replace(checkpoint, digest="0" * 64)
    else:
        requested = replace(WANTED, max_tokens=3)
    with pytest.raises(ReferenceMissingError) as caught:
        Oracle(may_compute=False).references(asker, [requested], place)
    assert "no reference output of tiny-granite for request 0" in str(caught.value)
    assert computed == []


def test_a_damaged_file_is_an_error_in_ci_and_computed_around_elsewhere(checkpoint: Checkpoint, file: Path) -> None:
    file.write_text("{", encoding="utf-8")
    with pytest.raises(ReferenceFileError):
        Oracle(may_compute=False).references(checkpoint, REQUESTS, file)
    oracle = Oracle()
    assert len(oracle.references(checkpoint, REQUESTS, file)) == 2
    [damaged] = oracle.damaged
    assert damaged.startswith(f"{file}: this is not a file of reference outputs: ")


def test_a_file_holds_just_what_is_wanted_or_is_written_again(checkpoint: Checkpoint, file: Path) -> None:
    oracle = Oracle()
    assert oracle.holds(file, checkpoint, [WANTED])
    assert not oracle.holds(file, checkpoint, [replace(WANTED, max_tokens=3)])
    assert not oracle.holds(file, checkpoint, [WANTED, REQUESTS[0]])
    assert not oracle.holds(file, checkpoint, [])
    assert not oracle.holds(file, replace(checkpoint, digest="0" * 64), [WANTED])


def test_without_a_writable_cache_it_is_computed_again(
    checkpoint: Checkpoint, computed: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPYRE_CB_CACHE", str(tmp_path / "file" / "below"))
    assert Oracle().references(checkpoint, REQUESTS) == Oracle().references(checkpoint, REQUESTS)
    assert computed == [2, 2]
