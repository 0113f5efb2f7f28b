"""Test the server under load, with disconnects and kills: lost, wrong and leaked outputs, and its speed.

    python benchmarks/server_load.py [--streams 200] [--churn 1000] [--soak 60] [--json FILE]

The test has four parts, on a server with a batch of 4. First, concurrent streams are compared with the same requests
when they run alone. Second, clients connect, abort and disconnect at random, and the answers of all other clients must
still be correct. Third, the server is killed with SIGKILL during streams, and restarted. Fourth, a soak test repeats
the second part for a given time. The exit status is 1 if any answer was wrong or anything leaked.
"""

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table
from server import BATCH, WAIT, Server

HELD = ("requests_unfinished", "requests_waiting", "requests_running", "tkv", "blocks_used", "blocks_reserved")


@dataclass(frozen=True)
class ClientRequest:
    """A greedy request, whose answer depends only on the request."""

    prompt: tuple[int, ...]
    max_tokens: int


@dataclass
class Part:
    """The results of one part of the test. Times are in seconds.

    ``wrong`` counts wrong answers by the kind of mistake. ``left_early`` counts clients that disconnected on purpose.
    ``held_at_end`` has the metrics in HELD after all clients have left; all of them must be 0.
    """

    name: str
    requests: int = 0
    right: int = 0
    wrong: Counter[str] = field(default_factory=Counter)
    left_early: int = 0
    seconds: float = 0.0
    tokens: int = 0
    first_token: list[float] = field(default_factory=list)
    between_tokens: list[float] = field(default_factory=list)
    held_at_end: dict[str, float] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        return not self.wrong and not any(self.held_at_end.values())


def requests(count: int, seed: int) -> list[ClientRequest]:
    """Return different prompts of 1 to 150 tokens with ``max_tokens`` of 1 to 60."""
    draw = random.Random(seed)
    return [
        ClientRequest(
            (4 + number % 2000, *(draw.randrange(4, 2048) for _ in range(draw.randrange(150)))), draw.randint(1, 60)
        )
        for number in range(count)
    ]


def body(request: ClientRequest, *, stream: bool) -> dict[str, object]:
    plain = {"max_tokens": request.max_tokens, "temperature": 0, "ignore_eos": True, "return_token_ids": True}
    return {"prompt": list(request.prompt), **plain, "stream": stream}


async def alone(client: httpx.AsyncClient, request: ClientRequest) -> tuple[int, ...]:
    """Return the tokens of a request without concurrent requests."""
    answer = await client.post("/v1/completions", json=body(request, stream=False))
    return tuple(answer.json()["choices"][0]["token_ids"])


async def streamed(client: httpx.AsyncClient, request: ClientRequest, wanted: tuple[int, ...], part: Part) -> None:
    """Read the stream of a request to its end, compare the tokens with ``wanted``, and count the result in ``part``."""
    part.requests += 1
    began, times, token_ids, ids, done = time.perf_counter(), [], [], set(), 0
    async with client.stream("POST", "/v1/completions", json=body(request, stream=True)) as answer:
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                done += 1
            elif line.startswith("data: "):
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    part.wrong["error"] += 1
                    return
                ids.add(chunk["id"])
                token_ids += chunk["choices"][0]["token_ids"] or []
                times.append(time.perf_counter())
    part.tokens += len(token_ids)
    part.first_token.append(times[0] - began if times else WAIT)
    part.between_tokens += [later - earlier for earlier, later in pairwise(times)]
    check(part, tuple(token_ids), wanted, ended_once=done == 1 and len(ids) == 1)


def check(part: Part, got: tuple[int, ...], wanted: tuple[int, ...], *, ended_once: bool) -> None:
    if got == wanted and ended_once:
        part.right += 1
    elif not ended_once:
        part.wrong["lost or ended twice"] += 1
    elif len(got) > len(wanted):
        part.wrong["duplicated"] += 1
    elif len(got) < len(wanted):
        part.wrong["cut short"] += 1
    else:
        part.wrong["mixed up"] += 1


async def concurrently(count: int, most: int, act: Callable[[int], Awaitable[None]], part: Part) -> None:
    """Run ``act`` ``count`` times, at most ``most`` concurrently; exceptions are counted as wrong."""
    places = asyncio.Semaphore(most)

    async def bounded(number: int) -> None:
        async with places:
            try:
                await asyncio.wait_for(act(number), WAIT)
            except (httpx.HTTPError, OSError, TimeoutError, ValueError, KeyError) as error:
                part.wrong[type(error).__name__] += 1

    began = time.perf_counter()
    await asyncio.gather(*map(bounded, range(count)))
    part.seconds += time.perf_counter() - began


async def until_empty(client: httpx.AsyncClient) -> dict[str, float]:
    """Return the metrics in HELD when all of them are 0, or after 30 s. Called after all clients have left."""
    give_up = time.monotonic() + 30
    while True:
        lines = (await client.get("/metrics")).text.splitlines()
        metrics = dict(line.rsplit(" ", 1) for line in lines if line[:1] != "#")
        held = {name: float(metrics[f"spyre_cb_{name}"]) for name in HELD}
        if not any(held.values()) or time.monotonic() > give_up:
            return held
        await asyncio.sleep(0.02)


async def streams_part(server: Server, count: int) -> Part:
    part = Part(f"{count} concurrent streams")
    async with server.client() as client:
        everything = requests(count, seed=1)
        wanted = [await alone(client, request) for request in everything]

        async def act(number: int) -> None:
            await streamed(client, everything[number], wanted[number], part)

        await concurrently(count, count, act, part)
        part.held_at_end = await until_empty(client)
    return part


class Crowd:
    """Clients with random behaviour from a seed. The answers of clients that do not disconnect are checked."""

    def __init__(
        self, server: Server, client: httpx.AsyncClient, known: list[tuple[ClientRequest, tuple[int, ...]]]
    ) -> None:
        self.server, self.client, self.known = server, client, known
        self.draw = random.Random(7)
        leave = (self.leaves_in_mid_stream, self.leaves_while_it_waits, self.connects_only, self.sends_half)
        self.ways = (self.stays, self.stays, *leave, self.sends_rubbish)

    async def come(self, part: Part) -> None:
        await self.draw.choice(self.ways)(part)

    async def stays(self, part: Part) -> None:
        await streamed(self.client, *self.draw.choice(self.known), part)

    async def leaves_in_mid_stream(self, part: Part) -> None:
        request, _ = self.draw.choice(self.known)
        part.left_early += 1
        lines = self.draw.randrange(20)
        async with self.client.stream("POST", "/v1/completions", json=body(request, stream=True)) as answer:
            async for _ in answer.aiter_lines():
                lines -= 1
                if lines < 0:
                    return

    async def leaves_while_it_waits(self, part: Part) -> None:
        request, _ = self.draw.choice(self.known)
        part.left_early += 1
        with suppress(TimeoutError):
            async with asyncio.timeout(self.draw.random() * 0.3):
                await self.client.post("/v1/completions", json=body(request, stream=False))

    async def connects_only(self, part: Part) -> None:
        part.left_early += 1
        await self._by_hand(b"")

    async def sends_half(self, part: Part) -> None:
        part.left_early += 1
        await self._by_hand(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")

    async def sends_rubbish(self, part: Part) -> None:
        part.requests += 1
        answer = await self.client.post("/v1/completions", content=self.draw.randbytes(40))
        if answer.status_code == 400:
            part.right += 1
        else:
            part.wrong[f"status {answer.status_code}"] += 1

    async def _by_hand(self, data: bytes) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        writer.write(data)
        await asyncio.sleep(self.draw.random() * 0.05)
        writer.close()


async def known_answers(client: httpx.AsyncClient) -> list[tuple[ClientRequest, tuple[int, ...]]]:
    return [(request, await alone(client, request)) for request in requests(40, seed=2)]


async def churn_part(server: Server, count: int) -> Part:
    part = Part(f"{count:,} random clients")
    async with server.client() as client:
        crowd = Crowd(server, client, await known_answers(client))
        await concurrently(count, 50, lambda _: crowd.come(part), part)
        part.held_at_end = await until_empty(client)
    return part


async def kill_part(server: Server) -> Part:
    """Kill the server during 20 streams, and restart it.

    Clients must get an error immediately. After the restart the same requests must get the same answers.
    """
    part = Part("kill -9 and restart")
    async with server.client() as client:
        everything = await known_answers(client)
        struck = Part("struck")

        async def act(number: int) -> None:
            await streamed(client, *everything[number], struck)

        running = asyncio.create_task(concurrently(20, 20, act, struck))
        await asyncio.sleep(0.3)
        killed = time.perf_counter()
        await asyncio.to_thread(server.end, signal.SIGKILL)
        await running
        part.notes["seconds until all clients had an error"] = time.perf_counter() - killed
        part.notes["streams cut"] = sum(struck.wrong.values())
        part.notes["seconds to restart"] = await asyncio.to_thread(server.start)
    async with server.client() as client:

        async def again(number: int) -> None:
            await streamed(client, *everything[number], part)

        await concurrently(20, 20, again, part)
        part.held_at_end = await until_empty(client)
    return part


async def soak_part(server: Server, seconds: float) -> Part:
    part = Part(f"soak of {seconds:g} s")
    async with server.client() as client:
        crowd = Crowd(server, client, await known_answers(client))
        give_up = time.monotonic() + seconds
        await concurrently(200, 50, lambda _: crowd.come(part), part)  # warm up, so that memory can be compared
        before = server.megabytes()
        while time.monotonic() < give_up:
            await concurrently(200, 50, lambda _: crowd.come(part), part)
        part.held_at_end = await until_empty(client)
        part.notes |= {"MB before": before, "MB after": server.megabytes()}
    return part


def offline_speed(everything: list[ClientRequest]) -> float:
    """Return the tokens per second if the offline API, without a server, runs the requests ``everything``."""
    import torch

    from engine.entrypoints.llm import LLM
    from engine.request import SamplingParams

    torch.set_num_threads(1)
    llm = LLM(max_num_seqs=BATCH)
    prompts = [{"prompt_token_ids": request.prompt} for request in everything]
    params = [SamplingParams(temperature=0, max_tokens=request.max_tokens, ignore_eos=True) for request in everything]
    began = time.perf_counter()
    llm.generate(prompts, params, progress=False)
    return sum(request.max_tokens for request in everything) / (time.perf_counter() - began)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def show(parts: list[Part]) -> None:
    table = Table(title=f"server under load (batch {BATCH}, tiny-granite, greedy)")
    for column in ("part", "checked", "right", "wrong", "left", "s", "tokens/s", "TTFT p50 p99, s", "ITL p50 p99, ms"):
        table.add_column(column, justify="left" if column in ("part", "wrong") else "right")
    table.add_column("held after")
    for part in parts:
        table.add_row(
            part.name,
            f"{part.requests:,}",
            f"{part.right:,}",
            ", ".join(f"{name} {count}" for name, count in part.wrong.items()) or "-",
            f"{part.left_early:,}",
            f"{part.seconds:.1f}",
            f"{part.tokens / part.seconds:,.0f}",
            " ".join(f"{percentile(part.first_token, share):.2f}" for share in (0.5, 0.99)),
            " ".join(f"{percentile(part.between_tokens, share) * 1000:.0f}" for share in (0.5, 0.99)),
            ", ".join(f"{name} {value:g}" for name, value in part.held_at_end.items() if value) or "nothing",
        )
    console = Console(width=max(Console().width, 120))
    console.print(table)
    for part in parts:
        for name, value in part.notes.items():
            console.print(f"{part.name}: {name} {value:.1f}")


def summary(part: Part) -> dict[str, object]:
    """Return the results of a part of the test as they are written to JSON: with percentiles in place of lists."""
    plain = {name: value for name, value in asdict(part).items() if name not in ("first_token", "between_tokens")}
    for name in ("first_token", "between_tokens"):
        plain[name] = {f"p{share * 100:g}": percentile(getattr(part, name), share) for share in (0.5, 0.9, 0.99)}
    return plain


async def run(arguments: argparse.Namespace) -> list[Part]:
    server = Server()
    started = server.start()
    parts = [
        await streams_part(server, arguments.streams),
        await churn_part(server, arguments.churn),
        await kill_part(server),
        await soak_part(server, arguments.soak),
    ]
    parts[0].notes["seconds to start"] = started
    status = server.end(signal.SIGTERM)
    parts[0].notes["tokens/s without a server"] = offline_speed(requests(arguments.streams, seed=1))
    if status != 0:
        parts[-1].wrong[f"exit status {status}"] += 1
    return parts


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--streams", type=int, default=200, metavar="N", help="concurrent streams (default: %(default)s)"
    )
    parser.add_argument("--churn", type=int, default=1000, metavar="N", help="random clients (default: %(default)s)")
    parser.add_argument("--soak", type=float, default=60, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    arguments = parser.parse_args()
    show(parts := asyncio.run(run(arguments)))
    if arguments.json:
        arguments.json.write_text(json.dumps(list(map(summary, parts)), indent=1) + "\n", encoding="utf-8")
    return 0 if all(part.is_right for part in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
