"""What the Python steps would run inside a distribution, and the script that points apt at a mirror."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from wsl_bootstrap import inspect_python
from wsl_bootstrap.environment import DISTRIBUTION, Environment, SetupOptions
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.hosts.windows_facts import ScriptedWindows
from wsl_bootstrap.interpreter import OursFacts
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


@pytest.fixture
def shipped(bare: WindowsHost, tmp_path: Path) -> Environment:
    """What the packed application has: a wheel with the versions that were tested beside it."""
    (tmp_path / "wheel").mkdir()
    (tmp_path / "wheel" / "constraints.txt").touch()
    wheel = tmp_path / "wheel" / "rwkv_lora_runner-0.1.0-py3-none-any.whl"
    wheel.write_bytes(b"as it was packed")
    return replace(ENVIRONMENT, source=str(wheel))


def test_the_wheel_that_came_with_the_window_is_installed_inside(
    bare: WindowsHost, shipped: Environment
) -> None:
    lines = _lines(PythonEnvStep(shipped).plan(bare, SetupOptions()))
    assert lines[-2].endswith(f"-c /mnt/c/wheel/constraints.txt {' '.join(BASE_PACKAGES)}")
    assert lines[-1].endswith(
        "--no-deps --force-reinstall /mnt/c/wheel/rwkv_lora_runner-0.1.0-py3-none-any.whl"
    )


def test_a_trainer_of_another_build_is_told_from_the_windows_own(
    bare: WindowsHost, shipped: Environment
) -> None:
    inside = shipped.seen_from(bare)
    same = hashlib.sha256(b"as it was packed").hexdigest()
    assert inside.holds(OursFacts("0.1.0", sha256=same))
    assert not inside.holds(OursFacts("0.1.0", sha256="0" * 64))  # the same number, other contents
    assert not inside.holds(OursFacts("0.1.0", folder="/mnt/c"))
    assert not inside.holds(None)
    checkout = replace(ENVIRONMENT, source=str(Path(shipped.source).parents[1])).seen_from(bare)
    assert checkout.holds(OursFacts("0.0.9", folder="/mnt/c"))
    assert not checkout.holds(OursFacts("0.1.0", folder="/mnt/d/old place"))
    by_name = replace(ENVIRONMENT, source="rwkv-lora-runner==0.2.0").seen_from(bare)
    assert by_name.holds(OursFacts("0.2.0"))
    assert not by_name.holds(OursFacts("0.1.0"))


def test_pip_remembers_what_a_wheel_was(tmp_path: Path) -> None:
    wheel = tmp_path / "张 三" / "rwkv_lora_runner-9.9-py3-none-any.whl"
    wheel.parent.mkdir()
    info = "rwkv_lora_runner-9.9.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: rwkv-lora-runner\nVersion: 9.9\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    place = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", str(place)]
    subprocess.run([*pip, str(wheel)], check=True, stdout=subprocess.DEVNULL)
    script = Path(inspect_python.__file__).read_text("utf-8")
    done = subprocess.run(
        [sys.executable, "-c", script, "no-torch"], env={**os.environ, "PYTHONPATH": str(place)},
        cwd="/", stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    ours = json.loads(done.stdout)["ours"]
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert ours == {"version": "9.9", "folder": None, "sha256": digest}


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
