"""Tests of the text of a failed case in pytest's output."""

import io

from _pytest._io import TerminalWriter

from harness.pytest_plugin.failure_repr import FailureRepr


def test_control_characters_are_escaped() -> None:
    failure = FailureRepr("the text is \x1b[31mred", "stop \x07\n\tred \x1b[31m", "mine.yaml", 4)
    written = io.StringIO()
    failure.toterminal(TerminalWriter(written))
    assert written.getvalue() == "stop \\x07\n\tred \\x1b[31m\n"
    assert failure.reprcrash.message == "the text is \\x1b[31mred"
    assert FailureRepr(**failure.as_data()).text == failure.text
