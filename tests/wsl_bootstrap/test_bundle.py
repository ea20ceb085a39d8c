"""The file to send when asking for help: everything that helps, nothing that is nobody's business."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from wsl_bootstrap.bundle import LAST_LINES, gather, write_bundle
from wsl_bootstrap.hosts.windows import WindowsHost
from wsl_bootstrap.hosts.windows_facts import ScriptedWindows
from wsl_bootstrap.mirrors import Mirror
from wsl_bootstrap.options import SetupOptions

ROOT = Path(__file__).parents[2]


def _read(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name).decode("utf-8") for name in archive.namelist()}


@pytest.fixture
def windows(tmp_path: Path) -> WindowsHost:
    facts = {
        "boot_id": "1",
        "profile": "C:\\Users\\张三",
        "local_app_data": "C:\\Users\\张三\\AppData\\Local",
    }
    (tmp_path / "facts.json").write_text(json.dumps({"facts": facts}), "utf-8")
    player = tmp_path / "wsl.exe"
    player.write_text(
        "#!/bin/sh\nprintf '没有安装 C:\\\\\\\\Users\\\\\\\\张三\\\\\\\\x\\n'\nexit 50\n", "utf-8"
    )
    player.chmod(0o755)
    return WindowsHost(ScriptedWindows(tmp_path / "facts.json"), "Own", wsl=str(player))


def test_names_homes_and_secrets_are_taken_out(windows: WindowsHost, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text(
        "".join(f"line {n}\n" for n in range(LAST_LINES + 50)) + "HF_TOKEN=hf_abcdefghijkl 张三\n", "utf-8"
    )
    options = SetupOptions(proxy="http://me:secret@10.0.0.1:7890", custom=Mirror(packages="https://u:p@x/s"))
    parts = gather(windows, (), (), options, [log, tmp_path / "gone.log"], "en")
    write_bundle(tmp_path / "deep" / "report.zip", windows, parts)
    found = _read(tmp_path / "deep" / "report.zip")
    everything = "\n".join(found.values())
    for secret in ("张三", "me:secret", "u:p@", "hf_abcdefghijkl", str(Path.home())):
        assert secret not in everything
    assert "http://***@10.0.0.1:7890" in found["choices.json"]
    assert found["wsl.txt"].count("exit 50") == 2
    assert json.loads(found["windows.json"])["profile"] == "~"
    assert found["logs/0-train.log"].startswith("line 51\n")
    assert found["logs/1-gone.log"].startswith("FileNotFoundError")
    assert "pydantic==" in found["packages.txt"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["report.zip"]


def test_what_cannot_be_written_leaves_nothing(windows: WindowsHost, tmp_path: Path) -> None:
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_bundle(tmp_path / "folder.zip", windows, {"a": "b"})
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("folder.zip") and path.is_file()]


def test_the_command_line_writes_one(tmp_path: Path) -> None:
    journal = tmp_path / "setup.json"
    journal.write_text('{"version": 1, "steps": {}}')
    output = tmp_path / "report.zip"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "wsl_bootstrap", "report", "--json", "--venv", str(tmp_path / "none")),
            *("--journal", str(journal), "--output", str(output)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert json.loads(done.stdout) == {"path": str(output)}
    found = _read(output)
    assert {"report.txt", "status.json", "choices.json", "packages.txt", "logs/0-setup.json"} == set(found)
    assert json.loads(found["status.json"])["obstacle"] == "python_env"
