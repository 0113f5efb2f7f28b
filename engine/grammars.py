"""Compile structured outputs (a JSON schema, a regular expression, …) to grammars over tokens, with llguidance.

See docs/structured-outputs.md.
"""

import copy
import json
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from engine.structured_outputs import SamplingParamsError, StructuredOutputsError, StructuredOutputsParams
from engine.tokenizer import Tokenizer

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

NO_TOKEN_FITS = "NoExtensionBias"
"""The error of llguidance for a grammar that allows neither a token nor the end of the answer."""

COMPILED = 64
"""The number of compiled grammars that are kept, because clients often send the same grammar again."""


class Grammar:
    """The grammar of one request, with its state after the tokens generated so far.

    Implements ``engine.sequence.Grammar``.
    """

    def __init__(self, matcher: Any, size: int, eos_token_ids: frozenset[int]) -> None:
        self._matcher = matcher
        self._size = size
        self._eos_token_ids = eos_token_ids
        self._ended = False
        self._accepted = 0
        self.error = ""

    def allowed(self) -> "NDArray[numpy.bool_] | None":
        """Return which tokens may come next, as bool ``[vocabulary]``; None after EOS, where any token may come."""
        if self._ended:
            return None
        import numpy
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        mask = allocate_token_bitmask(1, self._size)
        fill_next_token_bitmask(self._matcher, mask)
        self._look_for_an_error()
        bits = numpy.unpackbits(mask.view(numpy.uint8), bitorder="little")
        return bits[: self._size].astype(numpy.bool_)

    def accept(self, token_id: int) -> None:
        """Record that ``token_id`` was generated, and set ``error`` if the grammar cannot accept it.

        Tokens after EOS are not checked. ``token_id`` is ignored if the grammar had an error before it.
        """
        self._ended = self._ended or token_id in self._eos_token_ids
        if not self._ended and not self.error:
            self._matcher.consume_token(token_id)
            self._accepted += 1
            self._look_for_an_error()

    def _look_for_an_error(self) -> None:
        if self._matcher.is_error():
            # llguidance appends a dump of its state and the grammar.
            reason = one_line(self._matcher.get_error().partition("<state>")[0])
            if reason == NO_TOKEN_FITS:
                reason = "the grammar allows no token here, and no end"
            tokens = "1 token" if self._accepted == 1 else f"{self._accepted} tokens"
            self.error = f"after {tokens} the answer cannot be continued: {reason}"


class Grammars:
    """Compiles structured outputs to grammars over the tokens of one tokenizer.

    Implements ``engine.core.GrammarCompiler``. llguidance is imported at the first use.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._compiled = lru_cache(maxsize=COMPILED)(self._compile)

    def check(self, params: StructuredOutputsParams, golden_token_ids: Sequence[int] = ()) -> None:
        """Compile ``params``, and check that the grammar allows ``golden_token_ids`` as the first tokens of the answer.

        Raises StructuredOutputsError if ``params`` cannot be compiled, and SamplingParamsError if the grammar forbids
        one of these tokens.
        """
        matcher = self._compiled(params)
        given = list(golden_token_ids)
        end = next((i for i, token_id in enumerate(given) if token_id in self._tokenizer.eos_token_ids), len(given))
        fits = matcher.deep_copy().validate_tokens(given[:end])
        if fits < end:
            raise SamplingParamsError(
                f"golden_token_ids must fit structured_outputs, which does not allow token id {given[fits]} "
                f"at index {fits}"
            )

    def start(self, params: StructuredOutputsParams) -> Grammar:
        """Return the grammar of a new request, before its first token.

        Raises StructuredOutputsError if ``params`` cannot be compiled.
        """
        eos = self._tokenizer.eos_token_ids
        return Grammar(self._compiled(params).deep_copy(), self._tokenizer.vocabulary_size, eos)

    @cached_property
    def _vocabulary(self) -> Any:
        try:
            from llguidance.hf import from_tokenizer
        except ImportError as error:
            raise StructuredOutputsError(
                "structured_outputs needs the package llguidance on the server: pip install 'spyre-cb[structured]'"
            ) from error
        eos = sorted(self._tokenizer.eos_token_ids)
        return from_tokenizer(self._tokenizer.fast, self._tokenizer.vocabulary_size, eos or None)

    def _compile(self, params: StructuredOutputsParams) -> Any:
        vocabulary = self._vocabulary
        from llguidance import LLMatcher

        try:
            matcher = LLMatcher(vocabulary, grammar_text(params), log_level=0)
        except RecursionError as error:
            raise _cannot(params, "it is nested too deeply") from error
        except ValueError as error:
            raise _cannot(params, str(error)) from error
        if matcher.is_error():
            raise _cannot(params, matcher.get_error())
        return matcher


def grammar_text(params: StructuredOutputsParams) -> str:
    """Return the grammar for ``params`` in the format of llguidance.

    Raises ValueError if the JSON schema is not valid JSON, and RecursionError if it is nested too deeply.

    Source: ``serialize_guidance_grammar`` of ``vllm.v1.structured_output.backend_guidance``.
    """
    from llguidance import LLMatcher, grammar_from

    defaults: Any = {"whitespace_flexible": not params.disable_any_whitespace}
    if params.json_object:
        return str(LLMatcher.grammar_from_json_schema('{"type": "object"}', defaults=defaults))
    if params.json is not None:
        schema = _parsed(str(params.json))
        if params.disable_additional_properties:
            schema = without_extra_properties(schema)
        return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=defaults))
    if params.choice is not None:
        return str(grammar_from("choice", json.dumps(params.choice)))
    return str(grammar_from(params.kind, str(params.grammar if params.regex is None else params.regex)))


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # Python's message advises to change a setting of Python
        raise ValueError("a number has too many digits") from error


def without_extra_properties(schema: Any) -> Any:
    """Return a copy of a JSON schema in which objects may have only the properties that the schema lists.

    An object whose schema sets ``additionalProperties`` keeps that value.
    """
    if isinstance(schema, list):
        return [without_extra_properties(item) for item in schema]
    if not isinstance(schema, dict):
        return copy.copy(schema)
    found = {name: without_extra_properties(value) for name, value in schema.items()}
    if {"properties", "patternProperties"} & found.keys():
        found.setdefault("additionalProperties", False)
    return found


def _cannot(params: StructuredOutputsParams, reason: str) -> StructuredOutputsError:
    return StructuredOutputsError(f"structured_outputs: this {params.kind} cannot be compiled: {one_line(reason)}")


def one_line(text: str) -> str:
    """Return a message of llguidance as one line of at most 300 characters."""
    return " ".join(text.split())[:300]
