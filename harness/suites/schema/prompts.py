"""What a prompt can be."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from harness.suites.schema.base import Ids, Length, MisfitError, Model, Slug, Text, as_tuple
from harness.suites.yaml import read_ordinary

FOLDER = "folder"
"""In the context of validation: the folder that names of text files start from."""

MAX_TEXT = 10_000_000
WAYS = ("random_tokens", "text", "text_file", "token_ids", "special_tokens", "parts")


class Prompt(Model):
    """Exactly one way of saying what the prompt is, and perhaps how long it is to be.

    ``random_tokens: n`` is n tokens that depend on the case's id and the request's position only, never on special
    tokens; with ``seed``, on that word only, so that requests can share them. ``text`` goes through the model's
    tokenizer, ``text_file`` is a file of it, named from where the suite is. ``token_ids`` are taken as they are.
    ``special_tokens: all`` is every special token of the model, once, by id. ``parts`` are prompts one after the
    other. With ``tokens: n`` what any of these gives is repeated from its start, or cut, to n tokens.
    """

    random_tokens: Length | None = None
    seed: Slug | None = None
    text: Text | None = None
    text_file: Text | None = None
    token_ids: Annotated[Ids, Field(min_length=1)] | None = None
    special_tokens: Literal["all"] | None = None
    parts: Annotated[tuple["Prompt", ...], BeforeValidator(as_tuple), Field(min_length=1)] | None = None
    tokens: Length | None = None

    _content: str = PrivateAttr("")

    @model_validator(mode="after")
    def _exactly_one(self, info: ValidationInfo) -> "Prompt":
        given = [name for name in WAYS if name in self.model_fields_set]
        if len(given) != 1 or getattr(self, given[0]) is None:
            what = f"a prompt says exactly one of {', '.join(WAYS)}"
            raise MisfitError(what, hint="such as `{random_tokens: 20}`")
        if self.seed is not None and self.random_tokens is None:
            raise MisfitError("seed belongs to random_tokens", "seed", hint="leave it out")
        if self.tokens is not None and self.random_tokens is not None:
            what = "random_tokens says already how many: tokens belongs to the other ways"
            raise MisfitError(what, "tokens", hint="leave it out")
        if self.text_file is not None:
            self._content = _read((info.context or {}).get(FOLDER, Path()), self.text_file)
        return self

    @property
    def words(self) -> str | None:
        """The text of ``text`` or ``text_file``; None where the prompt is neither."""
        return self._content if self.text_file is not None else self.text

    @property
    def length(self) -> int | None:
        """How many tokens it has, None where only a tokenizer can tell."""
        if self.tokens is not None or self.random_tokens is not None:
            return self.tokens or self.random_tokens
        if self.token_ids is not None:
            return len(self.token_ids)
        lengths = [part.length for part in self.parts or ()]
        known = [length for length in lengths if length is not None]
        return sum(known) if known and len(known) == len(lengths) else None

    def described(self) -> str:
        """In words, from the data."""
        if self.random_tokens is not None:
            shared = f" of {self.seed!r}" if self.seed else ""
            return f"{self.random_tokens} random tokens{shared}"
        return f"{self._source()}, as {self.tokens} tokens" if self.tokens else self._source()

    def _source(self) -> str:
        if self.token_ids is not None:
            return f"{len(self.token_ids)} given tokens"
        if self.text_file is not None:
            return f"text of {self.text_file}"
        if self.parts is not None:
            return " then ".join(part.described() for part in self.parts)
        return "every special token" if self.special_tokens else f"text {self.text!r}"


def _read(folder: Path, name: str) -> str:
    try:
        content = read_ordinary(folder / name, MAX_TEXT + 1).decode("utf-8")
    except OSError as error:
        what = f"{name} cannot be read: {error.strerror or error}"
        raise MisfitError(what, "text_file", hint=f"it is looked for in {folder}") from error
    except UnicodeDecodeError as error:
        raise MisfitError(f"{name} is not UTF-8 text", "text_file", hint="save it as UTF-8") from error
    except ValueError as error:
        raise MisfitError(f"{name!r} is no name of a file", "text_file", hint="such as `texts/a.txt`") from error
    if not content or len(content) > MAX_TEXT:
        what = "is empty" if not content else f"has more than {MAX_TEXT} bytes"
        raise MisfitError(f"{name} {what}", "text_file", hint="name a file that holds some text")
    return content
