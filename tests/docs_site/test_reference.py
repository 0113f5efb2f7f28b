"""Tests of the pages of the reference and of copied files: they are complete, and their links work on the site."""

import json

from docs_site.hooks import site_style
from docs_site.markup import escaped, filled, squeezed
from docs_site.outside import as_markdown, file_page, rewritten, targets
from docs_site.reference.commands import commands_page
from docs_site.reference.suite_format import in_words, suite_format_page
from harness.cli import SUBCOMMANDS
from harness.suites.json_schema import schema_text
from harness.timeline.legend import style
from spyre_cb.options import OPTIONS
from tests.helpers.paths import ROOT


def test_every_command_and_every_option_is_there() -> None:
    text = commands_page().markdown
    for command in SUBCOMMANDS:
        assert f"\n## spyre-cb {command.__name__.rpartition('.')[2].replace('_', '-')}\n" in text
    for option in OPTIONS:
        assert f"`{option.in_pytest}" in text


def test_every_key_of_the_suite_format_is_there() -> None:
    text = suite_format_page().markdown
    for name, mapping in json.loads(schema_text())["$defs"].items():
        if "properties" not in mapping:
            continue
        part = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for key in mapping["properties"]:
            assert f"| `{key}` |" in part


def test_values_are_in_words() -> None:
    assert in_words({"anyOf": [{"$ref": "#/$defs/Chunking"}, {"type": "null"}]}) == "[Chunking](#chunking)"
    assert in_words({"type": "array", "items": {"type": "integer", "minimum": 0}}) == "list of whole number from 0"
    assert in_words({"enum": ["a", "b"]}) == "`a`, `b`"
    assert in_words({"type": "object", "additionalProperties": {"type": "string"}}) == "mapping to string"


def test_a_link_out_of_docs_leads_to_the_page_of_the_file() -> None:
    page = "See [base](../harness/drivers/base.py), [x](../CONTRIBUTING.md#here) and [y](usage.md)."
    assert targets(page, "real-plugin.md") == ["harness/drivers/base.py", "CONTRIBUTING.md"]
    known = ["harness/drivers/base.py", "CONTRIBUTING.md"]
    assert rewritten(page, "real-plugin.md", known) == (
        "See [base](files/harness/drivers/base.py.md), [x](files/CONTRIBUTING.md#here) and [y](usage.md)."
    )
    assert file_page(".github/workflows/ci.yml") == "files/github/workflows/ci.yml.md"


def test_a_file_is_code_and_a_markdown_file_keeps_its_text() -> None:
    code = as_markdown(ROOT, "docs_site/outside.py")
    assert code.startswith("# docs_site/outside.py\n\n```")
    assert "(../where-to-change-what.md)" in as_markdown(ROOT, "CONTRIBUTING.md")


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1]
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert {page for page in pages if page not in navigation} == set(), "add it to nav in mkdocs.yml"


def test_text_is_shown_unchanged() -> None:
    assert escaped("a*b [x] <y>\n  c|d") == r"a\*b \[x\] \<y\> c\|d"


def test_slots_are_filled_and_only_layout_is_removed() -> None:
    assert filled('<p>a</p><div class="slot" data-slot="one"></div>', {"one": "<b>1</b>"}) == "<p>a</p><b>1</b>"
    assert squeezed("<p>\n   a\n\n  b</p><pre>x\n  y</pre>\n  <i>") == "<p>\na\nb</p><pre>x\n  y</pre>\n<i>"


def test_time_lines_follow_the_colours_that_the_reader_chose() -> None:
    sheet = site_style(style())
    assert "prefers-color-scheme" not in sheet
    assert '[data-md-color-scheme="slate"] .timeline{--ink:' in sheet
    assert sheet.count("{") == sheet.count("}")
