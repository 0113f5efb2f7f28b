"""Tests of the conversion of the prompts of cases to token ids."""

import os
import random
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from checkpoints import Checkpoint, CheckpointError, resolve
from harness.suites.prompts import Vocabulary, nameless_spec, prompt_token_ids, request_spec, vocabulary_of
from harness.suites.schema import FOLDER, Prompt, Request
from harness.types import RequestSpec, Structure
from tests.helpers.harness import a_request
from tests.helpers.paths import ROOT

LETTERS = Vocabulary(
    encode=lambda text: tuple(map(ord, text)),
    decode=lambda ids: "".join(map(chr, ids)),
    visible=lambda ids: "".join(map(chr, ids)),
    ordinary=tuple(range(97, 123)),
    size=128,
    eos_token_ids=frozenset({0}),
)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return resolve("tiny-granite")


@pytest.fixture(scope="module")
def vocabulary(checkpoint: Checkpoint) -> Vocabulary:
    return vocabulary_of(checkpoint)


def tokens(case_id: str, position: int, length: int = 40) -> tuple[int, ...]:
    return prompt_token_ids(Prompt(random_tokens=length), case_id, position, LETTERS)


# --- random prompts --------------------------------------------------------------------------------------------


def test_a_random_prompt_is_the_same_whenever_and_wherever_it_is_made() -> None:
    random.seed(1)
    first = tokens("a-case", 0)
    random.seed(2)
    assert tokens("a-case", 0) == first
    # Must never change: golden tables of cases that end early depend on it.
    assert LETTERS.decode(first[:20]) == "hzpzqlmtvgjlflnfmdar"


def test_a_random_prompt_is_the_same_in_another_process() -> None:
    code = "from tests.harness.suites.test_prompts import tokens, LETTERS; print(LETTERS.decode(tokens('a-case', 3)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONHASHSEED": "7"}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == LETTERS.decode(tokens("a-case", 3))


def test_a_random_prompt_depends_on_the_case_and_on_the_position() -> None:
    prompts = {tokens(case, position) for case in ("a-case", "b-case", "a-case1") for position in range(12)}
    assert len(prompts) == 36


def test_the_length_of_a_random_prompt_changes_nothing_else() -> None:
    assert len(tokens("a-case", 0, 1)) == 1
    assert len(tokens("a-case", 0, 500)) == 500
    assert tokens("a-case", 0, 500)[:40] == tokens("a-case", 0, 40)


def test_a_random_prompt_has_ordinary_tokens_only_and_may_have_any_of_them() -> None:
    assert set(tokens("a-case", 0, 2000)) == set(LETTERS.ordinary)


def test_a_random_prompt_for_the_built_in_model_never_has_a_special_token(
    checkpoint: Checkpoint, vocabulary: Vocabulary
) -> None:
    from transformers import AutoTokenizer

    special = set(AutoTokenizer.from_pretrained(checkpoint.path).all_special_ids)
    assert len(special) >= 2
    drawn = prompt_token_ids(Prompt(random_tokens=100_000), "a-case", 0, vocabulary)
    assert not special & set(drawn)
    assert len(set(drawn)) == len(vocabulary.ordinary)


# --- prompts that are given ------------------------------------------------------------------------------------


def test_given_tokens_are_taken_as_they_are() -> None:
    prompt = Prompt(token_ids=(3, 0, 0, 99))
    assert prompt_token_ids(prompt, "a-case", 0, LETTERS) == (3, 0, 0, 99)
    assert prompt_token_ids(prompt, "b-case", 5, LETTERS) == (3, 0, 0, 99)


def test_a_text_goes_through_the_tokenizer(vocabulary: Vocabulary) -> None:
    ids = prompt_token_ids(Prompt(text="Return the number of"), "a-case", 0, vocabulary)
    assert vocabulary.decode(ids) == "Return the number of"
    assert 1 < len(ids) < len("Return the number of")
    assert prompt_token_ids(Prompt(text="Return the number of"), "b-case", 1, vocabulary) == ids


def test_a_seed_makes_random_tokens_the_same_everywhere() -> None:
    shared = Prompt(random_tokens=9, seed="shared")
    assert prompt_token_ids(shared, "a-case", 0, LETTERS) == prompt_token_ids(shared, "b-case", 3, LETTERS)
    assert prompt_token_ids(shared, "a-case", 0, LETTERS) != tokens("a-case", 0, 9)


def test_tokens_repeats_what_is_given_or_cuts_it() -> None:
    def given(**prompt: Any) -> tuple[int, ...]:
        return prompt_token_ids(Prompt.model_validate(prompt), "a-case", 0, LETTERS)

    assert given(token_ids=[3, 4, 5], tokens=7) == (3, 4, 5, 3, 4, 5, 3)
    assert given(token_ids=[3, 4, 5], tokens=2) == (3, 4)
    assert given(text="ab", tokens=5) == (*LETTERS.encode("ababa"),)


def test_parts_come_one_after_the_other_and_their_random_tokens_differ() -> None:
    prompt = Prompt.model_validate({"parts": [{"random_tokens": 9}, {"token_ids": [1]}, {"random_tokens": 9}]})
    ids = prompt_token_ids(prompt, "a-case", 0, LETTERS)
    assert prompt.length == len(ids) == 19
    assert ids[9] == 1
    assert ids[:9] != ids[10:]


def test_every_special_token_comes_once_by_id(checkpoint: Checkpoint, vocabulary: Vocabulary) -> None:
    ids = prompt_token_ids(Prompt(special_tokens="all"), "a-case", 0, vocabulary)
    assert list(ids) == sorted(set(ids))
    assert not set(ids) & set(vocabulary.ordinary)
    assert len(ids) + len(vocabulary.ordinary) == vocabulary.size


def test_a_text_file_is_found_from_where_the_suite_is(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("ab", encoding="utf-8")
    prompt = Prompt.model_validate({"text_file": "words.txt"}, context={FOLDER: tmp_path})
    assert prompt_token_ids(prompt, "a-case", 0, LETTERS) == LETTERS.encode("ab")
    assert prompt.length is None
    assert prompt.described() == "text of words.txt"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("pipe", "pipe cannot be read: not a regular file"),
        ("../../../../../../../../dev/zero", "dev/zero cannot be read: not a regular file"),
        ("nowhere.txt", "nowhere.txt cannot be read: No such file or directory"),
        ("a\0b", "is not a valid file name"),
        ("latin.txt", "latin.txt is not UTF-8 text"),
        ("empty.txt", "empty.txt is empty"),
    ],
)
def test_a_missing_text_file_is_reported(tmp_path: Path, name: str, says: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "latin.txt").write_bytes(b"\xe4")
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(ValidationError, match=says):
        Prompt.model_validate({"text_file": name}, context={FOLDER: tmp_path})


def test_a_prompt_of_no_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="request 2: the prompt has no tokens"):
        prompt_token_ids(Prompt(special_tokens="all"), "a-case", 2, LETTERS)


# --- vocabularies ----------------------------------------------------------------------------------------------


def test_a_vocabulary_decodes_with_and_without_special_tokens(vocabulary: Vocabulary) -> None:
    eos = next(iter(vocabulary.eos_token_ids))
    ids = (*vocabulary.encode("the end"), eos)
    assert vocabulary.visible(ids) == "the end"
    assert vocabulary.decode(ids) == "the end<|end_of_text|>"


def test_ordinary_tokens_and_ends_of_text_have_nothing_in_common(vocabulary: Vocabulary) -> None:
    assert vocabulary.eos_token_ids == {0}
    assert not vocabulary.eos_token_ids & set(vocabulary.ordinary)


def test_without_a_generation_configuration_the_models_own_end_of_text_counts(
    checkpoint: Checkpoint, vocabulary: Vocabulary, tmp_path: Path
) -> None:
    shutil.copytree(checkpoint.path, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").unlink()
    assert vocabulary_of(replace(checkpoint, path=tmp_path / "model")).eos_token_ids == vocabulary.eos_token_ids


def test_a_generation_configuration_may_name_several_ends_of_text(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(checkpoint.path, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text('{"eos_token_id": [0, 2]}', encoding="utf-8")
    assert vocabulary_of(replace(checkpoint, path=tmp_path / "model")).eos_token_ids == {0, 2}


def test_a_tokenizer_that_cannot_be_read(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(checkpoint.path, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: the tokenizer cannot be read"):
        vocabulary_of(replace(checkpoint, path=tmp_path / "model"))


# --- requests as drivers take them -----------------------------------------------------------------------------


def test_a_request_keeps_everything_a_suite_says_of_it() -> None:
    message: dict[str, Any] = {
        "max_tokens": 9,
        "ignore_eos": False,
        "temperature": 0.5,
        "top_k": 3,
        "top_p": 0.25,
        "min_p": 0.125,
        "seed": 11,
        "min_tokens": 2,
        "stop": ("x", "yz"),
        "stop_token_ids": (4, 5),
        "include_stop_str_in_output": True,
        "skip_special_tokens": False,
        "logprobs": 4,
        "prompt_logprobs": 3,
        "truncate_prompt_tokens": 2,
        "unchecked": {"top_p": 2.0},
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "repetition_penalty": 1.5,
        "allowed_token_ids": (8, 9),
        "bad_words": ("a", "b"),
    }
    others: dict[str, Any] = {"logit_bias": {"7": 1.5}, "structured_outputs": {"choice": ["a", "b"]}}
    written = {"prompt": {"token_ids": [7, 8]}, "join_step": 3, **others, **message}
    spec = request_spec(Request.model_validate(written), "a-case", 6, LETTERS)
    others = {"logit_bias": ((7, 1.5),), "structured_outputs": Structure("choice", '["a", "b"]')}
    assert spec == RequestSpec(request_id=6, prompt_token_ids=(7, 8), **others, **message)
    assert {field.name for field in fields(RequestSpec)} - {"simulated_token_ids", "golden_token_ids"} == {
        "request_id",
        "prompt_token_ids",
        *others,
        *message,
    }


def test_what_a_suite_does_not_say_is_the_drivers_default() -> None:
    spec = request_spec(Request(prompt=Prompt(token_ids=(7,)), max_tokens=5), "a-case", 0, LETTERS)
    assert spec == RequestSpec(0, (7,), 5)


def test_a_nameless_request_has_the_length_of_the_prompt_and_no_meaning() -> None:
    assert nameless_spec(a_request(5, 9), 2) == RequestSpec(2, (0, 0, 0, 0, 0), 9)
    given = Request(prompt=Prompt(token_ids=(7, 8, 9)), max_tokens=4)
    assert nameless_spec(given, 0) == RequestSpec(0, (0, 0, 0), 4)


def test_a_text_cannot_be_nameless() -> None:
    with pytest.raises(ValueError, match="use random_tokens or token_ids"):
        nameless_spec(Request(prompt=Prompt(text="Return"), max_tokens=4), 0)


def test_a_token_that_the_model_does_not_have_is_one_sentence() -> None:
    with pytest.raises(ValueError, match="request 3: token id 128 is not in the model's vocabulary of 128 tokens"):
        prompt_token_ids(Prompt(token_ids=(1, 128)), "case", 3, LETTERS)


def test_a_nameless_request_keeps_its_ends_and_simulated_tokens() -> None:
    request = Request(prompt=Prompt(text="abc"), max_tokens=9, ignore_eos=False, stop=("x",), simulated_tokens=(97, 98))
    spec = nameless_spec(request, 2, LETTERS)
    assert len(spec.prompt_token_ids) == 3
    assert (spec.ignore_eos, spec.stop, spec.simulated_token_ids) == (False, ("x",), (97, 98))
    assert request.can_be_simulated
    assert not Request(prompt=Prompt(text="abc"), max_tokens=9, ignore_eos=False).can_be_simulated
