"""Where the environment is and what pip is told."""

from __future__ import annotations

import sys
from pathlib import Path

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
