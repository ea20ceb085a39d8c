"""The shell of the terminal tab, as a process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from pytestqt.qtbot import QtBot

from runner_gui.services.shell import EnvironmentShell, shell_command, terminal_command
from wsl_bootstrap.hosts.linux import LinuxHost

SECONDS = 20_000


@pytest.fixture
def shell(qtbot: QtBot) -> Iterator[EnvironmentShell]:
    made = EnvironmentShell(LinuxHost(), Path(sys.prefix))
    yield made
    made.close()


def listen(shell: EnvironmentShell) -> Callable[[], str]:
    heard: list[str] = []
    shell.printed.connect(heard.append)
    return lambda: "".join(heard)


def test_closing_ends_what_it_started(shell: EnvironmentShell, qtbot: QtBot) -> None:
    said = listen(shell)
    shell.start()
    shell.send("sleep 600 & sleep 700 & echo $!; wait")
    qtbot.waitUntil(lambda: said().strip().isdigit(), timeout=SECONDS)
    child = psutil.Process(int(said()))
    shell.close()
    assert not shell.is_running
    qtbot.waitUntil(lambda: not child.is_running() or child.status() == "zombie", timeout=SECONDS)


def test_half_a_character_waits_for_its_other_half(shell: EnvironmentShell, qtbot: QtBot) -> None:
    said = listen(shell)
    shell.start()
    shell.send(r"printf '\344\270'; sleep 0.2; printf '\255\n'")
    qtbot.waitUntil(lambda: said().endswith("\n"), timeout=SECONDS)
    assert said() == "中\n"


def test_a_shell_that_does_not_start_says_why(qtbot: QtBot) -> None:
    class Bare(LinuxHost):
        def command(self, argv: object, cwd: object = None) -> list[str]:
            return ["/nowhere/wsl.exe"]

    shell = EnvironmentShell(Bare(), Path("/venv"))
    said = listen(shell)
    with qtbot.waitSignal(shell.ended, timeout=SECONDS):
        shell.start()
    assert said().strip()
    shell.close()


def test_the_first_terminal_that_is_there_is_opened() -> None:
    command = shell_command(Path("/my venv"))
    assert command[-2:] == ("/my venv", "bash")
    found = terminal_command(command, {"konsole": "/usr/bin/konsole", "xterm": "/usr/bin/xterm"}.get)
    assert found == ["/usr/bin/konsole", "-e", *command]
    assert terminal_command(command, lambda name: None) is None
