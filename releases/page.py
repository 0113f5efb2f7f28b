"""Render docs/releases.md from the kept results and from releases/bugs.yaml."""

from collections.abc import Iterator, Mapping, Sequence

from releases.bugs import Bug, check, read_bugs
from releases.kept import Kept, read_all

PULL = "https://github.com/torch-spyre/sendnn-inference/pull"
HEAD = """# Releases of the plugins

<!-- all parsed: they need the environments of releases -->

The suites have run on past releases of the plugins, to see whether they would have caught the bugs that were shipped.
This page is rendered from the results that are kept in `releases/results/` and from the list of bugs in
`releases/bugs.yaml`:

```
make conformance-vllm PLUGIN=sendnn-inference==2.1.0                  # run the suites on a release
python -m releases keep sendnn-inference-2.1.0 reports/conformance-sendnn-inference-2.1.0.jsonl
python -m releases page > docs/releases.md
```

[real-plugin.md](real-plugin.md#any-release) describes the environments.

## Bugs

{summary} The pull requests are those of sendnn-inference, whose history includes vllm-spyre. The fourth column has the
last release with the bug that was run, and the first one without it. Each case in the last column fails in the one and
passes in the other; of more than three cases, three are named. `1.4.3+577` is 1.4.3 with the fault that 577 mended put
back: the bug was never in a release, or the release can't be run.

"""
RESULTS = """
## Results

The number of cases that passed and failed with each release. Steps mostly ran without the model, and outputs only
around a bug, so the numbers of cases differ. A case fails because of a bug, or because the release has another rule
([scheduling-rules-chunked.md](scheduling-rules-chunked.md#earlier-releases)).

"""
REQUIREMENTS = """
### {scheduler}

Failed cases of each requirement; `·` if all passed, and empty if none ran.

"""


def render() -> str:
    """Return the page. Raises BugsError if the results do not show that the cases of a bug catch it."""
    kept, bugs = read_all(), read_bugs()
    for bug in bugs:
        check(bug, kept)
    caught = [bug for bug in bugs if bug.cases]
    rebuilt = sum(bug.is_rebuilt for bug in caught)
    summary = (
        f"{len(bugs)} bugs were judged. Named cases catch {len(caught)} of them, "
        f"{rebuilt} of these in a release into which the fault was put back."
    )
    releases = {name: each for name, each in kept.items() if "+" not in name}
    parts = [HEAD.format(summary=summary)]
    parts += _table(("pull", "what was wrong", "mended in", "before → after", "caught by"), map(_bug, bugs))
    parts += [RESULTS, *_table(("release", "engine", "passed", "failed"), map(_release, releases.values()))]
    for scheduler, chosen in _by_scheduler(releases).items():
        parts.append(REQUIREMENTS.format(scheduler=scheduler))
        parts += _table(("requirement", *(_version(each.name) for each in chosen)), _requirements(chosen))
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
    caught = f"{shown}{more}" if bug.cases else f"not seen: {bug.unseen}"
    return f"[{bug.pull}]({PULL}/{bug.pull})", bug.wrong, bug.mended, between, caught


def _release(kept: Kept) -> Sequence[str]:
    outcomes = [case.outcome for case in kept.cases.values()]
    return kept.name, kept.engine, str(outcomes.count("passed")), str(outcomes.count("failed"))


def _by_scheduler(kept: Mapping[str, Kept]) -> dict[str, list[Kept]]:
    """Return the results by the scheduler that was tested."""
    chunked = [each for name, each in kept.items() if "chunked" in name or name.startswith("sendnn-inference")]
    return {"Continuous batching": [each for each in kept.values() if each not in chunked], "Chunked prefill": chunked}


def _version(name: str) -> str:
    return name.removeprefix("vllm-spyre-").removeprefix("sendnn-inference-").removesuffix("-chunked")


def _requirements(chosen: Sequence[Kept]) -> Iterator[Sequence[str]]:
    """Yield a row for each requirement that a case of these results tests."""
    ids = sorted({each for kept in chosen for case in kept.cases.values() for each in case.requirements})
    for requirement in ids:
        yield (requirement, *(_cell(kept, requirement) for kept in chosen))


def _cell(kept: Kept, requirement: str) -> str:
    outcomes = [case.outcome for case in kept.cases.values() if requirement in case.requirements]
    failed = outcomes.count("failed")
    return str(failed) if failed else "·" if outcomes else ""
