"""ComfyUI processes that are kept: ports, logs, starting again, limits, taking over, ending.

What runs is tests/fake_comfyui, with the Python of the tests.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from atelier.errors import ConfigurationError
from atelier.pool.supervisor import fleet as fleet_module
from atelier.pool.supervisor import warden
from atelier.pool.supervisor.checkout import find_checkout
from atelier.pool.supervisor.comfyui import ComfyUI, Limits
from atelier.pool.supervisor.devices import Device, cpus
from atelier.pool.supervisor.fleet import Fleet
from atelier.pool.supervisor.probe import any_free_port, comfyui_answers
from atelier.pool.supervisor.process import Process
from atelier.pool.supervisor.record import Record, end_recorded, recorded

FAKE = Path(__file__).parents[2] / "fake_comfyui"
QUICK = {
    "start_seconds": 30.0,
    "grace_seconds": 5.0,
    "check_seconds": 0.1,
    "ask_seconds": 0.2,
    "first_pause_seconds": 0.05,
    "longest_pause_seconds": 0.2,
}


@pytest.fixture
def first_port():
    return any_free_port()


@pytest.fixture
def new_fleet(tmp_path, first_port):
    """Makes fleets of the same folder; ``devices`` as many CPUs, or given ones."""

    def new(*arguments, devices=1, environment=None, **limits):
        checkout = find_checkout(FAKE, Path(sys.executable))
        members = [
            ComfyUI(
                checkout,
                device,
                tmp_path / "comfyui" / device.id,
                log_file=tmp_path / "logs" / f"{device.id}.log",
                arguments=tuple(map(str, arguments)),
                environment={**os.environ, **(environment or {})},
                limits=Limits(**QUICK | limits),
            )
            for device in (cpus(devices, 4, {}) if isinstance(devices, int) else devices)
        ]
        return Fleet(tmp_path / "comfyui", members, first_port=first_port)

    return new


async def until(true, seconds=30):
    """What ``true`` returns, once that is true."""
    async with asyncio.timeout(seconds):
        while True:
            if found := true():
                return found
            await asyncio.sleep(0.02)


async def answering(member, other_than=None):
    """Its process id once it answers."""
    await until(lambda: member.trouble is None and pid_of(member) != other_than)
    assert await comfyui_answers(member.url)
    return pid_of(member)


def pid_of(member):
    return Record.read(member.folder).pid


def lives(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_each_has_a_port_folders_and_a_log_of_its_own_and_keeps_the_port(new_fleet):
    async with new_fleet(devices=2) as fleet:
        first, second = fleet.members
        assert {first.id, second.id} == {"cpu-0", "cpu-1"}
        pids = [await answering(member) for member in fleet.members]
        assert first.url != second.url
        for member in fleet.members:
            assert all((member.folder / kind).is_dir() for kind in ("input", "output", "user"))
            assert f"Starting server on 127.0.0.1:{member.port}" in member.log_file.read_text()
            assert member.explain() is None
        ports = [member.port for member in fleet.members]
    assert not any(map(lives, pids)), "a clean stop leaves nothing behind"
    async with new_fleet(devices=2) as fleet:
        assert [member.port for member in fleet.members] == ports
        assert await answering(fleet.members[0]) not in pids


async def test_port_that_somebody_took_is_replaced(new_fleet, first_port):
    with socket.socket() as other:
        other.bind(("127.0.0.1", first_port))
        other.listen()
        async with new_fleet() as fleet:
            assert fleet.members[0].port > first_port
            await answering(fleet.members[0])


async def test_process_sees_its_device_and_no_secret(new_fleet):
    device = Device("gpu-3", "a GPU", environment={"CUDA_VISIBLE_DEVICES": "3"})
    async with new_fleet(devices=[device]) as fleet:
        await answering(fleet.members[0])
        assert "device: 3 secret: None" in fleet.members[0].log_file.read_text()
        assert "--cpu" not in fleet.members[0].command()
        # The fake one has no such options, as ComfyUIs of other years have not.
        assert "--database-url" not in fleet.members[0].command()


async def test_killed_one_is_started_again_at_its_address(new_fleet):
    async with new_fleet() as fleet:
        (member,) = fleet.members
        pid, url = await answering(member), member.url
        os.kill(pid, signal.SIGKILL)
        trouble = await until(lambda: member.trouble)
        assert "was killed" in trouble
        assert await answering(member, other_than=pid)
        assert member.url == url


async def test_one_that_can_not_start_says_why_in_a_sentence_and_is_tried_ever_again(
    new_fleet, tmp_path
):
    broken = tmp_path / "broken"
    broken.touch()
    async with new_fleet("--broken", broken) as fleet:
        (member,) = fleet.members
        said = await until(lambda: "exit code" in (member.trouble or "") and member.explain())
        assert "It ended with exit code 1: ModuleNotFoundError: No module named 'torch'." in said
        assert str(member.log_file) in said
        assert "Traceback" not in said
        await until(lambda: member._backoff.failures >= 3)
        broken.unlink()
        await answering(member)
        assert member.explain() is None


async def test_starting_is_told(new_fleet):
    async with new_fleet() as fleet:
        await until(lambda: fleet.members[0].trouble)
        assert "It is starting" in fleet.members[0].explain()


async def test_port_that_is_taken_while_it_is_down_is_told(new_fleet):
    async with new_fleet() as fleet:
        (member,) = fleet.members
        # Its own port is held by its own process: a second launch must not answer for it.
        await answering(member)
        with pytest.raises(ConfigurationError, match=f"Port {member.port} is used"):
            member._launch()


async def test_one_that_holds_too_much_memory_goes_when_idle(new_fleet, tmp_path):
    queue = tmp_path / "queue.json"
    queue.write_text(json.dumps({"queue_running": [[0, "a prompt"]], "queue_pending": []}))
    limit = {"memory_bytes": 150_000_000}
    async with new_fleet("--hold-mb", 200, "--queue", queue, **limit) as fleet:
        (member,) = fleet.members
        pid = await answering(member)
        with pytest.raises(TimeoutError):
            await until(lambda: member.trouble, seconds=0.5)
        member.busy = lambda: True
        queue.unlink()
        with pytest.raises(TimeoutError):
            await until(lambda: member.trouble, seconds=0.5)
        member.busy = lambda: False
        assert "of memory when idle" in await until(lambda: member.trouble)
        await until(lambda: not lives(pid))


async def test_one_over_the_hard_limit_goes_at_once(new_fleet, tmp_path):
    queue = tmp_path / "queue.json"
    queue.write_text(json.dumps({"queue_running": [[0, "a prompt"]], "queue_pending": []}))
    limit = {"memory_hard_bytes": 150_000_000}
    async with new_fleet("--hold-mb", 200, "--queue", queue, **limit) as fleet:
        (member,) = fleet.members
        pid = await answering(member)
        assert "hard limit of 0.15 GB" in await until(lambda: member.trouble)
        await until(lambda: not lives(pid))


async def test_frozen_one_is_ended_and_started_again(new_fleet):
    async with new_fleet(silent_seconds=0.5, grace_seconds=0.2) as fleet:
        (member,) = fleet.members
        pid = await answering(member)
        os.kill(pid, signal.SIGSTOP)
        assert "did not answer for" in await until(lambda: member.trouble)
        await answering(member, other_than=pid)
        assert not lives(pid)


async def test_stubborn_one_is_killed_and_its_children_with_it(new_fleet, tmp_path):
    child = tmp_path / "child"
    async with new_fleet("--stubborn", "--child", child, grace_seconds=0.3) as fleet:
        pid = await answering(fleet.members[0])
        child_pid = int(await until(lambda: child.exists() and child.read_text()))
        assert lives(child_pid)
    assert not lives(pid)
    await until(lambda: not lives(child_pid))


async def test_child_of_one_that_died_goes_before_it_is_started_again(new_fleet, tmp_path):
    child = tmp_path / "child"
    async with new_fleet("--child", child) as fleet:
        pid = await answering(fleet.members[0])
        orphan = int(await until(lambda: child.exists() and child.read_text()))
        os.kill(pid, signal.SIGKILL)
        await answering(fleet.members[0], other_than=pid)
        await until(lambda: not lives(orphan))


OWNER = """
import asyncio, os, pathlib, sys
from atelier.pool.supervisor.checkout import find_checkout
from atelier.pool.supervisor.comfyui import ComfyUI, Limits
from atelier.pool.supervisor.devices import cpus
from atelier.pool.supervisor.fleet import Fleet
fake, folder, port = sys.argv[1:]
folder = pathlib.Path(folder)
async def main():
    members = [
        ComfyUI(find_checkout(pathlib.Path(fake), pathlib.Path(sys.executable)), device,
                folder / "comfyui" / device.id, log_file=folder / "logs" / f"{device.id}.log",
                environment=dict(os.environ), limits=Limits())
        for device in cpus(2, 4, {})
    ]
    async with Fleet(folder / "comfyui", members, first_port=int(port)) as fleet:
        while any(member.trouble for member in fleet.members):
            await asyncio.sleep(0.02)
        print("ready", flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
async def orphans(tmp_path, first_port):
    """The process ids of two that an owner who was killed has left running."""
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(FAKE), str(tmp_path), str(first_port)),
        stdout=subprocess.PIPE,
    )
    try:
        said = [line async for line in owner.stdout if line == b"ready\n" and owner.kill() is None]
        await owner.wait()
        assert said
        pids = [Record.read(tmp_path / "comfyui" / id).pid for id in ("cpu-0", "cpu-1")]
        assert all(map(lives, pids))
        yield pids
    finally:
        await end_recorded(tmp_path / "comfyui")  # its warden waits for minutes yet


async def test_those_of_a_killed_owner_are_taken_over(new_fleet, orphans, tmp_path):
    warden_of_before = Record.read(tmp_path / "comfyui" / "warden").pid
    assert lives(warden_of_before)
    async with new_fleet(devices=2) as fleet:
        assert [await answering(member) for member in fleet.members] == orphans
        first, second = fleet.members
        assert not lives(warden_of_before), "each owner has one warden"
        # One that isn't our child is missed as well.
        os.kill(orphans[0], signal.SIGKILL)
        await until(lambda: first.trouble)
        assert await answering(first, other_than=orphans[0])
        assert pid_of(second) == orphans[1]
    assert not any(map(lives, orphans))
    assert not any(record.process for record in recorded(tmp_path / "comfyui").values())


async def test_those_that_are_not_wanted_any_more_or_started_differently_are_ended(
    new_fleet, orphans
):
    async with new_fleet("--hold-mb", "1") as fleet:
        assert await answering(fleet.members[0]) not in orphans
        assert not any(map(lives, orphans))


async def test_nobody_comes_back_and_the_warden_ends_them(orphans, tmp_path, monkeypatch):
    monkeypatch.setattr(warden, "LOOK_SECONDS", 0.02)
    assert await asyncio.to_thread(warden.main, tmp_path / "comfyui", 0.0) == 0
    assert not any(map(lives, orphans))


async def test_warden_leaves_what_has_a_new_owner(new_fleet, tmp_path, monkeypatch):
    lingering, entered = threading.Event(), threading.Event()

    def linger(seconds):
        lingering.set()
        assert entered.wait(30)

    monkeypatch.setattr(warden, "time", SimpleNamespace(sleep=linger))
    (tmp_path / "comfyui").mkdir()
    watching = asyncio.create_task(asyncio.to_thread(warden.main, tmp_path / "comfyui", 1.0))
    await until(lingering.is_set)
    async with new_fleet() as fleet:
        pid = await answering(fleet.members[0])
        entered.set()
        assert await watching == 0
        assert lives(pid)


async def test_process_id_that_another_has_got_is_not_taken_for_ours(new_fleet, tmp_path):
    async with new_fleet() as fleet:
        await answering(fleet.members[0])
        port = fleet.members[0].port
    ours = Process.find(os.getpid())
    Record(port=port, pid=ours.pid, created=ours.created - 100).write(tmp_path / "comfyui/cpu-0")
    async with new_fleet() as fleet:
        assert await answering(fleet.members[0]) != os.getpid()


async def test_second_owner_is_refused(new_fleet, monkeypatch):
    monkeypatch.setattr(fleet_module, "OWNER_SECONDS", 0.0)
    async with new_fleet(devices=0):
        with pytest.raises(ConfigurationError, match="Another atelier keeps"):
            await new_fleet().__aenter__()
