"""The text of a failed case in pytest's output. pytest has no public class for failures of custom items."""

from typing import Any

# pytest accepts a custom text for a failure only as a subclass of TerminalRepr, which is not in its public API.
from _pytest._code.code import ReprFileLocation, TerminalRepr
from _pytest._io import TerminalWriter

from harness.report.printable import printable


class FailureRepr(TerminalRepr):
    """A failure in pytest's output: ``text`` in the section FAILURES, and ``headline`` in the short summary.

    Control characters in them, for example of a stop string or of an engine's text, are escaped.
    """

    def __init__(self, headline: str, text: str, file: str, line: int) -> None:
        self.text = printable(text)
        self.reprcrash = ReprFileLocation(file, line, printable(headline))

    def toterminal(self, tw: TerminalWriter) -> None:
        for line in self.text.splitlines():
            tw.line(line)

    def as_data(self) -> dict[str, Any]:
        """Return the arguments of the constructor as JSON types, to create the failure again in another process."""
        crash = self.reprcrash
        return {"headline": crash.message, "text": self.text, "file": crash.path, "line": crash.lineno}
