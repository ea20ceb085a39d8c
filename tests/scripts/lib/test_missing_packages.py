from __future__ import annotations

import ctypes.util
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "lib" / "missing_packages.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux's dynamic linker")


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("missing_packages", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_the_package_of_a_library_that_is_not_there(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = ctypes.util.find_library("c")
    libraries = {here: "libc6", "libsurely-not-there.so.9": "libsurely9"}
    monkeypatch.setattr(script, "PACKAGE_BY_LIBRARY", libraries)
    monkeypatch.setattr(script, "has_chinese_font", lambda: True)
    assert script.missing_packages() == ["libsurely9"]


def test_a_system_without_a_chinese_font_is_told_which_to_install(tmp_path: Path) -> None:
    config = tmp_path / "fonts.conf"
    config.write_text(f"<fontconfig><dir>{tmp_path}</dir><cachedir>{tmp_path}</cachedir></fontconfig>")
    # A process of its own: fontconfig reads its configuration once in a process.
    command = [sys.executable, str(SCRIPT)]
    environment = {**os.environ, "FONTCONFIG_FILE": str(config)}
    result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "fonts-wqy-microhei"
