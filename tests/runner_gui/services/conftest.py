"""Real children for the services: Python code as a command."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from runner_gui.services.commands import Command

PROJECT = Path(__file__).resolve().parents[3]
PRELUDE = """
import json, os, signal, sys, time
def event(t, seq=0, **fields):
    line = json.dumps({"v": 1, "seq": seq, "ts": 1.0, "t": t, **fields}).encode()
    sys.stdout.buffer.write(b"\\x1e" + line + b"\\n")
    sys.stdout.buffer.flush()
"""
# A trainer without training: takes the lock, greets, beats, answers commands as `BEHAVIOUR` says.
TRAINER = """
import json, os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, {project!r})
from trainer.contract.events import EventWriter
from trainer.contract.run_folder import RunFolder
behaviour = {behaviour!r}
folder = RunFolder(sys.argv[1])
if "deaf" in behaviour:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
lock = folder.lock()
events = EventWriter(folder.events, None)
events.write("hello", run_id=folder.run_id, pid=os.getpid(), pgid=os.getpgrp())
offset, lines = folder.control.stat().st_size if folder.control.exists() else 0, []
def listen():
    for line in iter(sys.stdin.readline, ""):
        lines.append(line)
threading.Thread(target=listen, daemon=True).start()
step = 0
while True:
    time.sleep(0.02)
    if "silent" not in behaviour:
        step += 1
        events.write("step", step=step, epoch=0, total=1000, loss=2.0, lr=1e-4)
    if folder.control.exists() and folder.control.stat().st_size > offset:
        block = folder.control.read_bytes()[offset:]
        offset += len(block)
        lines.extend(block.decode().splitlines())
    while lines:
        command = json.loads(lines.pop(0))
        if "no-ack" in behaviour:
            continue
        events.write("ack", id=command["id"], ok=True)
        if command["cmd"] == "stop" and "no-stop" not in behaviour:
            if command["save"]:
                events.write("checkpoint", step=step, path="x", bytes=1, kind="final")
            events.write("bye", status="stopped", step=step, reason="command")
            sys.exit(3)
"""


MakeCommand = Callable[..., Command]


@pytest.fixture
def py_command() -> MakeCommand:
    """`py_command(code, *args)`: a command that runs Python code, with `event(t, …)` at hand."""

    def make(code: str, *args: str) -> Command:
        return Command((sys.executable, "-c", PRELUDE + code, *args))

    return make


@pytest.fixture
def fake_trainer() -> MakeCommand:
    """`fake_trainer(run_dir, *behaviour)`: a process that behaves like a trainer, or not quite."""

    def make(run_dir: Path, *behaviour: str) -> Command:
        code = TRAINER.format(project=str(PROJECT), behaviour=behaviour)
        return Command((sys.executable, "-c", code, str(run_dir)))

    return make


@pytest.fixture(autouse=True)
def no_child_outlives_its_test() -> Iterator[None]:
    """Fail where a process is left; it is ended, so that it disturbs no other test."""
    before = set(psutil.Process().children(recursive=True))  # such as the helper of Python's multiprocessing
    yield

    def living() -> list[psutil.Process]:
        return [p for p in psutil.Process().children(recursive=True) if p not in before and _lives(p)]

    deadline = time.monotonic() + 5.0
    while (left := living()) and time.monotonic() < deadline:
        time.sleep(0.05)
    names = [" ".join(p.cmdline()[:3])[:200] for p in left if _lives(p)]
    for process in left:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(5)
    assert names == []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
