"""The window itself on a played computer, from a bare Windows to an answer; every press is counted.

Each window is a process of its own, opened as the program opens it, in Chinese like its wsl.exe.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner_gui.model.series import RunSeries

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
LIMIT_S = 1500.0
OURS = "RwkvLoraRunner"
UBUNTU = {"guid": "{1}", "name": "Ubuntu", "base_path": "C:\\Users\\user\\Ubuntu", "state": 1, "flags": 15}

pytestmark = pytest.mark.timeout(2 * LIMIT_S)


class Window:
    """One start of the window, with somebody before it."""

    def __init__(self, computer: Any, scene: str, *arguments: str) -> None:
        env = {
            **computer.env,
            "PYTHONPATH": str(PROJECT),
            "PYTHONIOENCODING": "utf-8",
            "QT_QPA_PLATFORM": "offscreen",
            "OMP_NUM_THREADS": "1",
            "HOME": str(computer.file.parent),
        }
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "at_window.py"), scene, *arguments], env=env, cwd=PROJECT,
            encoding="utf-8", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.heard: list[dict[str, Any]] = []

    def until(self, event: str) -> dict[str, Any]:
        """Listen until this is said, and return it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.heard.append(json.loads(line))
            if self.heard[-1]["event"] == event:
                return self.heard[-1]
        raise AssertionError(f"never said {event!r}: {json.dumps(self.heard, ensure_ascii=False, indent=1)}")

    @property
    def presses(self) -> list[str]:
        return [one["button"] for one in self.heard if one["event"] == "press"]

    def kill(self) -> None:
        """As the task manager does: the window's process and no other one."""
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Desk:
    """A Windows 11 with an Ubuntu from better days, no part of WSL enabled, and our program on drive D."""

    def __init__(self, computer: Any, debian: Path) -> None:
        self.computer = computer
        self.work = computer.drive / "Users" / "user" / "我的 work"
        self.work.mkdir(parents=True)
        settings = {"version": 1, "language": "zh_CN"}
        (self.work / "settings.json").write_text(json.dumps(settings), "utf-8")
        self.ubuntu = computer.drive / "Users" / "user" / "Ubuntu"
        for name in ("etc/passwd", "etc/wsl.conf", "home/me/thesis.txt", "bin/sh"):
            file = self.ubuntu / "rootfs" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{name} is mine\n")
        script = self.world()
        script["drives"]["D"] = str(PROJECT)
        computer.file.write_text(json.dumps(script), "utf-8")
        computer.set(images={"Ubuntu-24.04": str(debian)}, language="zh")
        self.windows: list[Window] = []

    def world(self) -> dict[str, Any]:
        return json.loads(self.computer.file.read_text("utf-8"))

    def opens(self, scene: str, *arguments: str) -> Window:
        """Open the window, on the same work folder as ever unless told otherwise."""
        self.windows.append(Window(self.computer, scene, *(arguments or (f"--work-dir={self.work}",))))
        return self.windows[-1]

    def windows_starts(self, scene: str) -> Window:
        """Open what Windows opens by itself after a restart, once."""
        script = self.world()
        python, *line = script.pop("run_once")
        self.computer.file.write_text(json.dumps(script), "utf-8")
        assert python.endswith("pythonw.exe")
        return self.opens(scene, *line[line.index("runner_gui") + 1 :])

    def theirs(self) -> str:
        """What a person has in Ubuntu, to the byte, with times and rights, and how it is registered."""
        digest = hashlib.sha256(repr(self.computer.facts()["distributions"][0]).encode())
        digest.update(repr(self.computer.facts()["default_distribution"]).encode())
        for path in sorted(self.ubuntu.rglob("*")):
            found = path.lstat()
            digest.update(repr((str(path), found.st_mode, found.st_mtime_ns, found.st_ctime_ns)).encode())
            digest.update(path.read_bytes() if path.is_file() else b"")
        return digest.hexdigest()


@pytest.fixture
def desk(computer: Callable[..., Any], debian: Path) -> Iterator[Desk]:
    bare = computer(
        services=[], wsl_package=None, distributions=[UBUNTU], default_distribution=UBUNTU["guid"]
    )
    made = Desk(bare, debian)
    yield made
    for window in made.windows:
        window.kill()
    bare.wsl("--unregister", OURS)


def test_one_press_one_yes_one_prompt_and_one_restart(
    desk: Desk, record_property: Callable[[str, Any], None]
) -> None:
    theirs = desk.theirs()
    first = desk.opens("bare")
    first.until("restarted")
    first.kill()
    second = desk.windows_starts("after_restart")
    curve = second.until("curve")
    assert curve["after"] > curve["before"] > 0
    assert Path(curve["base"]) == PROJECT / "assets" / "demo" / "rwkv7-demo-4m.pth"
    assert first.presses == ["配置环境并训练", "开始配置", "立即重启"]
    assert second.presses == []
    assert desk.world()["standin"]["elevated"] == [["enable-features", "install-wsl"]]
    assert [one["name"] for one in desk.world()["facts"]["distributions"]] == ["Ubuntu", OURS]

    # The window dies; the training does not, and the next window shows it.
    second.kill()
    assert desk.computer.programs()
    third = desk.opens("stop_and_resume")
    third.until("resumed")

    # The power fails.
    third.kill()
    desk.computer.wsl("--shutdown")
    desk.computer.wait_until_none_runs()
    fourth = desk.opens("after_power_cut")
    fourth.until("resumed")
    # Linux crashes below a window that lives.
    desk.computer.wsl("--shutdown")
    assert fourth.until("crashed")["banner"] == "killed"
    assert fourth.until("answer")["text"].strip()
    assert fourth.process.wait(timeout=LIMIT_S) == 0
    desk.computer.wait_until_none_runs()

    (run,) = (desk.work / "runs").iterdir()
    series = RunSeries.from_file(run / "events.jsonl")
    assert series.steps.tolist() == list(range(1, (series.total or 0) + 1))
    assert json.loads((run / "summary.json").read_text("utf-8"))["status"] == "completed"
    assert len(list((desk.work / "models").glob("*.pth"))) == 1
    assert desk.theirs() == theirs
    assert sum("--install Ubuntu" in call for call in desk.world()["standin"]["calls"]) == 1
    told = {
        "scenario": "the window: a bare Windows 11, 1 press, 1 yes, 1 UAC, 1 restart",
        "outcome": "answers",
    }
    for name, value in {**told, "code": ""}.items():
        record_property(name, value)
