"""What must hold for the repository as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_BYTES = 2_000_000

# Packages are found by name, through whatever the user's package tools are set up to use.
REGISTRY_HOSTS = re.compile(
    r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|registry\.npmjs|npm[m]irror|deb\.debian\.org"
    r"|archive\.ubuntu\.com|conda\.anaconda\.org|mirrors?\.[a-z.]+\.(?:cn|com)\b"
)

OFFERED_MIRRORS = {f"mirrors.{name}" for name in ("aliyun.com", "tuna.tsinghua.edu.cn", "ustc.edu.cn")}


def git(*arguments: str) -> str:
    # The checkout may belong to another user, as in a container.
    command = ["git", "-c", "safe.directory=*", *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    paths = [ROOT / name for name in git("ls-files", "-z").split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="module")
def tracked_text(tracked: list[Path]) -> dict[Path, str]:
    texts = {}
    for path in tracked:
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            texts[path] = content.decode("utf-8")
    return texts


def test_no_file_is_large_but_the_demo(tracked: list[Path]) -> None:
    demo = ROOT / "assets" / "demo"
    large = [p for p in tracked if p.stat().st_size > MAX_FILE_BYTES and demo not in p.parents]
    assert large == []


def test_no_registry_is_named(tracked_text: dict[Path, str]) -> None:
    named = {path: set(REGISTRY_HOSTS.findall(text)) for path, text in tracked_text.items()}
    # The mirrors that a person can choose from have to be written somewhere: there, and these only.
    named[ROOT / "wsl_bootstrap" / "mirrors.py"] -= OFFERED_MIRRORS
    assert {path: hosts for path, hosts in named.items() if hosts} == {}


def test_no_path_of_this_machine_is_written_down(tracked_text: dict[Path, str]) -> None:
    ours = {str(ROOT), sys.prefix, sys.base_prefix} - {"/usr", "/usr/local"}
    found = [(path, own) for path, text in tracked_text.items() for own in ours if own in text]
    assert found == []


def test_links_between_pages_lead_somewhere(tracked_text: dict[Path, str]) -> None:
    pages = {path: text for path, text in tracked_text.items() if path.suffix == ".md"}
    links = [
        (path, target)
        for path, text in pages.items()
        for target in re.findall(r"\]\(([^)#\s]+)", text)
        if "://" not in target
    ]
    assert len(links) > 10
    assert [(path, target) for path, target in links if not (path.parent / target).exists()] == []


def test_changelog_opens_with_the_version_of_the_package() -> None:
    package = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    changelog = re.search(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert package
    assert changelog
    assert changelog[1] == package[1]


def test_constraints_name_a_version_of_every_dependency() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8").split("[project.scripts]")[0]
    wanted = set(re.findall(r'^    "([A-Za-z][\w-]+)(?:\[\w+\])?[><=]', project, re.MULTILINE))
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {line.split("==")[0] for line in lines if not line.startswith("#")}
    assert "torch" in wanted
    assert {name.lower() for name in wanted} - pinned == set()
    assert [
        line for line in lines if not re.match(r"#|[a-z0-9-]+==[\w.]+(?:; python_version [<>=]+ \S+)?$", line)
    ] == []


def test_scripts_can_be_executed() -> None:
    modes = [line.split(maxsplit=3) for line in git("ls-files", "-s", "scripts", ".ci").splitlines()]
    with_shebang = {name: mode for mode, _, _, name in modes if (ROOT / name).read_bytes().startswith(b"#!")}
    assert {"scripts/run", "scripts/test", ".ci/run"} <= with_shebang.keys()
    assert set(with_shebang.values()) == {"100755"}


IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("torch" in sys.modules)
"""


@pytest.mark.parametrize("package", ["runner_gui", "wsl_bootstrap", "trainer.contract", "trainer.data"])
def test_torch_stays_out(package: str) -> None:
    """These parts must work where torch is not installed."""
    command = [sys.executable, "-c", IMPORT_ALL, package]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout.strip()) == (0, "False"), result.stderr


def test_qt_binding_keeps_none_alive() -> None:
    """PySide6 6.12 loses a reference to None with every void call, and Python before 3.12 dies of it."""
    from PySide6.QtCore import QObject

    thing = QObject()
    thing.setObjectName("x")
    before = sys.getrefcount(None)
    for _ in range(500):
        thing.setObjectName("x")
    assert sys.getrefcount(None) - before > -100
