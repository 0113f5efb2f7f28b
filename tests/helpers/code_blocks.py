"""Code blocks of Markdown pages, and what a comment before a block says about running it.

Without a comment a block is run. ``<!-- at night -->`` runs it at night only, and ``<!-- parsed: REASON -->`` never; in
both cases its commands are parsed. ``<!-- not run: REASON -->`` is for what this project can't parse. ``<!-- tested by:
TEST -->`` names the test that produces the text, and ``<!-- steps of: FILE NAME -->`` the traced workload whose step
table it is. ``<!-- all parsed: REASON -->`` holds for all blocks of a page without a comment.
"""

import re
from dataclasses import dataclass
from pathlib import Path

KINDS = ("run", "at night", "parsed", "not run", "tested by", "steps of")
NEED_AN_ARGUMENT = ("parsed", "not run", "tested by", "steps of")
_BLOCK = re.compile(
    r"^(?:<!-- (?P<comment>[^\n]*?) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
_PAGE = re.compile(r"^<!-- all parsed: (.*?) -->$", re.MULTILINE)
PROMPT = "$ "


@dataclass(frozen=True)
class Block:
    """A code block. ``kind`` is one of KINDS, ``argument`` the rest of its comment."""

    page: Path
    line: int
    language: str
    text: str
    kind: str
    argument: str

    @property
    def place(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """Return the commands: lines after a prompt if there are any, else all; without comments at their ends."""
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        prompted = [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]
        return [re.sub(r"\s+# .*$", "", line).strip() for line in prompted or lines if line.strip()]

    @property
    def dialogue(self) -> list[tuple[str, str]]:
        """Return each command after a prompt with the text below it."""
        parts = re.split(rf"^{re.escape(PROMPT)}", self.text, flags=re.MULTILINE)[1:]
        return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts)]


def blocks_of(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order. Raises ValueError for a comment that is not understood."""
    text = page.read_text(encoding="utf-8")
    everywhere = _PAGE.search(text)
    found = []
    for match in _BLOCK.finditer(text):
        default = f"parsed: {everywhere[1]}" if everywhere else "run"
        kind, _, argument = (match["comment"] or default).partition(":")
        line = text[: match.start()].count("\n") + 1 + bool(match["comment"])
        block = Block(page, line, match["language"], match["text"], kind, argument.strip())
        if kind not in KINDS or (kind in NEED_AN_ARGUMENT) != bool(block.argument):
            known = ", ".join(KINDS)
            raise ValueError(f"{block.place}: {match['comment']!r} is none of {known}, with a reason where one is due")
        found.append(block)
    return found


def normalised(text: str) -> str:
    """Return printed text without what differs from run to run: durations, and the width of rules."""
    without = re.sub(r"\b\d+\.\d+ ?s\b", "N s", text)
    lines = (line.strip("=").strip() if line.startswith("==") else line.rstrip() for line in without.splitlines())
    return "\n".join(lines)


def matches(shown: str, printed: str) -> bool:
    """Return whether a page shows what was printed. ``…`` stands for any text, alone on a line for any lines."""
    pattern = ""
    for line in normalised(shown).splitlines():
        if line == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, line.split("…"))) + r"\n"
    return re.fullmatch(pattern, normalised(printed) + "\n" if printed.strip() else "") is not None
