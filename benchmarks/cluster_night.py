"""Simulate a night on a cluster that loses nodes, and compare its duration with the cost model of docs/scaling.md.

    python benchmarks/cluster_night.py [--durations benchmarks/scaling.yaml]

If a node is lost, the pods on it end, and the node comes back after a while. Each of these pods is started again when
cards of another node are free. The new pod starts its engine and, as with --cb-resume, runs only the cases that have no
result.
"""

import argparse
import heapq
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from scaling import DURATIONS, Nightly, read
from schedule import Job, simulate

CARDS = (10, 32, 128, 1000)
LOST = (0, 1, 10, 50)
CARDS_A_NODE = 8
DOWN = 900.0
"""Seconds after which a lost node is back."""
SEEDS = range(5)


@dataclass(frozen=True)
class Pod:
    """A pod that occupies ``cards`` cards.

    It starts its engine in ``start`` seconds, and then runs ``cases`` cases in ``case`` seconds each.
    """

    cards: int
    start: float
    cases: int
    case: float

    @property
    def seconds(self) -> float:
        return self.start + self.cases * self.case

    def after(self, elapsed: float, *, resumes: bool) -> "Pod":
        """Return the pod that replaces this one after it was lost ``elapsed`` seconds after its start.

        With ``resumes``, the new pod runs only the cases that this one has not finished; otherwise it runs all cases.
        """
        done = min(self.cases, max(0, int((elapsed - self.start) / self.case))) if resumes else 0
        return replace(self, cases=self.cases - done)


@dataclass
class Node:
    """A node with ``cards`` cards. ``pods`` has its pods by number, each with the second at which the pod started."""

    cards: int
    up: bool = True

    def __post_init__(self) -> None:
        self.pods: dict[int, tuple[Pod, float]] = {}

    @property
    def free(self) -> int:
        return self.cards - sum(pod.cards for pod, _ in self.pods.values()) if self.up else 0


def nodes_of(cards: int) -> list[Node]:
    """Return nodes that together have ``cards`` cards."""
    whole, rest = divmod(cards, CARDS_A_NODE)
    return [Node(CARDS_A_NODE) for _ in range(whole)] + ([Node(rest)] if rest else [])


def night(pods: Sequence[Pod], cards: int, losses: Sequence[float], chosen: random.Random, *, resumes: bool) -> float:
    """Return how many seconds the pods take on nodes that together have ``cards`` cards.

    At each of the times ``losses``, in seconds, a node that ``chosen`` selects at random is lost. With ``resumes``, a
    pod that replaces a lost one runs only the cases that the lost one has not finished.
    """
    nodes, waiting, count, now = nodes_of(cards), list(pods), 0, 0.0
    events: list[tuple[float, int, str, Node | None]] = []
    for at in losses:
        heapq.heappush(events, (at, count := count + 1, "lost", None))
    while waiting or any(node.pods for node in nodes):
        waiting.sort(key=lambda pod: (-pod.seconds * pod.cards, -pod.cards))
        left = []
        for pod in waiting:
            fitting = [node for node in nodes if node.free >= pod.cards]
            if fitting:
                node = min(fitting, key=lambda node: node.free)
                count += 1
                node.pods[count] = (pod, now)
                heapq.heappush(events, (now + pod.seconds, count, "done", node))
            else:
                left.append(pod)
        waiting = left
        now, number, what, at_node = heapq.heappop(events)
        if what == "done" and at_node is not None:
            at_node.pods.pop(number, None)
        elif what == "back" and at_node is not None:
            at_node.up = True
        elif up := [node for node in nodes if node.up]:
            lost = chosen.choice(up)
            waiting += [pod.after(now - began, resumes=resumes) for pod, began in lost.pods.values()]
            lost.pods.clear()
            lost.up = False
            heapq.heappush(events, (now + DOWN, count := count + 1, "back", lost))
    return now


def pods_of(durations: Nightly) -> list[Pod]:
    """Return a pod for each setup (model, backend, tensor-parallel size) that runs on cards."""
    return [
        Pod(
            size,
            part.start + (size - 1) * part.more_a_process,
            durations.cases,
            durations.steps_per_case * part.step + part.case,
        )
        for part in durations.backends.values()
        if part.slot == "card"
        for size in durations.tensor_parallel_sizes
        for _ in range(durations.models)
    ]


def model(pods: Sequence[Pod], cards: int, lost: int) -> float:
    """Return the seconds of a night by the cost model of docs/scaling.md.

    The model starts from the duration without lost nodes. It adds the card-seconds in which lost nodes were down or
    started engines again, divided by the number of cards. It also adds one start of an engine, because the pod that
    ends last may have been lost.
    """
    undisturbed = simulate([Job(pod.cards, pod.seconds) for pod in pods], cards).wall
    work = [pod.cards * pod.seconds for pod in pods]
    busy = sum(work) / (cards * undisturbed)
    restart = sum(each * (pod.start + pod.case / 2) for each, pod in zip(work, pods, strict=True)) / sum(work)
    lost_cards = lost * cards / len(nodes_of(cards))
    return undisturbed + lost_cards * busy * (DOWN + restart) / cards + (max(pod.start for pod in pods) if lost else 0)


def rows(durations: Nightly) -> Iterator[tuple[int, int, float, float, float]]:
    """Yield (number of cards, number of lost nodes, and three durations of the night in hours).

    The durations are: by the cost model, simulated with ``--cb-resume``, and simulated without ``--cb-resume``.
    """
    pods = pods_of(durations)
    for cards in CARDS:
        span = simulate([Job(pod.cards, pod.seconds) for pod in pods], cards).wall
        for lost in LOST:
            resumed, repeated = (
                median(
                    night(pods, cards, _times(seed, lost, span), random.Random(seed), resumes=resumes) for seed in SEEDS
                )
                for resumes in (True, False)
            )
            yield cards, lost, model(pods, cards, lost) / 3600, resumed / 3600, repeated / 3600


def _times(seed: int, lost: int, span: float) -> list[float]:
    chosen = random.Random(seed + 1000)
    return sorted(chosen.uniform(0, span) for _ in range(lost))


def as_table(found: Iterable[tuple[int, int, float, float, float]]) -> str:
    """Return the table of docs/scaling.md."""
    lines = ["| cards | nodes lost | model | simulated | without `--cb-resume` |", "| --- | --- | --- | --- | --- |"]
    for cards, lost, expected, simulated, without in found:
        lines.append(f"| {cards:,} | {lost} | {expected:.1f} h | {simulated:.1f} h | {without:.1f} h |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--durations", type=Path, default=DURATIONS, help="YAML or JSON (default: scaling.yaml)")
    print(as_table(rows(read(parser.parse_args().durations))))


if __name__ == "__main__":
    main()
