"""A failed case as pytest prints it. pytest has no public class for an item's own representation of a failure."""

from typing import Any

# pytest takes an item's own representation of a failure only as a TerminalRepr, which is not in its API.
from _pytest._code.code import ReprFileLocation, TerminalRepr
from _pytest._io import TerminalWriter


class FailureRepr(TerminalRepr):
    """A failure as pytest prints it: the text in full, and the headline in the short summary."""

    def __init__(self, headline: str, text: str, file: str, line: int) -> None:
        self.text = text
        self.reprcrash = ReprFileLocation(file, line, headline)

    def toterminal(self, tw: TerminalWriter) -> None:
        for line in self.text.splitlines():
            tw.line(line)

    def as_data(self) -> dict[str, Any]:
        """As builtins: what makes it again in another process."""
        crash = self.reprcrash
        return {"headline": crash.message, "text": self.text, "file": crash.path, "line": crash.lineno}
