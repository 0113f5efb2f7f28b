"""Write JUnit XML, with a ``testsuite`` for each suite file and a ``testcase`` for each test."""

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from harness.report.outcomes import Record, properties_of, reason
from harness.report.parts import absent
from harness.report.printable import printable
from harness.report.reading import Recorded
from harness.utils.files import write_whole

BAD = {"failed": "failure", "xpassed": "failure", "flaky": "failure", "error": "error"}
"""The XML element for each outcome that is not a pass. JUnit has no element for flaky tests, so they are failures."""


def write_junit(path: Path, run: Recorded) -> None:
    """Write the results of a run as JUnit XML to the file ``path``. Raises OSError if that is not possible."""
    root = Element("testsuites", name="continuous batching conformance")
    by_file: dict[str, list[Record]] = {}
    for record in (*run.results, *absent(run)):
        by_file.setdefault(str(record["test"]).partition("::")[0], []).append(record)
    for file, records in by_file.items():
        root.append(_suite(file, records))
    ElementTree.indent(root)
    write_whole(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _suite(file: str, records: Sequence[Record]) -> Element:
    outcomes = [str(record["outcome"]) for record in records]
    suite = Element("testsuite", name=file, tests=str(len(records)))
    for name in ("failure", "error"):
        count = sum(BAD.get(outcome) == name for outcome in outcomes)
        suite.set("errors" if name == "error" else "failures", str(count))
    suite.set("skipped", str(sum(outcome in ("skipped", "xfailed") for outcome in outcomes)))
    suite.set("time", f"{sum(float(record.get('seconds', 0.0)) for record in records):.3f}")
    for record in records:
        suite.append(_case(file, record))
    return suite


def _case(file: str, record: Record) -> Element:
    name = str(record["test"]).partition("::")[2] or file
    case = Element("testcase", classname=file.removesuffix(".yaml").replace("/", "."), name=printable(name))
    case.set("time", f"{float(record.get('seconds', 0.0)):.3f}")
    listed = list(properties_of(record))
    if listed:
        properties = SubElement(case, "properties")
        for key, value in listed:
            SubElement(properties, "property", name=printable(key), value=value)
    outcome, text = str(record["outcome"]), printable(str(record.get("text", "")))
    if outcome in BAD:
        element = SubElement(case, BAD[outcome], message=_message(record), type=outcome)
        element.text = text
    elif outcome in ("skipped", "xfailed"):
        SubElement(case, "skipped", message=_message(record), type=outcome)
    return case


def _message(record: Record) -> str:
    return printable(f"{record['outcome']}: {reason(record)}" if record["outcome"] != "failed" else reason(record))
