"""A computer with Windows, played: the system's facts, wsl.exe with its words and codes, and what is inside.

Facts go through the file that plays Windows, words through the bytes that wsl.exe would print; only starting
a process is replaced. What a command does to this computer it does here too, so a set-up can be walked to its
end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from wsl_bootstrap.engine import Engine
from wsl_bootstrap.environment import Environment
from wsl_bootstrap.hosts import OWN_DISTRIBUTION, windows
from wsl_bootstrap.hosts.base import CommandTimeoutError, Completed
from wsl_bootstrap.hosts.process import clean_line
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.hosts.windows_facts import ScriptedWindows
from wsl_bootstrap.journal import Journal
from wsl_bootstrap.options import SetupOptions
from wsl_bootstrap.status import Status
from wsl_bootstrap.step import Plan
from wsl_bootstrap.steps import setup_steps
from wsl_bootstrap.transitions import State

SERVICES = ["hns", "vmcompute", "vfpext", "lxssmanager", "wslservice"]
# What wsl.exe says, by what it is about; {} is an error path.
MESSAGES = {
    "en": {
        "failed": "The operation could not be started because a required feature is not installed. \n"
        "Error code: {}",
        "not_found": "There is no distribution with the supplied name.\nError code: {}",
        "not_installed": "The Windows Subsystem for Linux is not installed. You can install by running "
        "'wsl.exe --install'.",
        "invalid": "Invalid command line option: {}",
        "no_kernel": "Error: 0x1bc",
        "done": "The operation completed successfully. ",
    },
    "zh": {
        "failed": "由于未安装所需的特性，无法启动操作。 \n错误代码: {}",
        "not_found": "不存在具有所提供名称的分发。\n错误代码: {}",
        "not_installed": "未安装适用于 Linux 的 Windows 子系统。可通过运行“wsl.exe --install”进行安装。",
        "invalid": "命令行选项无效: {}",
        "no_kernel": "错误: 0x1bc",
        "done": "操作成功完成。 ",
    },
}
ENVIRONMENT = Environment(
    PurePosixPath("/opt/rwkv-lora-runner/venv"),
    "/usr/bin/python3",
    source="rwkv-lora-runner",
    inside="rwkv-lora-runner",
    system_packages=("python3", "python3-venv", "gcc"),
)
DOCTOR = {"ok": True, "checks": [{"id": "wkv", "ok": True, "detail": ""}]}


@dataclass
class Outcome:
    """How a set-up ended and what it asked of the person."""

    obstacle: Status | None
    consents: int
    prompts: int
    restarts: int
    presses: int


@dataclass
class World:
    """One computer. See the fields that a row of the table sets."""

    folder: Path
    language: str = "en"
    wsl: str = "2.6.1.0"  # or stub, inbox-old, inbox-no-kernel
    obeys_utf8: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    uac: int = 3010  # what the helper ends with
    package_fails: bool = False  # the helper enables features but cannot fetch WSL
    faults: dict[str, list[str | int]] = field(default_factory=dict)  # beginning of a call: its ends, in turn
    indexes: tuple[str, ...] = ("official", "aliyun", "tsinghua", "ustc")  # that pip reaches
    inside_kib: int = 16 * 2**20
    gpu: str = ""  # "", "works", "no dxg"
    python: bool = True  # in a fresh distribution
    free_bytes: int = 500 * 10**9
    compressed: tuple[str, ...] = ()
    volume: dict[str, Any] = field(default_factory=dict)
    options: SetupOptions = field(default_factory=SetupOptions)

    def __post_init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.touched: dict[str, list[tuple[str, ...]]] = {}  # commands by distribution
        self.made: set[str] = set()  # inside our own distribution
        self.prompts = 0
        (self.folder / "C").mkdir(exist_ok=True)
        facts = {"boot_id": "1", "services": SERVICES, "hypervisor_present": True, **self.facts}
        if self.wsl[0].isdigit():
            facts.setdefault("wsl_package", self.wsl)
        new = {"services": SERVICES, "hypervisor_present": True}
        package = {} if self.package_fails else {"wsl_package": "2.6.1.0"}
        ready = {**package, "components_pending": ["VirtualMachinePlatform"]}
        script = {
            "facts": facts,
            "drives": {"C": str(self.folder / "C")},
            "volumes": {"C": {"free_bytes": self.free_bytes, **self.volume}},
            "compressed": list(self.compressed),
            "elevation": {"exit_code": self.uac, "facts": ready if self.uac == 3010 else package},
            "restart": {"facts": new},
        }
        self.file = self.folder / "facts.json"
        self.file.write_text(json.dumps(script), "utf-8")
        self.windows = CountingWindows(self)
        if self.gpu:
            tool = self.folder / "C" / "Windows" / "System32" / "nvidia-smi.exe"
            tool.parent.mkdir(parents=True)
            tool.touch()

    # What tests arrange

    def add(self, name: str, **fields: Any) -> None:
        """Register a distribution, as an installation does."""
        script = json.loads(self.file.read_text("utf-8"))
        known = script["facts"].setdefault("distributions", [])
        base = f"C:\\d\\{name}" if name != OWN_DISTRIBUTION else self._own_folder()
        self.windows.local_path(windows.PureWindowsPath(base)).mkdir(parents=True, exist_ok=True)
        known.append({"guid": f"{{{len(known)}}}", "name": name, "base_path": base, **fields})
        self.file.write_text(json.dumps(script), "utf-8")

    def finish_own(self, *made: str) -> None:
        """Have our own distribution from an earlier set-up, with what was made in it."""
        self.add(OWN_DISTRIBUTION)
        marker = self.windows.local_path(windows.PureWindowsPath(self._own_folder())) / "set-up-complete"
        marker.touch()
        self.made |= {"python3", *made}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the place of starting processes."""
        monkeypatch.setattr(windows, "run_to_end", self.run_to_end)
        monkeypatch.setattr(windows, "LocalProcess", self.start)

    def host(self) -> WindowsHost:
        return WindowsHost(self.windows, self.options.distribution, wsl="wsl.exe")

    def engine(self) -> Engine[SetupOptions]:
        """Return an engine as a newly opened program has it."""
        return Engine(
            setup_steps(ENVIRONMENT, self.options),
            self.host(),
            self.options,
            Journal(self.folder / "setup.json"),
            wait=lambda token, seconds: token.cancelled,
        )

    def walk(self, presses: int = 1) -> Outcome:
        """Press the button, agree, and restart when asked; the program opens again by itself after that."""
        consents = restarts = 0

        def consent(plans: tuple[Plan, ...]) -> bool:
            nonlocal consents
            consents += 1
            return True

        for _ in range(presses):
            obstacle = self.engine().run(consent)
            while obstacle is not None and obstacle.state is State.NEEDS_REBOOT and restarts < 3:
                restarts += 1
                self.windows.restart()
                obstacle = self.engine().run(consent)
        return Outcome(obstacle, consents, self.prompts, restarts, presses)

    # Taking the place of processes

    def run_to_end(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        cwd: object = None,
        stdin: bytes = b"",
        decode: Any = bytes.decode,
    ) -> Completed:
        code, output = self.call(tuple(argv))
        if code == -1000:
            raise CommandTimeoutError(argv, timeout_s)
        errors = b"timeout: failed to run command\n" if code == 127 else b""
        return Completed(tuple(argv), code, decode(output), decode(errors), 0.0)

    def start(self, argv: Sequence[str], env: object = None, cwd: object = None) -> PlayedProcess:
        code, output = self.call(tuple(argv))
        lines = output.decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
        return PlayedProcess(code, [line for line in map(clean_line, lines) if line])

    def call(self, argv: tuple[str, ...]) -> tuple[int, bytes]:
        """Do what a command line does, and return its exit code and its bytes."""
        self.calls.append(argv)
        if argv[0] != "wsl.exe":
            assert argv[0].endswith("nvidia-smi.exe"), argv
            return 0, b"RTX 4090, 24564, 566.36, 8.9\n"
        line = " ".join(argv[1:])
        for beginning, ends in self.faults.items():
            if ends and (line.startswith(beginning) or (beginning == "inside" and argv[1] == "-d")):
                end = ends.pop(0) if len(ends) > 1 else ends[0]
                if end != 0:
                    return self._fault(end)
        if not self._package() and argv[1] != "--status":
            return self._say("not_installed" if self.wsl == "stub" else "invalid", 1, argv[1])
        return self._inside(argv) if argv[1] == "-d" else self._manage(argv[1:])

    def _fault(self, end: str | int) -> tuple[int, bytes]:
        return self._say("failed", 0xFFFFFFFF, end) if isinstance(end, str) else (end, b"")

    def _manage(self, argv: tuple[str, ...]) -> tuple[int, bytes]:
        if argv[0] == "--status":
            answers = {"stub": ("not_installed", 50), "inbox-old": ("invalid", 0xFFFFFFFF)}
            answers["inbox-no-kernel"] = ("no_kernel", 0xFFFFFE44)
            key, code = answers[self.wsl]
            return self._say(key, code, "--status")
        if argv[0] in ("--import", "--install"):
            self.add(OWN_DISTRIBUTION)
            self.made = {"python3"} if self.python else set()
            return self._say("done", 0)
        if argv[0] == "--unregister":
            self._change_distributions(lambda known: [one for one in known if one["name"] != argv[1]])
            return self._say("done", 0)
        if argv[0] == "--shutdown":
            self.inside_kib = max(self.inside_kib, 8 * 2**20)  # with the limit that was written before
        return (0, b"") if argv[0] == "--list" else self._say("done", 0)

    def _inside(self, argv: tuple[str, ...]) -> tuple[int, bytes]:
        name, command = argv[2], argv[argv.index("-e") + 1 :]
        known = {one["name"] for one in self._distributions()}
        if name not in known:
            return self._say("not_found", 0xFFFFFFFF, "Wsl/Service/WSL_E_DISTRO_NOT_FOUND")
        announced = b""
        if command[0] == "timeout":
            command = command[3:]
        elif command[:2] == ("sh", "-c") and 'exec "$@"' in command[2] and "nvidia" not in command[2]:
            command, announced = command[4:], b"4711\n"
            if command[:2] == ("sh", "-c") and "flock" in command[2]:  # around an installation
                command = command[4:]
        self.touched.setdefault(name, []).append(command)
        code, output = self._run(command)
        return code, announced + output

    def _run(self, command: tuple[str, ...]) -> tuple[int, bytes]:
        line, python = " ".join(command), ENVIRONMENT.python
        if command[0] == "cat":
            return 0, f"MemTotal: {self.inside_kib} kB\n".encode() if "meminfo" in line else b""
        if "df -P" in line:
            return 0, b"/dev/sdc 1000000000000 1 900000000000 1% /\n"
        if "/dev/dxg" in line:
            return (0, b"RTX 4090, 24564, 566.36, 8.9\n") if self.gpu == "works" else (75, b"")
        if "site-packages/torch" in line:
            return (0 if "torch" in self.made else 1), b""
        if command[0] in (python, ENVIRONMENT.base_python) and command[1] == "-c":
            return self._python(command)
        if command[-3:] == ("trainer", "doctor", "--json"):
            return 0, json.dumps(DOCTOR).encode()
        if "apt-get" in command and "install" in command:
            self.made |= {"python3"}
        elif command[1:3] == ("-m", "venv"):
            self.made |= {"venv"}
        elif command[1:4] == ("-m", "pip", "install"):
            self.made |= {"packages"} | ({"torch"} if "torch>" in line else set())
            self.made |= {"trainer"} if ENVIRONMENT.source in command else set()
        return 0, b""

    def _python(self, command: tuple[str, ...]) -> tuple[int, bytes]:
        needed = "venv" if command[0] == ENVIRONMENT.python else "python3"
        if needed not in self.made:
            return 127, b""
        if "which mirrors pip reaches" in command[2]:
            asked = json.loads(command[3])
            return 0, json.dumps(
                {name: "" if name in self.indexes else "no route" for name in asked}
            ).encode()
        torch = {"version": "2.10.0", "cuda_version": "12.8", "sees_gpu": self.gpu == "works"}
        missing = [] if "packages" in self.made else ["numpy"]
        facts = {"version": [3, 12, 3], "can_make_venv": False, "missing": missing}
        ours = {"version": "0.1.0"} if "trainer" in self.made else None
        torch_there = torch if "torch" in self.made else None
        return 0, json.dumps({**facts, "ours": ours, "torch": torch_there}).encode()

    def _say(self, key: str, code: int, *facts: object) -> tuple[int, bytes]:
        text = MESSAGES[self.language][key].format(*facts) + "\n"
        encoding = "utf-8" if self.obeys_utf8 else "utf-16-le"
        return code, text.replace("\n", "\r\n").encode(encoding)

    def _package(self) -> bool:
        return json.loads(self.file.read_text("utf-8"))["facts"].get("wsl_package") is not None

    def _own_folder(self) -> str:
        return self.options.folder or "C:\\Users\\user\\AppData\\Local\\RwkvLoraRunner\\wsl"

    def _distributions(self) -> list[dict[str, Any]]:
        return json.loads(self.file.read_text("utf-8"))["facts"].get("distributions", [])

    def _change_distributions(self, change: Any) -> None:
        script = json.loads(self.file.read_text("utf-8"))
        script["facts"]["distributions"] = change(script["facts"].get("distributions", []))
        self.file.write_text(json.dumps(script), "utf-8")


class CountingWindows(ScriptedWindows):
    """Counts the prompts for administrator rights."""

    def __init__(self, world: World) -> None:
        super().__init__(world.file)
        self._world = world

    def elevate(self, actions: Sequence[Any], timeout_s: float) -> int:
        self._world.prompts += 1
        if self._world.package_fails and self.snapshot().has_vm_platform:
            return 0xFFFFFFFF
        return super().elevate(actions, timeout_s)


@dataclass
class PlayedProcess:
    """A process that has said everything and ended."""

    code: int
    lines: list[str]
    pid: int = 4711

    @property
    def exit_code(self) -> int:
        return self.code

    @property
    def drained(self) -> bool:
        return not self.lines

    def read_line(self, timeout_s: float) -> str | None:
        return self.lines.pop(0) if self.lines else None

    def stop(self, grace_s: float) -> None:
        self.lines.clear()


@pytest.fixture
def make_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., World]:
    """Return what makes a computer by its settings, in the place of the real one."""

    def make(**settings: Any) -> World:
        world = World(tmp_path, **settings)
        world.install(monkeypatch)
        return world

    return make


@pytest.fixture
def messages() -> dict[str, dict[str, str]]:
    """What wsl.exe says here, by language."""
    return MESSAGES
