"""Compiling where there is a compiler, and where there is none or it does not work."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from trainer.kernels import dispatch
from trainer.kernels.dispatch import OPERATIONS, choose
from trainer.kernels.native import build, library
from trainer.kernels.native.build import NativeUnavailableError, load_library

HAS_COMPILER = any(map(shutil.which, build.COMPILERS))
pytestmark = pytest.mark.skipif(not HAS_COMPILER, reason="no C compiler here")
ANSWER = "int answer(void) { return ANSWER; }\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "a cache"))
    return tmp_path / "a cache" / "kernels"


def written(folder: Path, answer: int) -> Path:
    """A C file whose answer is in a header beside it."""
    folder.mkdir(exist_ok=True)
    (folder / "answer.h").write_text(f"#define ANSWER {answer}\n")
    (folder / "code.c").write_text(f'#include "answer.h"\n{ANSWER}')
    return folder / "code.c"


def test_compiled_once_and_again_when_the_code_or_its_header_changes(cache: Path, tmp_path: Path) -> None:
    source = written(tmp_path / "ein Ordner 码", 42)
    assert load_library(source).answer() == 42
    (first,) = cache.iterdir()
    stamp = first.stat().st_mtime_ns
    assert load_library(source).answer() == 42
    assert first.stat().st_mtime_ns == stamp
    assert load_library(written(source.parent, 43)).answer() == 43
    assert len(list(cache.iterdir())) == 2


def test_processes_that_compile_at_the_same_time(cache: Path, tmp_path: Path) -> None:
    source = written(tmp_path / "code", 7)
    code = (
        "import sys; from pathlib import Path; from trainer.kernels.native.build import load_library;"
        "print(load_library(Path(sys.argv[1])).answer())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code, str(source)], stdout=subprocess.PIPE) for _ in range(3)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == [b"7"] * 3
    assert len(list(cache.iterdir())) == 1


def test_code_that_does_not_compile_is_told_by_the_compilers_words(cache: Path, tmp_path: Path) -> None:
    source = tmp_path / "broken.c"
    source.write_text("int answer(void) { return no_such_name; }")
    with pytest.raises(NativeUnavailableError, match="failed"):
        load_library(source)
    assert not cache.exists()


def test_a_cache_that_takes_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RUNNER_CACHE", str(tmp_path / "file"))
    with pytest.raises(NativeUnavailableError, match="file"):
        load_library(written(tmp_path / "code", 9))


@pytest.mark.parametrize("operation", list(OPERATIONS))
def test_without_a_compiler_the_chunked_form_runs_and_the_log_says_so_once(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for cached in (dispatch._choose, library.loaded):
        cached.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert [choose(operation, "cpu")[0] for _ in range(2)] == ["chunked"] * 2
        (line,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
        assert operation in line
        assert "no C compiler" in line
    finally:
        for cached in (dispatch._choose, library.loaded):
            cached.cache_clear()


def test_the_code_lies_where_the_package_is_installed() -> None:
    spec = find_spec("trainer.kernels.native")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    files = {path.name for path in Path(spec.submodule_search_locations[0]).iterdir()}
    assert {"wkv.h", *(f"{operation}.c" for operation in OPERATIONS)} <= files
