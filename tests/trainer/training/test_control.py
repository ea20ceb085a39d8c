from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from trainer.contract.events import EventWriter, read_events
from trainer.contract.run_folder import RunFolder
from trainer.training.control import Control

PROJECT = Path(__file__).resolve().parents[3]


def acks(path: Path) -> list[tuple[object, object, object]]:
    events, _ = read_events(path)
    return [(e["id"], e["ok"], e["code"]) for e in events if e.t == "ack"]


def test_commands_of_the_run_folder_come_once_and_only_those_of_this_process(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.send({"cmd": "stop", "save": True, "id": 1})
    events = EventWriter(folder.events, None)
    control = Control(folder.control, events, None)
    assert control.take() == []
    folder.send({"cmd": "save", "id": 2})
    folder.send({"cmd": "dance", "id": 3})
    with open(folder.control, "ab") as file:
        file.write(b"not json\n[1]\n" + json.dumps({"cmd": "eval", "id": 4}).encode())  # still being written
    assert control.take() == [{"cmd": "save", "id": 2}]
    with open(folder.control, "ab") as file:
        file.write(b"\n")
    assert control.take() == [{"cmd": "eval", "id": 4}]
    assert control.take() == []
    events.close()
    assert acks(folder.events) == [(2, True, None), (3, False, "unknown_command"), (4, True, None)]


CHILD = """
import sys, time
from pathlib import Path
from trainer.contract.events import EventWriter
from trainer.training.control import Control, command_stream
events = EventWriter(Path(sys.argv[1], "events.jsonl"), None)
control = Control(Path(sys.argv[1], "control.jsonl"), events, command_stream())
time.sleep(float(sys.argv[2]))
print(control.take())
"""


def start(folder: Path, step_s: float) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", CHILD, str(folder), str(step_s)]
    return subprocess.Popen(argv, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_a_command_on_stdin_is_acknowledged_in_the_middle_of_a_step(tmp_path: Path) -> None:
    with start(tmp_path, 5.0) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(b'{"cmd": "stop", "save": true, "id": 7}\n')
        child.stdin.flush()
        began = time.monotonic()
        while not (tmp_path / "events.jsonl").exists() or not acks(tmp_path / "events.jsonl"):
            assert time.monotonic() - began < 30
            time.sleep(0.02)
        assert child.poll() is None
        assert acks(tmp_path / "events.jsonl") == [(7, True, None)]
        assert child.stdout.read().strip() == b"[{'cmd': 'stop', 'save': True, 'id': 7}]"


def test_a_pipe_that_stays_open_does_not_spoil_the_end(tmp_path: Path) -> None:
    with start(tmp_path, 0.2) as child:
        assert child.wait(30) == 0


def test_the_end_of_stdin_is_no_command(tmp_path: Path) -> None:
    with start(tmp_path, 0.5) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.close()
        assert child.stdout.read().strip() == b"[]"
        assert child.wait(30) == 0
