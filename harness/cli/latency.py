"""``spyre-cb compare --latency``: find the requests that take longer in one set of runs than in another."""

import json
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from harness.cli.arguments import CommandError
from harness.compare.latency import LatencyComparison, LatencyError, compare_latency
from harness.compare.results import Key, ResultsError, Run, read_results
from harness.latency.metrics import METRICS

_TITLES = {metric.name: metric.title for metric in METRICS}


def compare_folders(arguments: Namespace) -> int:
    """Compare the latencies of the runs in the folders FIRST and SECOND, and print the comparison.

    Return exit status 1 if requests take more time per step, or more steps, in SECOND. Raises CommandError if the
    folders can't be compared.
    """
    if arguments.html:
        raise CommandError("--html is not available with --latency: use --json, or redirect the text to a file")
    try:
        comparison = compare_latency(_runs(arguments.before), _runs(arguments.after))
    except (ResultsError, LatencyError) as error:
        raise CommandError(str(error)) from error
    if arguments.json:
        print(json.dumps(asdict(comparison), indent=1, ensure_ascii=False))
    else:
        print("\n".join(_lines(comparison)))
    return 1 if comparison.slower or comparison.later else 0


def _runs(folder: Path) -> list[Run]:
    """Return the runs whose results files are in a folder, sorted by file name.

    Raises CommandError if there is no such folder, and ResultsError if a file is not a complete results file.
    """
    if not folder.is_dir():
        raise CommandError(f"{folder}: is not a folder; --latency compares folders with results of repeated runs")
    return [read_results(file) for file in sorted(folder.glob("*.jsonl"))]


def _lines(comparison: LatencyComparison) -> Iterator[str]:
    if comparison.later:
        yield "more engine steps (the schedule changed):"
        for late in comparison.later:
            place = f"{_name(late.key)}, request {late.request}"
            yield f"  {place}: {_TITLES[late.metric]} {late.before:.0f} steps, now {late.after:.0f}"
        yield ""
    if comparison.slower:
        yield "more time per step (adjusted p-value at most 0.05):"
        for slow in comparison.slower:
            times = f"{slow.before * 1000:.3g} ms, now {slow.after * 1000:.3g} ms"
            yield f"  {_name(slow.key)}: {_TITLES[slow.metric]} {times} ({slow.ratio:.2f} x, p {slow.p:.3f})"
        yield ""
    noise = f"{comparison.series} values compared, noise between runs {comparison.noise:.1%}"
    if comparison.slower or comparison.later:
        yield f"slower: {len(comparison.slower)} in time, {len(comparison.later)} in steps ({noise})"
    else:
        yield f"nothing got slower beyond the noise ({noise})"


def _name(key: Key) -> str:
    suite, case, configuration = key
    return f"{suite} {case} [{configuration}]" if case else f"all cases of [{configuration}]"
