"""Tests of Spyre cards in a directory tree that imitates a machine: discovery, leases, release after ``kill -9``."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.cards.discovery import CardsError, find_cards
from harness.cards.holders import holders
from harness.cards.lease import lease, leased_by, lock_folder
from harness.cli import main
from tests.helpers.paths import ROOT
from tests.helpers.pytest_runs import GOOD, run, write

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="cards are found in /sys and /dev")

BUS_IDS = ("0000:29:00.0", "0000:2a:00.0", "0001:00:00.0")
BOUND = 60.0
HOLD = """\
import sys, time
from harness.cards.discovery import find_cards
from harness.cards.lease import lease
with lease(find_cards(), int(sys.argv[1])) as mine:
    print(*(card.bus_id for card in mine.cards), flush=True)
    time.sleep(float(sys.argv[2]))
"""
OPEN = "import sys, time\nfile = open(sys.argv[1])\nprint('open', flush=True)\ntime.sleep(float(sys.argv[2]))\n"


def machine(folder: Path, cards: int) -> dict[str, str]:
    """Write a tree that imitates a machine with ``cards`` Spyre cards and one other device.

    Returns the environment variables with which a run uses this tree.
    """
    devices = dict.fromkeys(BUS_IDS[:cards], ("0x1014", "0x06a7")) | {"0000:00:02.0": ("0x8086", "0x0046")}
    (folder / "root/dev/vfio").mkdir(parents=True)
    for number, (bus_id, (vendor, device)) in enumerate(devices.items()):
        place = folder / "root/sys/bus/pci/devices" / bus_id
        place.mkdir(parents=True)
        (place / "vendor").write_text(f"{vendor}\n")
        (place / "device").write_text(f"{device}\n")
        (folder / f"root/sys/kernel/iommu_groups/{number}").mkdir(parents=True)
        (place / "iommu_group").symlink_to(folder / f"root/sys/kernel/iommu_groups/{number}")
        (folder / f"root/dev/vfio/{number}").touch()
    return {"SPYRE_CARDS_ROOT": str(folder / "root"), "SPYRE_CARDS_LOCKS": str(folder / "locks")}


def start(program: str, environ: Mapping[str, str], *arguments: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, stdout=subprocess.PIPE, text=True)


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# --- which there are -------------------------------------------------------------------------------------------


def test_cards_are_found_on_the_bus_with_the_files_that_use_them(tmp_path: Path) -> None:
    environ = machine(tmp_path, 2)
    cards = find_cards(environ)
    assert [(card.index, card.bus_id) for card in cards] == [(0, "0000:29:00.0"), (1, "0000:2a:00.0")]
    assert cards[1].node == tmp_path / "root/dev/vfio/1"
    cards[1].node.unlink()
    assert find_cards(environ)[1].node is None
    assert find_cards({"SPYRE_CARDS_ROOT": str(tmp_path / "nothing")}) == ()


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ({"PCIDEVICE_IBM_COM_AIU_PF": "0001:00:00.0,0000:29:00.0"}, ["0001:00:00.0", "0000:29:00.0"]),
        ({"AIU_WORLD_RANK_0": "0000:2a:00.0", "PCIDEVICE_IBM_COM_AIU_PF": "0001:00:00.0"}, ["0000:2a:00.0"]),
        ({"AIU_WORLD_RANK_0": "a", "AIU_WORLD_RANK_1": "b", "AIU_WORLD_RANK_3": "d"}, ["a", "b"]),
        ({"AIU_WORLD_RANK_1": "b"}, list(BUS_IDS)),
        ({"SPYRE_CARDS": "2,0"}, ["0001:00:00.0", "0000:29:00.0"]),
        ({"SPYRE_CARDS": "0000:2a:00.0, 1"}, ["0000:2a:00.0"]),
    ],
)
def test_what_a_cluster_or_a_person_says_goes_before_the_bus(
    tmp_path: Path, message: dict[str, str], found: list[str]
) -> None:
    assert [card.bus_id for card in find_cards(machine(tmp_path, 3) | message)] == found


def test_a_choice_of_cards_that_are_not_there_is_one_sentence(tmp_path: Path) -> None:
    environ = machine(tmp_path, 2)
    unknown = (
        r"^SPYRE_CARDS=0,7: '7' is not a card of this machine; the cards of this machine are: 0 \(0000:29:00.0\), 1"
    )
    with pytest.raises(CardsError, match=unknown):
        find_cards(environ | {"SPYRE_CARDS": "0,7"})
    with pytest.raises(CardsError, match="names no card"):
        find_cards(environ | {"SPYRE_CARDS": ""})
    write(tmp_path, mine=GOOD)
    done = run(tmp_path, "--cb-simulate", "mine.yaml", **environ, SPYRE_CARDS="7")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "SPYRE_CARDS=7: '7' is not a card of this machine" in done.stdout + done.stderr


# --- leases ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "soon", ""])
def test_a_time_to_wait_that_is_no_number_of_seconds_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: str
) -> None:
    environ = machine(tmp_path, 1)
    monkeypatch.setenv("SPYRE_CARDS_WAIT", seconds)
    with pytest.raises(
        CardsError, match=f"^SPYRE_CARDS_WAIT={seconds}: the value must be a number of seconds, 0 or more$"
    ):
        lease(find_cards(environ), 1, folder=lock_folder(environ))


def test_two_processes_never_have_the_same_card_and_kill_9_gives_it_back(tmp_path: Path) -> None:
    environ = machine(tmp_path, 2)
    holding = [start(HOLD, environ, "1", "600") for _ in range(2)]
    try:
        assert {first_line(process) for process in holding} == set(BUS_IDS[:2])
        cards, locks = find_cards(environ), lock_folder(environ)
        assert {(has := leased_by(card, locks)) and has.pid for card in cards} == {p.pid for p in holding}
        with pytest.raises(
            CardsError, match=r"a card did not become free in 0 s: 0 \(.*\) is leased by process \d+; 1"
        ):
            lease(cards, 1, folder=locks, wait=0)
        holding[0].kill()
        holding[0].wait()
        with lease(cards, 1, folder=locks, wait=BOUND) as mine:
            assert leased_by(mine.cards[0], locks) is not None
            with pytest.raises(CardsError, match="2 cards did not become free"):
                lease(cards, 2, folder=locks, wait=0)
        assert [leased_by(card, locks) is None for card in mine.cards] == [True]
    finally:
        for process in holding:
            process.kill()
            process.communicate()


def test_a_card_is_not_free_while_a_process_has_it_open(tmp_path: Path) -> None:
    environ = machine(tmp_path, 1)
    (card,), locks = find_cards(environ), lock_folder(environ)
    assert card.node is not None
    dying = start(OPEN, environ, str(card.node), "600")
    try:
        assert first_line(dying) == "open"
        assert holders(card) == [dying.pid]
        with pytest.raises(CardsError, match=rf"is open in process {dying.pid}; to wait longer"):
            lease([card], 1, folder=locks, wait=0)
        waiting = start(HOLD, environ, "1", "0")
        time.sleep(0.5)
        assert waiting.poll() is None
        dying.kill()
        assert waiting.communicate(timeout=BOUND)[0].strip() == card.bus_id
    finally:
        dying.kill()
        dying.communicate()


def test_a_group_takes_all_its_cards_or_none_and_tells_the_runtime_which(tmp_path: Path) -> None:
    environ = machine(tmp_path, 3)
    cards, locks = find_cards(environ), lock_folder(environ)
    with lease(cards, 2, folder=locks, wait=0) as mine:
        expected = mine.environ
        assert (expected["AIU_WORLD_SIZE"], expected["SPYRE_DEVICES"]) == ("2", "0,1")
        assert (expected["AIU_WORLD_RANK_0"], expected["AIU_WORLD_RANK_1"]) == BUS_IDS[:2]
        assert expected["AIU_WORLD_RANK_2"] is None
        with pytest.raises(CardsError):
            lease(cards, 2, folder=locks, wait=0)
        with lease(cards, 1, folder=locks, wait=0) as another:
            assert another.cards == cards[2:], "the one that the group could not use is not held back"
    with pytest.raises(CardsError, match="the engine needs 4 cards, but this run may use 3: "):
        lease(cards, 4, folder=locks, wait=0)


# --- under pytest ----------------------------------------------------------------------------------------------

SENDNN = GOOD.replace("cases:", "parameters: {backend: [sendnn]}\ncases:")
RECORDS = """\
import os, time
from harness.drivers.reference import SimulationDriver
SimulationDriver.unavailable = lambda self, setup: None
SimulationDriver.backend_label = lambda self, backend: backend
opened = SimulationDriver.open
def open_(self, setup):
    names = ("AIU_WORLD_SIZE", "AIU_WORLD_RANK_0", "AIU_WORLD_RANK_1")
    with open(os.environ["CARDS_FILE"], "a") as file:
        print(os.getpid(), *(os.environ.get(name) for name in names), file=file)
    time.sleep(2)
    return opened(self, setup)
SimulationDriver.open = open_
"""


@pytest.mark.parametrize("mode", ["--cb-isolation=none", "--forked", "--cb-isolation=engine"])
def test_an_engine_has_a_card_of_its_own(tmp_path: Path, mode: str) -> None:
    environ = machine(tmp_path, 2)
    # An engine of another shape, since the cases of one engine run in one worker.
    two = SENDNN.replace("mine", "two").replace("    requests:", "    limits: {max_num_seqs: 8}\n    requests:")
    write(tmp_path, one=SENDNN.replace("mine", "one"), two=two)
    (tmp_path / "conftest.py").write_text(RECORDS, encoding="utf-8")
    expected = tmp_path / "leased"
    arguments = ["-p", "no:schemathesis", "--cb-simulate", mode, "one.yaml", "two.yaml"]
    done = run(tmp_path, *arguments, "-n2", **environ, CARDS_FILE=str(expected))
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    lines = [line.split() for line in expected.read_text(encoding="utf-8").splitlines()]
    assert {tuple(line[1:]) for line in lines} == {("1", bus_id, "None") for bus_id in BUS_IDS[:2]}
    assert len({line[0] for line in lines}) == 2
    results = tmp_path / "r.jsonl"
    done = run(
        tmp_path,
        *arguments,
        **environ,
        CARDS_FILE=str(expected),
        SPYRE_CARDS="1",
        PYTEST_ADDOPTS=f"--cb-results {results}",
    )
    header, *_, footer = map(json.loads, results.read_text(encoding="utf-8").splitlines())
    assert (header["cards"], header["simulated"]) == (["1 (0000:2a:00.0)"], False)
    assert footer["leases"] == {"0000:2a:00.0": 2}
    assert "1 card: 1 (0000:2a:00.0); 0 in use" in done.stdout
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_cards_that_do_not_become_free_are_one_sentence(tmp_path: Path) -> None:
    environ = machine(tmp_path, 1)
    write(tmp_path, mine=SENDNN)
    (tmp_path / "conftest.py").write_text(RECORDS, encoding="utf-8")
    with lease(find_cards(environ), 1, folder=lock_folder(environ), wait=0):
        for mode in ("none", "engine"):
            more = {"CARDS_FILE": str(tmp_path / "leased"), "SPYRE_CARDS_WAIT": "0"}
            done = run(tmp_path, "--cb-simulate", f"--cb-isolation={mode}", "mine.yaml", **environ, **more)
            assert done.returncode == 1
            assert (
                f"a card did not become free in 0 s: 0 (0000:29:00.0) is leased by process {os.getpid()}" in done.stdout
            )
            assert "Traceback" not in done.stdout + done.stderr


def test_the_command_lists_cards_and_who_has_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in machine(tmp_path, 3).items():
        monkeypatch.setenv(name, value)
    cards = find_cards(os.environ)
    assert cards[2].node is not None
    cards[2].node.unlink()
    with lease(cards[1:2], 1, wait=0):
        assert main(["cards"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "0  0000:29:00.0  free"
    assert lines[1].startswith(f"1  0000:2a:00.0  leased by process {os.getpid()} since 20")
    assert (
        lines[2] == "2  0001:00:00.0  not leased; processes that have the card open can't be found, "
        "because the card has no file in /dev/vfio"
    )
    monkeypatch.setenv("SPYRE_CARDS", "9")
    assert main(["cards"]) == 2
    monkeypatch.delenv("SPYRE_CARDS")
    monkeypatch.setenv("SPYRE_CARDS_ROOT", str(tmp_path / "nothing"))
    assert main(["cards"]) == 0
    assert capsys.readouterr().out == "this machine has no Spyre cards\n"


def test_a_signal_that_ends_the_holder_is_no_different(tmp_path: Path) -> None:
    environ = machine(tmp_path, 1)
    holding = start(HOLD, environ, "1", "600")
    assert first_line(holding) == BUS_IDS[0]
    holding.send_signal(signal.SIGTERM)
    holding.communicate()
    with lease(find_cards(environ), 1, folder=lock_folder(environ), wait=BOUND):
        pass
