"""The schema of ``known-failures.yaml``, and a function to load the file."""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from pydantic import AfterValidator, BeforeValidator, ValidationError

from harness.suites.loader import SuiteError
from harness.suites.schema import Scheduler
from harness.suites.schema.base import RENAMED_KEYS, Model, Number, Size, Text, as_tuple, one_or_many
from harness.suites.yaml import Problem, Source, YamlError, YamlPath, read_yaml, shown_file, shown_path
from harness.utils.validation import must_be

FILE_NAME = "known-failures.yaml"
PLACEHOLDER = "TODO a link to the issue, and what is wrong in a sentence"
"""The reason in entries that ``spyre-cb known-failures`` generates. It is not valid and must be replaced."""


def _a_reason(text: str) -> str:
    if re.search(r"\b(TODO|FIXME|XXX)\b", text, re.IGNORECASE):
        raise ValueError("the reason is a placeholder: give the link to an issue, and say what is wrong")
    if not (link := re.search(r"https?://\S+", text)):
        raise ValueError("the reason has no link: give the link to an issue (https://…) and say what is wrong")
    if len(re.findall(r"\w{2,}", text.replace(link[0], " "))) < 2:
        raise ValueError("the reason is only a link: add a sentence about what is wrong")
    return text


def _versions(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        raise ValueError(f'{text!r} is not a range of versions, such as `">=0.27,<0.30"`') from None
    return text


Texts = Annotated[tuple[Text, ...] | None, BeforeValidator(one_or_many)]
Numbers = Annotated[tuple[Number, ...] | None, BeforeValidator(one_or_many)]
Sizes = Annotated[tuple[Size, ...] | None, BeforeValidator(one_or_many)]
Backend = Literal["eager", "inductor", "sendnn"]
EntryPointName = Literal["in-process", "http"]


class Conditions(Model):
    """The conditions under which a test is expected to fail, such as ``backend: sendnn``.

    A condition has one value or a list of values, and holds if the test has one of the values. A condition that is not
    given holds for every test.
    """

    backend: Annotated[tuple[Backend, ...] | None, BeforeValidator(one_or_many)] = None
    model: Texts = None
    driver: Texts = None
    tensor_parallel_size: Sizes = None
    scheduler: Annotated[tuple[Scheduler, ...] | None, BeforeValidator(one_or_many)] = None
    entry_point: Annotated[tuple[EntryPointName, ...] | None, BeforeValidator(one_or_many)] = None
    cards: Numbers = None
    simulated: bool | None = None
    vllm: Annotated[Text | None, AfterValidator(lambda text: text and _versions(text))] = None
    """A range of vLLM versions as in pip, such as ``>=0.27,<0.30``. It does not hold if the engine is not vLLM."""

    def hold(self, facts: Mapping[str, Any]) -> bool:
        """Return whether all conditions hold for a test.

        ``facts`` has the test's value for each condition, by the name of the condition. A tuple means that the test has
        several values: the condition holds if it names one of them.
        """
        if self.vllm is not None and not (facts["vllm"] and SpecifierSet(self.vllm).contains(facts["vllm"], True)):
            return False
        for name in type(self).model_fields.keys() - {"vllm"}:
            wanted, fact = getattr(self, name), facts[name]
            if wanted is None:
                continue
            choices = wanted if isinstance(wanted, tuple) else (wanted,)
            if not any(each in choices for each in (fact if isinstance(fact, tuple) else (fact,))):
                return False
        return True


class KnownFailure(Model):
    """An entry: the tests of the cases that match ``case`` are expected to fail under the conditions ``when``.

    ``case`` is SUITE/ID, in which ``*`` and ``?`` are wildcards.
    """

    case: Text
    when: Conditions = Conditions()
    reason: Annotated[Text, AfterValidator(_a_reason)]
    strict: bool = True
    """Whether the run fails if the test passes, so that outdated entries are noticed."""


class KnownFailuresFile(Model):
    """The content of a file known-failures.yaml."""

    known_failures: Annotated[tuple[KnownFailure, ...], BeforeValidator(as_tuple)]


@dataclass(frozen=True)
class Listed:
    """An entry with its position in the file. ``line`` and ``last_line`` are the numbers of its first and last line."""

    entry: KnownFailure
    file: Path
    line: int
    column: int
    last_line: int

    @property
    def place(self) -> str:
        return f"{shown_file(self.file)}:{self.line}"

    def names(self, case: str) -> bool:
        """Return whether the entry applies to the case ``case``, which is given as SUITE/ID."""
        return fnmatchcase(case, self.entry.case)


@lru_cache(maxsize=8)
def load_known_failures(file: Path) -> tuple[Listed, ...]:
    """Return all entries of a file. Raises SuiteError with a line for each mistake in the file."""
    try:
        source = read_yaml(file)
    except YamlError as error:
        raise SuiteError(error.problems) from error
    except OSError as error:
        raise SuiteError([Problem(file, 1, 1, "", f"cannot be read: {error.strerror or error}")]) from error
    try:
        whole = KnownFailuresFile.model_validate(source.data)
    except ValidationError as error:
        raise SuiteError(list(_problems(file, source, error))) from error
    return tuple(_listed(file, source, index, entry) for index, entry in enumerate(whole.known_failures))


def _listed(file: Path, source: Source, index: int, entry: KnownFailure) -> Listed:
    node = source.node(("known_failures", index))
    return Listed(entry, file, node.place.line, node.place.column, node.last_line)


def _problems(file: Path, source: Source, error: ValidationError) -> Iterator[Problem]:
    for detail in error.errors(include_url=False):
        path = source.resolve(detail["loc"])
        place, what, hint = source.place(path), must_be(detail, "a mapping"), ""
        match detail["type"]:
            case "extra_forbidden":
                place, what, hint = source.key_place(path), "unknown key", _known_keys(path)
            case "missing":
                what = f"the key `{detail['loc'][-1]}` is missing"
            case "value_error":
                what = str(detail["ctx"]["error"])
        yield Problem(file, place.line, place.column, shown_path(path), what, hint)


def _known_keys(path: YamlPath) -> str:
    models: list[type[Model]] = [KnownFailuresFile, KnownFailure, Conditions]
    known = list(models[len([part for part in path[:-1] if isinstance(part, str)])].model_fields)
    if renamed := RENAMED_KEYS.get(str(path[-1])):
        return f"`{path[-1]}` is now `{renamed}`"
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    return f"did you mean `{close[0]}`?" if close else f"known keys: {', '.join(known)}"
