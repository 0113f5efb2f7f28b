"""Test of a constraint that vLLM can't compile. It needs no vLLM."""

from types import SimpleNamespace

import pytest

from harness.drivers.vllm.session import _wait_for_the_grammar


def test_a_constraint_that_cannot_be_compiled_is_refused_with_the_reason() -> None:
    failed = SimpleNamespace(is_grammar_ready=True, grammar=RuntimeError("unclosed group"))
    with pytest.raises(ValueError, match=r"^unclosed group$"):
        _wait_for_the_grammar(SimpleNamespace(structured_output_request=failed))
