"""Run the benchmarks of docs/performance.md one after the other, and write their results there.

    python benchmarks/all.py [NAME ...] [--plugin-python .venv-vllm/bin/python] [--plugin-tests FOLDER]

Each benchmark writes benchmarks/results/NAME.json; the tables between the markers in docs/performance.md are made from
those files. With ``--only-write`` no benchmark runs, and only the tables are written. All benchmarks together take
about half an hour, on a machine that should be idle otherwise.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- metrics: made by benchmarks/all.py -->", "<!-- end of metrics -->"
ORDER = (
    "step_overhead",
    "attention_ops",
    "memory_floor",
    "against_hugging_face",
    "compiled",
    "real_plugin",
    "simulation",
    "the_harness",
    "imports",
    "scaling",
)
LONG = ("whole_suite",)
"""Benchmarks that run only if the command line names them. Otherwise docs/performance.md keeps their last results."""


def rows(name: str) -> list[str]:
    """Return the results of a benchmark as a Markdown table; empty if it has no metrics or has not run."""
    file = RESULTS / f"{name}.json"
    if not file.is_file():
        return []
    found = json.loads(file.read_text(encoding="utf-8"))
    if not found["metrics"]:
        return []
    on = found["machine"]
    took = f"{on['processor']}, {on['cores']} cores, load {on['load']} at the end; {found['seconds']:.0f} s"
    lines = [f"### {found['title']}", "", f"`benchmarks/{name}.py`, {took}", ""]
    lines += ["| | measured | target | | from |", "| --- | --- | --- | --- | --- |"]
    for metric in found["metrics"]:
        cells = (metric["what"], metric["shown"], metric["wanted"], metric["verdict"], metric["base"])
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def write_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join(line for name in ORDER + LONG for line in rows(name))
    PAGE.write_text(f"{before}{BEGIN}\n\n{table}\n{END}{after}", encoding="utf-8")


def command(name: str, arguments: argparse.Namespace) -> list[str]:
    made = [sys.executable, f"benchmarks/{name}.py", "--json", str(RESULTS / f"{name}.json")]
    if name == "real_plugin":
        made += ["--plugin-python", str(arguments.plugin_python)]
        if arguments.plugin_tests:
            made += ["--plugin-tests", str(arguments.plugin_tests.resolve())]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"benchmarks to run: {', '.join(ORDER + LONG)}; default: all but {', '.join(LONG)}",
    )
    parser.add_argument("--plugin-python", type=Path, default=Path(".venv-vllm/bin/python"))
    parser.add_argument("--plugin-tests", type=Path, metavar="FOLDER", help="a checkout of vllm-spyre 1.6.1")
    parser.add_argument("--only-write", action="store_true", help="only write the tables from existing results")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in ORDER + LONG]
    if unknown:
        parser.error(f"there is no benchmark {unknown[0]}: choose from {', '.join(ORDER + LONG)}")
    failed = []
    for name in () if arguments.only_write else arguments.names or ORDER:
        if name == "real_plugin" and not (ROOT / arguments.plugin_python).is_file():
            print(f"real_plugin: {arguments.plugin_python} does not exist: run make venv-vllm", file=sys.stderr)
            failed.append(name)
            continue
        began = time.perf_counter()
        done = subprocess.run(command(name, arguments), cwd=ROOT, check=False)
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    write_page()
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; {PAGE.name} still has their earlier results")


if __name__ == "__main__":
    main()
