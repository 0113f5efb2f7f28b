"""Render docs/releases.md from the kept results and from releases/bugs.yaml."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from releases.bugs import Bug, check, read_bugs
from releases.kept import KINDS, Kept, read_all
from releases.reasons import read_reasons, reasons_of

PULL = "https://github.com/torch-spyre/sendnn-inference/pull"
HEAD = """# Releases of the plugins

<!-- all parsed: they need the environments of releases -->

The suites were run on past releases of the plugins, to find out whether the cases detect the bugs that these releases
had. This page is generated from the results in `releases/results/` and from the list of bugs in `releases/bugs.yaml`.
These commands run the suites on a release, add the results, and generate the page:

```
make conformance-vllm PLUGIN=sendnn-inference==2.1.0                  # run the suites on a release
python -m releases keep sendnn-inference-2.1.0 reports/conformance-sendnn-inference-2.1.0.jsonl
python -m releases page > docs/releases.md
```

[real-plugin.md](real-plugin.md#any-release) describes the environments of the releases.

## Bugs

{summary}

The first column has the pull request that fixed the bug, in the repository of sendnn-inference, whose history
includes vllm-spyre. The column "before → after" has two releases on which the suites were run: the last release with
the bug, and the first release without it. Each case in the last column fails on the release before the arrow and
passes on the release after it. If there are more than three such cases, three are named. A name such as `1.4.3+577`
means release 1.4.3 with the bug that pull request 577 fixed put back, because the bug was never in a release, or
because the release with the bug cannot be run.

"""
RESULTS = """
## Results

The table has the numbers of cases that passed, failed and were skipped on each release. On {whole} releases the
suites of every kind ran with the model, with `make conformance-vllm` as above. On the other releases mostly
scheduler-step cases ran, without the model, and only the output cases that concern a bug, so that the numbers of
cases differ. A case fails because of a bug, or because the release has another scheduling rule
([scheduling-rules-chunked.md](scheduling-rules-chunked.md#earlier-releases)).

"""
REASONS = """
### Why cases failed

The table has the number of cases that failed for each reason, on the releases on which the suites of every kind ran.
A reason is a bug (of the table in "Bugs", by its pull request), a finding ([findings.md](findings.md)), or a
scheduling rule that the release does not have
([scheduling-rules-chunked.md](scheduling-rules-chunked.md#earlier-releases)). `releases/reasons.yaml` lists the cases
of each reason.

"""
SKIPPED = """
### Skipped cases

The table has the number of cases that were skipped for each reason, on the releases on which the suites of every kind
ran. Cases for another scheduler and cases that need a card are not counted.

"""
REQUIREMENTS = """
### {scheduler}

The table has the number of failed cases of each requirement on each release: `·` if all cases passed, empty if none
ran. The last column lists the releases in which cases began to fail ("broke") or to pass again ("fixed"), compared
with the last earlier release in which the case ran, and the number of these cases.

"""


def render() -> str:
    """Return the page. Raises BugsError if the results do not show that the cases of a bug catch it."""
    kept, bugs = read_all(), read_bugs()
    for bug in bugs:
        check(bug, kept)
    caught = [bug for bug in bugs if bug.cases]
    rebuilt = sum(bug.is_rebuilt for bug in caught)
    summary = (
        f"The table has {len(bugs)} bugs. Cases of the suites detect {len(caught)} of them: {rebuilt} on a release "
        "into which the bug was put back,\nthe others on a release that had the bug."
    )
    releases = {name: each for name, each in kept.items() if "+" not in name}
    whole = [each for each in releases.values() if each.is_whole]
    parts = [HEAD.format(summary=summary)]
    parts += _table(("pull", "what was wrong", "fixed in", "before → after", "caught by"), map(_bug, bugs))
    parts += [
        RESULTS.format(whole=len(whole)),
        *_table(("release", *KINDS.values(), "engine"), map(_release, releases.values())),
    ]
    parts += [REASONS, *_table(("reason", *map(_label, whole)), _reasons(whole, bugs))]
    parts += [SKIPPED, *_table(("kind", "reason", *map(_label, whole)), _skipped(whole))]
    for scheduler, chosen in _by_scheduler(releases).items():
        parts.append(REQUIREMENTS.format(scheduler=scheduler))
        head = ("requirement", *(_version(each.name) for each in chosen), "broke and fixed")
        parts += _table(head, _requirements(chosen))
    return "".join(parts)


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |\n"
    yield f"|{' --- |' * len(head)}\n"
    for row in rows:
        yield f"| {' | '.join(row)} |\n"


def _bug(bug: Bug) -> Sequence[str]:
    shown = ", ".join(f"`{case.rpartition('/')[2]}`" for case in bug.cases[:3])
    more = f" and {len(bug.cases) - 3} more" if len(bug.cases) > 3 else ""
    between = f"{_version(bug.before)} → {_version(bug.after)}" if bug.cases else ""
    caught = f"{shown}{more}" if bug.cases else f"not detected: {bug.unseen}"
    return f"[{bug.pull}]({PULL}/{bug.pull})", bug.wrong, bug.mended, between, caught


def _release(kept: Kept) -> Sequence[str]:
    return kept.name, *(_outcomes(kept, kind) for kind in KINDS), kept.engine


def _outcomes(kept: Kept, kind: str) -> str:
    """Return how many cases of a kind passed and failed, as text; "" if no case of the kind ran.

    If the release ran the suites of all kinds, the text also has the number of skipped cases.
    """
    counts = kept.outcomes(kind)
    if not counts["passed"] + counts["failed"]:
        return ""
    shown = f"{counts['passed']} passed, {counts['failed']} failed"
    return f"{shown}, {counts['skipped']} skipped" if kept.is_whole else shown


def _reasons(whole: Sequence[Kept], bugs: Sequence[Bug]) -> Iterator[Sequence[str]]:
    """Yield a row for each reason for which cases failed, the bugs first.

    Raises ReasonsError if a failed case has no reason.
    """
    listed = read_reasons()
    counts = [Counter(reasons_of(kept, bugs, listed).values()) for kept in whole]
    for reason in dict.fromkeys((*(f"bug {bug.pull}" for bug in bugs), *(each.why for each in listed))):
        if any(reason in count for count in counts):
            yield (reason, *(str(count[reason] or "") for count in counts))


def _skipped(whole: Sequence[Kept]) -> Iterator[Sequence[str]]:
    """Yield a row for each reason for which cases of a kind were skipped."""
    for kind, name in KINDS.items():
        reasons = {reason: None for kept in whole for reason in sorted(kept.skipped.get(kind, {}))}
        for reason in reasons:
            yield (name, reason, *(str(kept.skipped.get(kind, {}).get(reason, "")) for kept in whole))


def _by_scheduler(kept: Mapping[str, Kept]) -> dict[str, list[Kept]]:
    """Return the results by the scheduler that was tested."""
    titles = {"continuous": "Continuous batching", "chunked": "Chunked prefill"}
    return {title: [each for each in kept.values() if each.scheduler == name] for name, title in titles.items()}


def _version(name: str) -> str:
    return name.removeprefix("vllm-spyre-").removeprefix("sendnn-inference-").removesuffix("-chunked")


def _label(kept: Kept) -> str:
    """Return the version of a release, followed by the scheduler if the release has two."""
    return _version(kept.name) + (" chunked" if kept.name.endswith("-chunked") else "")


def _requirements(chosen: Sequence[Kept]) -> Iterator[Sequence[str]]:
    """Yield a row for each requirement that a case of these results tests."""
    ids = sorted({each for kept in chosen for case in kept.cases.values() for each in case.requirements})
    for requirement in ids:
        yield (requirement, *(_cell(kept, requirement) for kept in chosen), changes(chosen, requirement))


def _cell(kept: Kept, requirement: str) -> str:
    outcomes = [case.outcome for case in kept.cases.values() if requirement in case.requirements]
    failed = outcomes.count("failed")
    return str(failed) if failed else "·" if outcomes else ""


def changes(chosen: Sequence[Kept], requirement: str) -> str:
    """Return in which releases cases of a requirement began to fail or to pass again, such as ``1.6.1 broke 4``."""
    last: dict[str, str] = {}
    shown = []
    for kept in chosen:
        now = {name: case.outcome for name, case in kept.cases.items() if requirement in case.requirements}
        for verb, outcome in (("broke", "failed"), ("fixed", "passed")):
            changed = [name for name, found in now.items() if found == outcome != last.get(name, outcome)]
            if changed:
                shown.append(f"{_version(kept.name)} {verb} {len(changed)}")
        last |= now
    return ", ".join(shown)
