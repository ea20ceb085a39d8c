"""Where the environment is and what pip is told."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from wsl_bootstrap.environment import DISTRIBUTION, Environment, current_environment


def test_in_a_virtual_environment_it_is_this_one() -> None:
    if sys.prefix == sys.base_prefix:
        pytest.skip("the tests run in a Python that is nobody's environment")
    environment = current_environment()
    assert environment.folder == Path(sys.prefix)
    assert Path(environment.python).resolve() == Path(sys.executable).resolve()


def test_in_the_systems_python_it_is_one_of_our_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert current_environment().folder == tmp_path / "RwkvLoraRunner" / "venv"


def test_a_folder_with_the_project_is_installed_from(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").touch()
    environment = Environment(Path("/env"), source=str(tmp_path))
    assert environment.source_folder == tmp_path
    assert environment.requirement() == ("-e", str(tmp_path))
    assert environment.requirement("train") == ("-e", f"{tmp_path}[train]")
    assert environment.tested_versions() == ()
    (tmp_path / "constraints.txt").touch()
    assert environment.tested_versions() == ("-c", f"{tmp_path}/constraints.txt")


def test_without_one_the_distribution_is_named() -> None:
    environment = Environment(Path("/env"), source=DISTRIBUTION)
    assert environment.source_folder is None
    assert environment.requirement("train") == ("rwkv-lora-runner[train]",)
    assert environment.tested_versions() == ()
    assert environment.pip_install(["x y"])[:4] == ("/env/bin/python", "-m", "pip", "install")
    assert environment.pip_install(["x y"])[-1] == "x y"


class Behind:
    """A host that knows files by other names."""

    def facts(self) -> SimpleNamespace:
        return SimpleNamespace(os="windows")

    def to_linux_path(self, path: Path) -> str:
        return f"/mnt/c{path}"


def test_behind_wsl_it_is_one_of_our_own_inside(tmp_path: Path) -> None:
    environment = current_environment(Behind())  # type: ignore[arg-type]
    assert environment.python == "/opt/rwkv-lora-runner/venv/bin/python"
    assert environment.base_python == "/usr/bin/python3"
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "constraints.txt").touch()
    seen = replace(environment, source=str(tmp_path)).seen_from(Behind())  # type: ignore[arg-type]
    assert seen.requirement() == ("-e", f"/mnt/c{tmp_path}")
    assert seen.tested_versions() == ("-c", f"/mnt/c{tmp_path}/constraints.txt")
    assert seen.seen_from(Behind()) is seen  # type: ignore[arg-type]
    installed = replace(environment, source=DISTRIBUTION).seen_from(Behind())  # type: ignore[arg-type]
    assert (installed.inside, installed.requirement()) == (DISTRIBUTION, (DISTRIBUTION,))


def test_on_linux_names_stay_as_they_are(tmp_path: Path) -> None:
    environment = Environment(tmp_path)
    assert environment.seen_from(Behind()) is environment  # type: ignore[arg-type]
