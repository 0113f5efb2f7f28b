"""Find the code blocks of Markdown pages, and read from the comment before a block how tests check it.

- no comment: the block is run, and its output is compared
- ``<!-- at night -->``: the block is run in the nightly run only; in other runs its commands are parsed
- ``<!-- parsed: REASON -->``: the block is never run; its commands are parsed
- ``<!-- not run: REASON -->``: the block is neither run nor parsed
- ``<!-- tested by: TEST -->``: the named test produces the text of the block
- ``<!-- steps of: FILE NAME -->``: the block is the step table of the workload NAME in FILE
- ``<!-- all parsed: REASON -->`` anywhere in a page: as ``parsed``, for all blocks of the page without a comment
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
    """A code block.

    ``kind`` is one of KINDS, and ``argument`` is the text after the colon in the comment before the block. ``line`` is
    the line number of the opening fence.
    """

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
        """Return the commands of a block, without the comments at the ends of lines.

        Commands are the lines that begin with the prompt ``$``, or all lines if there is no such line.
        """
        lines = re.sub(r"\\\n\s*", "", self.text).splitlines()
        prompted = [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]
        return [re.sub(r"\s+# .*$", "", line).strip() for line in prompted or lines if line.strip()]

    @property
    def dialogue(self) -> list[tuple[str, str]]:
        """Return each command after the prompt ``$``, with the output that the page shows below it."""
        parts = re.split(rf"^{re.escape(PROMPT)}", self.text, flags=re.MULTILINE)[1:]
        return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts)]


def blocks_of(page: Path) -> list[Block]:
    """Return the code blocks of a page, in order. Raises ValueError if a comment is not of a kind in KINDS."""
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
            texts = f"{', '.join(NEED_AN_ARGUMENT)} must have a text after a colon, the others must not have one"
            raise ValueError(f"{block.place}: the comment {match['comment']!r} is none of {known}; {texts}")
        found.append(block)
    return found


def normalised(text: str) -> str:
    """Replace durations in printed text by ``N s``, and remove ``=`` around headings. Both differ from run to run."""
    without = re.sub(r"\b\d+\.\d+ ?s\b", "N s", text)
    lines = (line.strip("=").strip() if line.startswith("==") else line.rstrip() for line in without.splitlines())
    return "\n".join(lines)


def matches(shown: str, printed: str) -> bool:
    """Return whether the text ``shown`` in a page matches the text that was ``printed``.

    In ``shown``, ``…`` matches any text within a line; a line with only ``…`` matches any number of lines.
    """
    pattern = ""
    for line in normalised(shown).splitlines():
        if line == "…":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(map(re.escape, line.split("…"))) + r"\n"
    return re.fullmatch(pattern, normalised(printed) + "\n" if printed.strip() else "") is not None
