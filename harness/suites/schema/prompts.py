"""The format of prompts."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from harness.suites.schema.base import Ids, Length, MisfitError, Model, Slug, Text, as_tuple
from harness.utils.files import read_ordinary

FOLDER = "folder"
"""Key of the folder of the suite in pydantic's validation context. Names of text files are relative to this folder."""

MAX_TEXT = 10_000_000
WAYS = ("random_tokens", "text", "text_file", "token_ids", "special_tokens", "parts")


class Prompt(Model):
    """A prompt. It is given by exactly one of these keys:

    - ``random_tokens: n``: n random tokens, none of them a special token. They are the same in every run: the seed of
      the random generator is the id of the case and the position of the request. If the key ``seed`` is also given,
      its value (a word) is the seed, so that several requests can have the same tokens.
    - ``text``: a string, which is encoded with the model's tokenizer.
    - ``text_file``: the path of a text file, relative to the suite's folder. Its content is encoded in the same way.
    - ``token_ids``: a list of token ids, which are used unchanged.
    - ``special_tokens: all``: every special token of the model once, in the order of the token ids.
    - ``parts``: a list of prompts. Their tokens are concatenated.

    With the key ``tokens: n``, which is not allowed for random tokens, the prompt has n tokens: the tokens are cut off
    after the first n, or repeated from the first token on until there are n.
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
            what = f"a prompt must have exactly one of the keys {', '.join(WAYS)}"
            raise MisfitError(what, hint="such as `{random_tokens: 20}`")
        if self.seed is not None and self.random_tokens is None:
            raise MisfitError("seed is only allowed with random_tokens", "seed", hint="remove it")
        if self.tokens is not None and self.random_tokens is not None:
            what = "tokens can't be combined with random_tokens, which already sets the number of tokens"
            raise MisfitError(what, "tokens", hint="remove it")
        if self.text_file is not None:
            self._content = _read((info.context or {}).get(FOLDER, Path()), self.text_file)
        return self

    @property
    def plain_text(self) -> str | None:
        """Return the text of a prompt with ``text`` or ``text_file``, None for other prompts."""
        return self._content if self.text_file is not None else self.text

    @property
    def length(self) -> int | None:
        """Return the number of tokens of the prompt, None if it depends on a tokenizer."""
        if self.tokens is not None or self.random_tokens is not None:
            return self.tokens or self.random_tokens
        if self.token_ids is not None:
            return len(self.token_ids)
        lengths = [part.length for part in self.parts or ()]
        known = [length for length in lengths if length is not None]
        return sum(known) if known and len(known) == len(lengths) else None

    def described(self) -> str:
        """Return a description of the prompt for reports, such as ``20 random tokens``."""
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
        raise MisfitError(what, "text_file", hint=f"the path is relative to {folder}") from error
    except UnicodeDecodeError as error:
        raise MisfitError(f"{name} is not UTF-8 text", "text_file", hint="save it as UTF-8") from error
    except ValueError as error:
        raise MisfitError(f"{name!r} is not a valid file name", "text_file", hint="such as `texts/a.txt`") from error
    if not content or len(content) > MAX_TEXT:
        what = "is empty" if not content else f"has more than {MAX_TEXT} bytes"
        raise MisfitError(f"{name} {what}", "text_file", hint="use a file with some text")
    return content
