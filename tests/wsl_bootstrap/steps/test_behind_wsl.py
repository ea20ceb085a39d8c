"""What the Python steps would run inside a distribution, and the script that points apt at a mirror."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from wsl_bootstrap.environment import DISTRIBUTION, Environment, SetupOptions
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.hosts.windows_facts import ScriptedWindows
from wsl_bootstrap.step import Plan
from wsl_bootstrap.steps.python_env import _USE_MIRROR, BASE_PACKAGES, PythonEnvStep
from wsl_bootstrap.steps.torch_env import TRAIN_PACKAGES, TorchEnvStep

ENVIRONMENT = Environment(
    PurePosixPath("/opt/x/venv"), "/usr/bin/python3", system_packages=("python3", "python3-venv", "gcc")
)


@pytest.fixture
def bare(tmp_path: Path) -> WindowsHost:
    """A Windows without any distribution yet: plans are asked for before there is one."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    facts = {"facts": {"boot_id": "1"}, "drives": {"C": str(tmp_path)}}
    (tmp_path / "facts.json").write_text(json.dumps(facts), "utf-8")
    return WindowsHost(ScriptedWindows(tmp_path / "facts.json"), "RwkvLoraRunner", wsl="/no/wsl.exe")


def _lines(plan: Plan) -> list[str]:
    return [" ".join(command) for command in plan.commands]


def test_the_environment_is_planned_before_there_is_a_distribution(bare: WindowsHost, tmp_path: Path) -> None:
    environment = replace(ENVIRONMENT, source=str(tmp_path))
    options = SetupOptions(mirror="ustc", proxy="http://10.0.0.1:7890", cpu_index_url=None)
    lines = _lines(PythonEnvStep(environment).plan(bare, options))
    assert lines[0].endswith("sh http://mirrors.ustc." + "edu.cn")
    assert lines[1] == "dpkg --configure -a"
    assert "apt-get --yes" in lines[2]
    assert lines[2].endswith("Acquire::https::Proxy=http://10.0.0.1:7890 update")
    assert lines[3].endswith("install --no-install-recommends python3 python3-venv gcc")
    assert lines[4] == "/usr/bin/python3 -m venv /opt/x/venv"
    pip = "/opt/x/venv/bin/python -m pip install --disable-pip-version-check --no-input --index-url "
    assert lines[5].startswith(pip)
    assert lines[5].endswith(f"-c /mnt/c/constraints.txt {' '.join(BASE_PACKAGES)}")
    assert lines[6].endswith("--proxy http://10.0.0.1:7890 --no-deps -e /mnt/c")
    assert not any("PySide6" in line for line in lines)
    torch = _lines(TorchEnvStep(environment).plan(bare, options))
    assert " ".join(TRAIN_PACKAGES) in torch[-1]
    assert "[train]" not in " ".join(torch)


def test_a_persons_own_distribution_keeps_its_sources(bare: WindowsHost) -> None:
    bare.distribution = "Ubuntu-24.04"
    environment = replace(ENVIRONMENT, source=DISTRIBUTION)
    lines = _lines(PythonEnvStep(environment).plan(bare, SetupOptions(mirror="ustc")))
    assert not any("sources.list" in line for line in lines)


DEB822 = """\
Types: deb
URIs: http://{main}/ubuntu/
Suites: noble noble-updates
Components: main universe

Types: deb
URIs: http://{security}/ubuntu/
Suites: noble-security
"""
ONE_LINE = """\
# deb cdrom:[x]/ ./
deb http://{main}/debian bookworm main
deb [signed-by=/k] https://{security}/debian-security bookworm-security main
deb https://elsewhere.example/tools stable main
"""


@pytest.mark.parametrize(
    ("name", "text"), [("sources.list.d/ubuntu.sources", DEB822), ("sources.list", ONE_LINE)]
)
def test_apt_is_pointed_at_a_mirror_and_back(tmp_path: Path, name: str, text: str) -> None:
    lists = tmp_path / "apt" / name
    lists.parent.mkdir(parents=True)
    before = text.format(main="one.example", security="two.example")
    lists.write_text(before)
    script = _USE_MIRROR.replace("/etc/apt", str(tmp_path / "apt"))

    def use(mirror: str) -> str:
        subprocess.run(["sh", "-c", script, "sh", mirror], check=True)
        return lists.read_text()

    after = text.format(main="m.example", security="m.example").replace(
        "https://m.example", "http://m.example"
    )
    assert use("http://m.example") == after
    assert use("http://m.example") == after
    assert use("http://other.example") == after.replace("m.example", "other.example")
    assert use("") == before
