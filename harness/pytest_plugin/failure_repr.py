"""The representation of a failed case. pytest has no public class for the failure of a custom item."""

from typing import Any

# pytest takes an item's own representation of a failure only as a TerminalRepr, which is not in its API.
from _pytest._code.code import ReprFileLocation, TerminalRepr
from _pytest._io import TerminalWriter


class FailureRepr(TerminalRepr):
    """A failure in pytest's output: the whole text, and the headline in the short summary."""

    def __init__(self, headline: str, text: str, file: str, line: int) -> None:
        self.text = text
        self.reprcrash = ReprFileLocation(file, line, headline)

    def toterminal(self, tw: TerminalWriter) -> None:
        for line in self.text.splitlines():
            tw.line(line)

    def as_data(self) -> dict[str, Any]:
        """Return the failure as builtins, from which another process can create it again."""
        crash = self.reprcrash
        return {"headline": crash.message, "text": self.text, "file": crash.path, "line": crash.lineno}
