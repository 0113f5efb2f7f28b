"""Run the workload of real_plugin.py on one engine. real_plugin.py runs this script once in each environment.

    python benchmarks/driven.py reference|vllm

The script starts an engine with its driver and writes a line of JSON. Then, for each line on standard input, it runs
the workload and writes a line with the seconds, the number of steps, and the tokens of each request. It ends when its
input ends.
"""

import json
import sys
import time

from workload import BATCH, CONTEXT, MODEL, prompts

from harness.drivers.base import Driver, Session
from harness.types import EngineSetup, RequestSpec, SchedulingLimits


def driver(name: str) -> Driver:
    if name == "vllm":
        from harness.drivers.vllm import VllmDriver

        return VllmDriver()
    from harness.drivers.reference import ReferenceDriver

    return ReferenceDriver()


def run(session: Session) -> dict[str, object]:
    session.reset(SchedulingLimits())
    requests = [RequestSpec(i, prompt, most) for i, (prompt, most) in enumerate(prompts())]
    tokens: list[list[int]] = [[] for _ in requests]
    began, steps = time.perf_counter(), 0
    for request in requests:
        session.add_request(request)
    while session.has_work():
        record = session.step()
        steps += 1
        for i, token in zip(record.request_outputs, record.tokens, strict=True):
            tokens[i].append(token.token_id)
    return {"seconds": time.perf_counter() - began, "steps": steps, "tokens": tokens}


def main() -> None:
    session = driver(sys.argv[1]).open(EngineSetup(MODEL, "eager", 1, CONTEXT, BATCH))
    print(json.dumps("ready"), flush=True)
    for _ in sys.stdin:
        print(json.dumps(run(session)), flush=True)


if __name__ == "__main__":
    main()
