"""Runs of several processes: on one machine, on two that are network namespaces, and what befalls them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from trainer.contract.errors import InputError
from trainer.contract.events import read_events
from trainer.contract.params import checked
from trainer.contract.run_folder import RunFolder
from trainer.training import processes
from trainer.training.processes import check_processes, find_interface, is_first, rank, shares_of_data

LIMIT_S = 240
TRAINER = (sys.executable, "-m", "trainer")


@pytest.fixture
def flags(make_checkpoint: Callable[..., object], tmp_path: Path) -> tuple[str, ...]:
    make_checkpoint(tmp_path / "base.pth", n_layer=2, n_embd=32, vocab=65536, head_size=16, seed=3)
    rows = (f"User: number {i}\n\nAssistant: {i} and {i * i % 97} and {i * 7 % 13}" for i in range(24))
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"text": row}) for row in rows))
    return (
        f"--base-model={tmp_path / 'base.pth'}", f"--data={data}", "--epoch-count=2", "--ctx-len=64",
        "--epoch-steps=0", "--micro-bsz=1", "--lora-r=4", "--lora-alpha=8", "--lora-dropout=0",
        "--precision=fp32", "--no-grad-cp", "--no-drift", "--lr-init=1e-2", "--lr-final=1e-2",
    )  # fmt: skip


@pytest.fixture
def expected(flags: tuple[str, ...], tmp_path: Path) -> dict[int, float]:
    """The losses of one process."""
    folder = RunFolder(tmp_path / "one")
    assert train(folder, *flags, "--accumulate-grad-batches=4").returncode == 0
    return losses(folder)


def train(
    folder: RunFolder, *arguments: str, launcher: tuple[str, ...] = TRAINER, **options: object
) -> subprocess.CompletedProcess[bytes]:
    command = [*launcher, "train", f"--run-dir={folder.path}", *arguments]
    return subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False, **options)  # type: ignore[call-overload]


def losses(folder: RunFolder) -> dict[int, float]:
    return {e["step"]: e["loss"] for e in read_events(folder.events)[0] if e.t == "step"}


def torchrun(count: int) -> tuple[str, ...]:
    program = (sys.executable, "-m", "torch.distributed.run")
    return (*program, f"--nproc_per_node={count}", f"--master_port={free_port()}", "-m", "trainer")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "GLOO_SOCKET_IFNAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize(
    ("environment", "number"),
    [
        ({}, 0),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "4"}, 1),
        ({"NODE_RANK": "1"}, 2),
        ({"LOCAL_RANK": "1", "NODE_RANK": "1", "WORLD_SIZE": "4"}, 3),
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}, 3),
    ],
)
def test_who_this_process_is(
    environment: dict[str, str], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank(2) == number
    assert is_first() is (number == 0)


@pytest.mark.usefixtures("alone")
def test_a_launcher_that_starts_another_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    params = checked({"base_model": "b", "data": "d", "devices": 2, "num_nodes": 2})
    check_processes(params)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    check_processes(params)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match="3 processes were started") as caught:
        check_processes(params)
    assert caught.value.code == "processes_differ"


def test_what_devices_do_to_the_data_is_said() -> None:
    values = {"base_model": "b", "data": "d", "micro_bsz": 2, "accumulate_grad_batches": 4}
    assert shares_of_data(checked(values)) == ()
    (note,) = shares_of_data(checked({**values, "devices": 2, "num_nodes": 3}))
    assert (note.code, note.args) == ("devices_share_data", {"devices": 6, "each": 8, "samples": 48})
    assert "48" in note.sentence()


@pytest.mark.usefixtures("alone")
def test_messages_go_over_the_interface_that_leads_to_the_first_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "set, so that what is found goes at the end of the test")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    find_interface()
    addresses = psutil.net_if_addrs()[os.environ["GLOO_SOCKET_IFNAME"]]
    assert "127.0.0.1" in [address.address for address in addresses]
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "mine")
    find_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "mine"


@pytest.mark.timeout(2 * LIMIT_S)
def test_two_processes_of_torchrun_equal_one_and_only_the_first_writes(
    flags: tuple[str, ...], expected: dict[int, float], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "two")
    both = (*flags, "--accumulate-grad-batches=2", "--devices=2")
    done = train(folder, *both, launcher=torchrun(2))
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert losses(folder) == pytest.approx(expected, abs=1e-5)
    events = read_events(folder.events)[0]
    assert [event.seq for event in events] == list(range(len(events)))
    assert [event.t for event in events].count("bye") == 1
    shared = next(e for e in events if e.t == "warning" and e["code"] == "devices_share_data")
    assert shared["args"] == {"devices": 2, "each": 2, "samples": 4}
    # Another number of processes than the run has is refused, and the run is as it was.
    refused = train(folder, "--resume", launcher=torchrun(1))
    assert refused.returncode != 0
    assert b"error[processes_differ]" in refused.stderr
    assert folder.status() == "completed"


def _until_step(folder: RunFolder, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not folder.events.exists() or not losses(folder):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.timeout(2 * LIMIT_S)
def test_a_process_that_dies_ends_the_run_with_a_code_and_it_resumes(
    flags: tuple[str, ...], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    command = [*TRAINER, "train", f"--run-dir={folder.path}", *flags, "--devices=2", "--epoch-count=400"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **quiet) as process:  # type: ignore[call-overload]
        _until_step(folder, process)
        (other,) = psutil.Process(process.pid).children()
        other.kill()
        _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1
    assert b"error[process_lost]" in said
    error = next(e for e in read_events(folder.events)[0] if e.t == "error")
    assert error["args"] == {"what": "rank 1, signal 9"}
    assert read_events(folder.events)[0][-1].t == "bye"
    assert folder.status() == "failed"
    with subprocess.Popen([*TRAINER, "train", f"--run-dir={folder.path}", "--resume"], **quiet) as process:  # type: ignore[call-overload]
        seen = len(read_events(folder.events)[0])
        while not any(e.t == "step" for e in read_events(folder.events)[0][seen:]):
            assert process.poll() is None
            time.sleep(0.05)
        (other,) = psutil.Process(process.pid).children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 3
    assert not other.is_running()
    assert folder.status() == "stopped"
    assert folder.checkpoints()[-1].meta.step == max(losses(folder))


def test_a_process_that_nobody_notices_ends_the_run_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GRACE_S", 0.1)
    told = []
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"]) as child:
        others = processes.Others(lambda: [child], told.append)
        deadline = time.monotonic() + 60
        while not told:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        others.close(failed=True)
    assert told[0].problem.args == {"what": "rank 1, status 7"}


@pytest.mark.timeout(LIMIT_S)
def test_when_the_first_process_is_killed_the_others_end_too(flags: tuple[str, ...], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    command = [*TRAINER, "train", f"--run-dir={folder.path}", *flags, "--devices=2", "--epoch-count=400"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        _until_step(folder, process)
        (other,) = psutil.Process(process.pid).children()
        process.kill()
    deadline = time.monotonic() + LIMIT_S
    while other.is_running() and other.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert folder.status() == "interrupted"


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them: 10.77.0.1 and 10.77.0.2."""
    first, second = (f"runner-{os.getpid()}-{n}" for n in (1, 2))
    commands = (
        f"netns add {first}", f"netns add {second}",
        f"-n {first} link add lan0 type veth peer name lan1",
        f"-n {first} link set lan1 netns {second}",
        f"-n {first} addr add 10.77.0.1/24 dev lan0", f"-n {second} addr add 10.77.0.2/24 dev lan1",
        f"-n {first} link set lan0 up", f"-n {second} link set lan1 up",
        f"-n {first} link set lo up", f"-n {second} link set lo up",
    )  # fmt: skip
    try:
        for command in commands:
            done = subprocess.run(["ip", *command.split()], capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"network namespaces need root: {done.stderr.decode().strip()}")
        yield first, second
    except FileNotFoundError:
        pytest.skip("network namespaces need the program ip")
    finally:
        for name in (first, second):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@pytest.mark.timeout(2 * LIMIT_S)
def test_two_machines_equal_one_and_only_the_first_writes(
    flags: tuple[str, ...], expected: dict[int, float], machines: tuple[str, str], tmp_path: Path
) -> None:
    started = []
    for number, machine in enumerate(machines):
        environment = {"NODE_RANK": str(number), "MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29500"}
        command = [
            "ip", "netns", "exec", machine, *TRAINER, "train", f"--run-dir={tmp_path / machine}", *flags,
            "--accumulate-grad-batches=2", "--num-nodes=2", "--strategy=ddp",
        ]  # fmt: skip
        started.append(
            subprocess.Popen(
                command, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    deadline = time.monotonic() + LIMIT_S
    while any(process.poll() is None for process in started):
        failed = any(process.poll() for process in started)  # the other one would wait for it
        if failed or time.monotonic() > deadline:
            for process in started:
                process.kill()
        time.sleep(0.1)
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert losses(RunFolder(tmp_path / machines[0])) == pytest.approx(expected, abs=1e-5)
    assert not (tmp_path / machines[1]).exists()
