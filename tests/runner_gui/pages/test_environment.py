"""The Environment page over the real engine: steps that look at the disk and run real commands."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAction, QGuiApplication
from PySide6.QtWidgets import QApplication, QMenu, QWidget
from pytestqt.qtbot import QtBot

from runner_gui.i18n import set_language, tr
from runner_gui.model.workspace import Workspace
from runner_gui.pages.environment import EnvironmentPage
from runner_gui.services import pipeline as pipeline_module
from runner_gui.services import setup_choices as choices_module
from runner_gui.services.pipeline import Pipeline
from runner_gui.services.setup_follower import SETUP_STEPS
from wsl_bootstrap.cancel import CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.environment import Environment, SetupOptions
from wsl_bootstrap.hosts import OWN_DISTRIBUTION
from wsl_bootstrap.hosts.base import Host
from wsl_bootstrap.live import install
from wsl_bootstrap.mirrors import MIRRORS, Mirror
from wsl_bootstrap.step import Check, OnEvent, Outcome, Plan, Probe

SECONDS = 20_000


@dataclass(frozen=True)
class FileStep:
    """There when its file is; made by a shell command, which is really run."""

    id: str
    file: Path
    script: str
    download_bytes: int = 12_000_000
    requires: tuple[str, ...] = ()

    def probe(self, host: Host) -> Probe:
        if self.file.exists():
            return Probe.satisfied("1.0")
        return Probe.missing(make_code("packages_missing", packages=self.id))

    def plan(self, host: Host, options: object) -> Plan:
        command = ("sh", "-c", self.script, "sh", str(self.file))
        return Plan(self.id, (command,), download_bytes=self.download_bytes, disk_bytes=1)

    def apply(self, host: Host, plan: Plan, on_event: OnEvent, cancel: CancelToken) -> Outcome:
        install(host, plan, self.file.parent, on_event, cancel)
        return Outcome()


@dataclass(frozen=True)
class Found:
    """A check that found what it was made with."""

    id: str
    finding: Probe
    requires: tuple[str, ...] = ()

    def probe(self, host: Host) -> Probe:
        return self.finding


class Steps:
    """All steps of set-up, in their order; those that a test does not care for are there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.special: dict[str, Check] = {}

    def file(self, step_id: str, script: str) -> Path:
        path = self.folder / f"{step_id} 文件"
        self.special[step_id] = FileStep(step_id, path, script)
        return path

    def __call__(
        self, environment: Environment, options: SetupOptions | None = None, resume: tuple[str, ...] = ()
    ) -> tuple[Check, ...]:
        return tuple(self.special.get(step, Found(step, Probe.satisfied("9"))) for step in SETUP_STEPS)


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    made = Steps(tmp_path)
    monkeypatch.setattr(pipeline_module, "setup_steps", made)
    return made


@pytest.fixture
def open_page(
    dressed: QApplication, qtbot: QtBot, tmp_path: Path, steps: Steps
) -> Iterator[Callable[[], EnvironmentPage]]:
    opened: list[tuple[Pipeline, EnvironmentPage]] = []

    def make() -> EnvironmentPage:
        pipeline = Pipeline(Workspace(tmp_path / "work"))
        page = EnvironmentPage(pipeline)
        opened.append((pipeline, page))
        page.resize(1000, 700)
        page.show()
        pipeline.refresh()
        qtbot.waitUntil(lambda: all(s.probe for s in page.setup.statuses.values()), timeout=SECONDS)
        qtbot.wait(50)  # the forecast follows the probes
        return page

    yield make
    for pipeline, page in opened:
        page.close_shell()
        pipeline.close()
        page.close()
        page.deleteLater()


def click(qtbot: QtBot, target: QWidget) -> None:
    qtbot.mouseClick(target, Qt.MouseButton.LeftButton)


def state(page: EnvironmentPage, step_id: str) -> str:
    return page.setup.statuses[step_id].state.value


def answer(qtbot: QtBot, page: EnvironmentPage, choice: str) -> None:
    qtbot.waitUntil(lambda: page.question is not None and page.question.isVisible(), timeout=SECONDS)
    assert page.question is not None
    click(qtbot, page.question.buttons[choice])


def idle(qtbot: QtBot, page: EnvironmentPage) -> None:
    qtbot.waitUntil(lambda: not page.pipeline.is_busy, timeout=SECONDS)


def test_each_step_is_shown_with_icon_word_and_what_was_found(
    open_page: Callable[[], EnvironmentPage], steps: Steps, qtbot: QtBot
) -> None:
    steps.special["gpu"] = Found("gpu", Probe.satisfied("RTX", make_code("gpu_none")))
    steps.special["disk"] = Found(
        "disk", Probe.blocked(make_code("disk_full", path="/", have_gb=1, need_gb=9))
    )
    page = open_page()
    assert list(page.list.rows) == list(SETUP_STEPS)
    words = {step_id: shown.accessibleName() for step_id, shown in page.list.rows.items()}
    assert words["gpu"] == "GPU · Ready · RTX"
    assert words["disk"] == "Disk space · Needs you"
    # What is in the way is shown without a click: sentence, remedy and button.
    assert page.list.current == "disk"
    assert page.detail.problem_title.text() == tr("setup.disk_full.title")
    assert "9" in page.detail.problem_body.text()
    assert list(page.detail.buttons) == ["recheck"]
    assert not page.primary.isEnabled()
    click(qtbot, page.list.rows["gpu"])
    assert page.detail.name.text() == "GPU"
    assert "RTX" in page.detail.value.text()
    assert page.detail.problem_body.text() == tr("setup.gpu_none.why")  # no advice where nothing is wrong


def test_one_consent_sets_everything_up_with_live_output(
    open_page: Callable[[], EnvironmentPage], steps: Steps, qtbot: QtBot
) -> None:
    venv = steps.file("python_env", 'echo "making a venv"; touch "$1"')
    torch = steps.file("torch_env", 'echo "fetching torch"; sleep 0.3; touch "$1"')
    page = open_page()
    assert page.list.current == "python_env"
    plan = page.detail.commands.toPlainText()
    assert shlex.split(plan)[:2] == ["sh", "-c"]
    assert str(venv) in plan
    assert page.detail.costs.text().startswith("12.0 MB to download")
    assert "24.0 MB to download" in page.verdict.text()
    consents: list[object] = []
    page.pipeline.consent_needed.connect(consents.append)
    click(qtbot, page.primary)
    answer(qtbot, page, "allow")
    qtbot.waitUntil(lambda: state(page, "torch_env") == "applying", timeout=SECONDS)
    assert page.list.current == "torch_env"  # what is at work comes to the front
    assert page.primary.text() == tr("environment.cancel")
    idle(qtbot, page)
    assert venv.exists()
    assert torch.exists()
    assert len(consents) == 1
    qtbot.waitUntil(lambda: page.verdict.text() == tr("environment.ready"), timeout=SECONDS)
    assert not page.primary.isVisible()
    click(qtbot, page.list.rows["python_env"])
    page.detail.log.flush()
    assert "making a venv" in page.detail.log.text.toPlainText()
    assert "fetching torch" not in page.detail.log.text.toPlainText()


def test_refusing_changes_nothing(
    open_page: Callable[[], EnvironmentPage], steps: Steps, qtbot: QtBot
) -> None:
    made = steps.file("python_env", 'touch "$1"')
    page = open_page()
    click(qtbot, page.primary)
    answer(qtbot, page, "refuse")
    idle(qtbot, page)
    assert not made.exists()
    assert state(page, "python_env") == "missing"
    assert page.primary.isEnabled()


def test_cancelling_ends_the_command_and_can_be_begun_again(
    open_page: Callable[[], EnvironmentPage], steps: Steps, qtbot: QtBot
) -> None:
    made = steps.file(
        "python_env", 'echo began; [ -e "$1.again" ] || { touch "$1.again"; sleep 600; }; touch "$1"'
    )
    page = open_page()
    click(qtbot, page.primary)
    answer(qtbot, page, "allow")
    qtbot.waitUntil(lambda: "began" in page.setup.lines("python_env"), timeout=SECONDS)
    click(qtbot, page.primary)
    idle(qtbot, page)
    assert state(page, "python_env") == "missing"
    assert not made.exists()
    click(qtbot, page.primary)
    answer(qtbot, page, "allow")
    idle(qtbot, page)
    assert made.exists()


def test_a_failure_is_explained_and_retried_from_its_button(
    open_page: Callable[[], EnvironmentPage], steps: Steps, qtbot: QtBot
) -> None:
    made = steps.file("torch_env", '[ -e "$1.fixed" ] || { echo "no luck today"; exit 3; }; touch "$1"')
    page = open_page()
    click(qtbot, page.primary)
    answer(qtbot, page, "allow")
    idle(qtbot, page)
    assert state(page, "torch_env") == "failed"
    assert page.detail.problem_title.text() == tr("setup.command_failed.title")
    assert shlex.split(page.detail.yourself.toPlainText())[:2] == ["sh", "-c"]  # to run it by hand
    page.detail.log.flush()
    assert "no luck today" in page.detail.log.text.toPlainText()
    Path(f"{made}.fixed").touch()
    click(qtbot, page.detail.buttons["retry"])
    answer(qtbot, page, "allow")
    idle(qtbot, page)
    assert made.exists()
    assert state(page, "torch_env") == "satisfied"
    assert "retry" not in page.detail.buttons


def test_a_node_of_the_stepper_leads_to_the_step_in_which_it_stands(
    open_page: Callable[[], EnvironmentPage], steps: Steps, qtbot: QtBot
) -> None:
    steps.file("torch_env", 'touch "$1"')
    page = open_page()
    page.set_tab("terminal")
    page.show_node("environment")
    assert (page.list.current, page.tabs["steps"].isChecked()) == ("torch_env", True)
    page.show_node("wsl")
    assert page.list.current == "windows_version"


def test_the_report_says_everything_and_hides_the_person(
    open_page: Callable[[], EnvironmentPage], steps: Steps, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(steps.folder))
    steps.file("python_env", "echo https://me:geheim@example.org; exit 4")
    page = open_page()
    click(qtbot, page.primary)
    answer(qtbot, page, "allow")
    idle(qtbot, page)
    click(qtbot, page.copy)
    report = QGuiApplication.clipboard().text()
    for part in ("Python environment: Failed", "exit code 4", "~/python_env", "https://***@example.org"):
        assert part in report, part
    assert str(steps.folder) not in report
    assert "geheim" not in report
    assert page.copy.text() == tr("environment.copied")


@pytest.mark.parametrize("code", ["en", "zh_CN"])
def test_every_word_is_in_the_language_in_use(
    open_page: Callable[[], EnvironmentPage], steps: Steps, qtbot: QtBot, code: str
) -> None:
    steps.file("python_env", "exit 1")
    page = open_page()
    set_language(code)
    shown = page.list.rows["python_env"].accessibleName()
    assert shown == f"{tr('step.python_env.name')} · {tr('setup.state.missing')}"
    assert page.primary.text() == tr("environment.set_up")
    assert page.detail.plan_title.text() == tr("environment.plan")


def test_the_terminal_runs_commands_in_the_environment(
    open_page: Callable[[], EnvironmentPage], qtbot: QtBot
) -> None:
    page = open_page()
    click(qtbot, page.tabs["terminal"])
    shell = page.shell

    def run(line: str) -> None:
        shell.entry.setText(line)
        qtbot.keyClick(shell.entry, Qt.Key.Key_Return)

    def said(text: str) -> Callable[[], bool]:
        return lambda: text in shell.text.toPlainText().split("\n")

    run('cd /; python -c "import sys; print(sys.prefix)"')
    qtbot.waitUntil(said(sys.prefix), timeout=SECONDS)
    run("echo 在 $PWD")  # the folder stays, as in any shell
    qtbot.waitUntil(said("在 /"), timeout=SECONDS)
    run("sleep 600")
    run("echo woken")
    qtbot.wait(300)
    assert not said("woken")()
    click(qtbot, shell.interrupt)
    qtbot.waitUntil(said("woken"), timeout=SECONDS)
    qtbot.keyClick(shell.entry, Qt.Key.Key_Up)
    assert shell.entry.text() == "echo woken"
    shell.entry.clear()
    run("exit")
    qtbot.waitUntil(said(tr("terminal.ended")), timeout=SECONDS)
    run("echo anew")  # a shell that ended starts again
    qtbot.waitUntil(said("anew"), timeout=SECONDS)


def entries(page: EnvironmentPage) -> dict[str, QAction]:
    """What the menu offers now, submenus included, by their words."""
    page.menu.fill()
    found: dict[str, QAction] = {}
    for action in page.menu.actions():
        menu = action.menu()
        for entry in menu.actions() if isinstance(menu, QMenu) else [action]:
            found[entry.text()] = entry
    return found


@pytest.fixture
def on_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Windows with our distribution and one of the person's; wsl.exe forgets the one it is told to."""
    world = tmp_path / "world"
    (world / "C" / "wsl").mkdir(parents=True)
    (world / "C" / "wsl" / "ext4.vhdx").write_bytes(b"0" * 5_000_000)
    own = {"guid": "{1}", "name": OWN_DISTRIBUTION, "base_path": "C:\\wsl"}
    theirs = {"guid": "{2}", "name": "Ubuntu", "base_path": "C:\\u"}
    facts = {"boot_id": "1", "distributions": [own, theirs]}
    (world / "facts.json").write_text(json.dumps({"facts": facts, "drives": {"C": str(world / "C")}}))
    forget = f"""#!/usr/bin/env python3
import json, pathlib, sys
path = pathlib.Path({str(world / "facts.json")!r})
script = json.loads(path.read_text())
if sys.argv[1] == "--unregister":
    kept = [d for d in script["facts"]["distributions"] if d["name"] != sys.argv[2]]
    script["facts"]["distributions"] = kept
    path.write_text(json.dumps(script))
if sys.argv[1:] == ["--list", "--online"]:
    print("以下是可安装的有效分发的列表。\\n\\nNAME            FRIENDLY NAME")
    print("Ubuntu-26.04    Ubuntu 26.04 LTS\\nkali-linux      Kali")
"""
    (world / "wsl.exe").write_text(forget)
    (world / "wsl.exe").chmod(0o755)
    monkeypatch.setenv("RUNNER_WINDOWS_FACTS", str(world / "facts.json"))
    monkeypatch.setenv("RUNNER_WSL_EXE", str(world / "wsl.exe"))
    return world


@pytest.fixture(autouse=True)
def own_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "options.json"
    for module in (pipeline_module, choices_module):
        monkeypatch.setattr(module, "options_file", lambda: path)
    return path


def test_the_download_source_is_chosen_and_kept(
    open_page: Callable[[], EnvironmentPage], own_options: Path, qtbot: QtBot
) -> None:
    page = open_page()
    found = entries(page)
    # On Linux there is nothing else.
    assert list(found) == [*(tr(f"mirror.{name}") for name in MIRRORS), tr("menu.sources")]
    assert found[tr("mirror.official")].isChecked()
    found[tr("mirror.ustc")].trigger()
    idle(qtbot, page)
    assert page.pipeline.choices.options.mirror == "ustc"
    assert SetupOptions.load(own_options).mirror == "ustc"
    assert entries(page)[tr("mirror.ustc")].isChecked()


def test_our_own_distribution_is_removed_after_a_question(
    on_windows: Path, open_page: Callable[[], EnvironmentPage], qtbot: QtBot
) -> None:
    page = open_page()
    words = tr("menu.remove", size="5.0 MB")
    entries(page)[words].trigger()
    assert page.question is not None
    assert "5.0 MB" in page.question.sentence.text()
    answer(qtbot, page, "keep")
    assert words in entries(page)
    entries(page)[words].trigger()
    answer(qtbot, page, "remove")
    idle(qtbot, page)
    assert words not in entries(page)
    assert page.pipeline.choices.distributions() == [OWN_DISTRIBUTION, "Ubuntu"]


def test_our_own_can_be_made_of_whatever_wsl_offers(
    on_windows: Path, open_page: Callable[[], EnvironmentPage], own_options: Path, qtbot: QtBot
) -> None:
    facts = {"facts": {"boot_id": "1"}, "drives": {"C": str(on_windows / "C")}}
    (on_windows / "facts.json").write_text(json.dumps(facts))
    page = open_page()
    assert entries(page)["Ubuntu 24.04"].isChecked()  # ours, before WSL was asked
    qtbot.waitUntil(lambda: "Ubuntu-26.04" in page.pipeline.choices.systems, timeout=SECONDS)
    found = entries(page)
    assert [name for name in ("Ubuntu 24.04", "Ubuntu 26.04", "kali linux") if name in found] == [
        "Ubuntu 24.04",
        "Ubuntu 26.04",
    ]  # what has no apt is left out
    found["Ubuntu 26.04"].trigger()
    idle(qtbot, page)
    assert SetupOptions.load(own_options).system == "Ubuntu-26.04"


def test_addresses_of_ones_own_are_tried_then_used_and_kept(
    open_page: Callable[[], EnvironmentPage], own_options: Path, qtbot: QtBot
) -> None:
    page = open_page()
    entries(page)[tr("menu.sources")].trigger()
    sources = page.sources
    assert sources is not None
    assert list(sources.entries) == ["packages", "models", "proxy"]  # Linux has its own system
    sources.entries["packages"].setText("pypi.example")
    sources.use.click()
    qtbot.waitUntil(sources.notes["packages"].isVisible, timeout=SECONDS)
    assert not sources.anyway.isVisible()  # what is no address is of no use to anyone
    sources.entries["packages"].setText("http://127.0.0.1:9/simple")  # where nobody listens
    sources.use.click()
    qtbot.waitUntil(sources.anyway.isVisible, timeout=SECONDS)
    assert "http://127.0.0.1:9/simple" in sources.notes["packages"].text()
    sources.anyway.click()
    idle(qtbot, page)
    kept = SetupOptions.load(own_options)
    assert (kept.mirror, kept.custom) == ("custom", Mirror(packages="http://127.0.0.1:9/simple"))
    assert entries(page)[tr("mirror.custom")].isChecked()
    entries(page)[tr("menu.sources")].trigger()
    assert page.sources is not None
    page.sources.entries["packages"].clear()
    page.sources.use.click()
    qtbot.waitUntil(lambda: SetupOptions.load(own_options).mirror == "official", timeout=SECONDS)


def test_another_distribution_and_folder_are_chosen(
    on_windows: Path, open_page: Callable[[], EnvironmentPage], qtbot: QtBot
) -> None:
    page = open_page()
    entries(page)["Ubuntu"].trigger()
    idle(qtbot, page)
    windows = page.pipeline.choices.windows
    assert windows is not None
    assert windows.distribution == "Ubuntu"
    page.menu.chosen.emit("folder", on_windows / "C" / "big disk")
    idle(qtbot, page)
    assert page.pipeline.choices.options.folder == "C:\\big disk"
    page.menu.chosen.emit("folder", Path("/elsewhere"))
    idle(qtbot, page)
    assert page.banner.isVisible()
    assert page.pipeline.choices.options.folder == "C:\\big disk"


def test_a_restart_is_asked_for_and_prepared(
    on_windows: Path, open_page: Callable[[], EnvironmentPage], steps: Steps, qtbot: QtBot
) -> None:
    steps.special["wsl_feature"] = Found("wsl_feature", Probe.reboot_pending(make_code("restart_needed")))
    page = open_page()
    windows = page.pipeline.choices.windows
    assert windows is not None
    click(qtbot, page.detail.buttons["restart"])
    answer(qtbot, page, "now")
    assert windows.windows.run_once  # type: ignore[attr-defined]
    assert windows.facts().boot_id == "1+"
