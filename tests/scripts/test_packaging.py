"""The parts of packing that are decisions of ours; that the whole works is seen by building it."""

from __future__ import annotations

import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from scripts.packaging import windows

ROOT = Path(__file__).parents[2]


def test_an_icon_holds_every_size(qapp: object) -> None:
    made = windows.icon(ROOT / "assets" / "icons" / "app.svg")
    kind, count = struct.unpack_from("<xxHH", made)
    assert (kind, count) == (1, len(windows.ICON_PIXELS))
    for place, pixels in enumerate(windows.ICON_PIXELS):
        width, _, size, at = struct.unpack_from("<BB6xII", made, 6 + 16 * place)
        assert width == pixels % 256
        image = made[at : at + size]
        assert image.startswith(b"\x89PNG")
        assert struct.unpack_from(">II", image, 16) == (pixels, pixels)


def test_a_wheel_without_some_files_does_not_list_them(tmp_path: Path) -> None:
    whole, less = tmp_path / "a.whl", tmp_path / "b.whl"
    record = "a/code.py,sha256=1,1\na/assets/big.bin,sha256=2,2\na-1.dist-info/RECORD,,\n"
    with zipfile.ZipFile(whole, "w") as archive:
        for name, text in (("a/code.py", "x"), ("a/assets/big.bin", "y"), ("a-1.dist-info/RECORD", record)):
            archive.writestr(name, text)
    windows.copy_without(("a/assets/",), whole, less)
    with zipfile.ZipFile(less) as archive:
        assert archive.namelist() == ["a/code.py", "a-1.dist-info/RECORD"]
        assert archive.read("a-1.dist-info/RECORD").decode() == record.replace(
            "a/assets/big.bin,sha256=2,2\n", ""
        )


def test_the_same_folder_gives_the_same_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    made = []
    for number, names in enumerate((("b", "a 文"), ("a 文", "b"))):
        tree = tmp_path / f"tree{number}"
        tree.mkdir()
        for name in names:
            (tree / name).write_text(name)
        made.append(windows.make_zip(tree, tmp_path / f"{number}.zip").read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("numpy/_core/tests/test_x.py", False),
        ("numpy/testing/__init__.py", True),
        ("a-1.dist-info/RECORD", False),
        ("a-1.dist-info/METADATA", True),
        ("a-1.dist-info/licenses/LICENSE", True),
        ("bin/tool", False),
        ("pyqtgraph/examples/x.py", False),
        ("trainer/contract/texts/en.json", True),
    ],
)
def test_what_is_left_out(name: str, kept: bool) -> None:
    assert (not windows.UNUSED.search(name) or bool(windows.KEPT.search(name))) == kept


@pytest.mark.skipif(shutil.which("osslsigncode") is None, reason="no osslsigncode")
def test_a_program_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "python.exe"
    program.write_bytes(b"MZ" + bytes(1000))
    with pytest.raises(SystemExit, match=r"python\.exe is not what"):
        windows.check_signature(program)


@pytest.mark.skipif(shutil.which(windows.COMPILER) is None, reason="no mingw")
def test_the_launcher_says_what_it_is_and_the_same_each_time(tmp_path: Path, qapp: object) -> None:
    made = []
    for number in range(2):
        work = tmp_path / str(number)
        work.mkdir()
        target = work / "tree" / "start.exe"
        target.parent.mkdir()
        (target.parent / "app.ico").write_bytes(windows.icon(ROOT / "assets" / "icons" / "app.svg"))
        windows.make_launcher(work, target, "1.2.3")
        made.append(target.read_bytes())
    assert made[0] == made[1]
    assert "1.2.3".encode("utf-16-le") in made[0]
    assert b"PerMonitorV2" in made[0]
    assert b"longPathAware" in made[0]
    assert "python\\pythonw.exe".encode("utf-16-le") in made[0]
    libraries = set(windows.imported(target))
    assert libraries == {"kernel32.dll", "msvcrt.dll", "user32.dll"}  # nothing that Windows does not have


def test_the_installer_asks_for_no_rights_and_keeps_what_a_person_made() -> None:
    script = (windows.HERE / "installer.nsi").read_text("utf-8")
    assert "RequestExecutionLevel user" in script
    for optional in ("un_distribution", "un_data"):
        (line,) = [
            line for line in script.splitlines() if line.startswith("Section") and line.endswith(optional)
        ]
        assert line.startswith("Section /o")  # not chosen unless somebody chooses it
    assert "HKLM" not in script


@pytest.mark.skipif(shutil.which("makensis") is None, reason="no NSIS")
def test_the_same_folder_gives_the_same_installer(tmp_path: Path, qapp: object) -> None:
    made = []
    for number in range(2):
        tree, out = tmp_path / f"{number}" / "tree", tmp_path / f"{number}" / "out"
        (tree / "python").mkdir(parents=True)
        out.mkdir()
        for name in ("python/pythonw.exe", "LICENSE", "文.txt"):
            (tree / name).write_text(name)
        (tree / "app.ico").write_bytes(windows.icon(ROOT / "assets" / "icons" / "app.svg"))
        windows.settle(tree)
        made.append(windows.make_installer(tmp_path, tree, "1.2.3", out).read_bytes())
    assert made[0] == made[1]
