"""Files copied into the distribution once and results copied out, with the real script."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.jobs import copy_inside
from wsl_bootstrap.jobs.staging import Staging
from wsl_bootstrap.step import Progress, StepError


class Copies:
    """A staging area and what it reported."""

    def __init__(self, world: Any) -> None:
        self.folder = world.folder / "opt" / "files"
        index = world.folder / "staged.json"
        self.staging = Staging(world.host, sys.executable, index, PurePosixPath(self.folder))
        self.progress: list[Progress] = []
        self.cancel = CancelToken()

    def bring(self, path: Path) -> Path:
        self.progress.clear()
        return Path(self.staging.bring(path, self.progress.append, self.cancel))

    def inside(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file() and path.name != ".lock")


@pytest.fixture
def copies(world: Any) -> Copies:
    return Copies(world)


@pytest.fixture
def model(world: Any) -> Path:
    path = world.drive / "模型 it's $(touch x).pth"
    path.write_bytes(os.urandom(3_000_000))
    return path


def test_a_file_is_copied_once_and_told_by_its_content(copies: Copies, model: Path) -> None:
    inside = copies.bring(model)
    assert inside.read_bytes() == model.read_bytes()
    assert inside.name == model.name
    assert copies.progress[-1] == Progress(3_000_000, 3_000_000, "bytes")
    assert copies.bring(model) == inside
    assert copies.progress == []  # found, not copied
    os.utime(model, ns=(1, 1))
    assert copies.bring(model) == inside  # touched, the same content: read again, kept once
    assert copies.inside() == [inside]
    model.write_bytes(b"changed")
    changed = copies.bring(model)
    assert changed != inside
    assert changed.read_bytes() == b"changed"
    assert inside.exists()  # a run may still use it
    assert copies.staging.origin(str(changed)) == model


def test_a_copy_that_is_gone_is_made_again(copies: Copies, model: Path) -> None:
    copies.bring(model).unlink()
    copies.folder.rename(copies.folder.with_name("elsewhere"))
    assert copies.bring(model).read_bytes() == model.read_bytes()


def test_folders_and_pairs_keep_their_shape(copies: Copies, world: Any) -> None:
    folder = world.drive / "data 数据"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    inside = copies.bring(folder)
    assert inside.name == folder.name
    assert {p.relative_to(inside).as_posix() for p in inside.rglob("*.txt")} == {"a.txt", "sub/b.txt"}
    (folder / "sub" / "b.txt").write_text("c, longer")
    assert (copies.bring(folder) / "sub" / "b.txt").read_text() == "c, longer"
    for suffix in (".bin", ".idx"):
        (world.drive / f"tokens.v1{suffix}").write_text(suffix)
    prefix = copies.bring(world.drive / "tokens.v1")
    assert prefix.name == "tokens.v1"
    assert Path(f"{prefix}.bin").read_text() == ".bin"
    assert Path(f"{prefix}.idx").read_text() == ".idx"
    copies.bring(world.drive / "tokens.v1")
    assert copies.progress == []


def test_what_is_not_there_is_left_to_its_reader(copies: Copies, world: Any) -> None:
    assert copies.bring(world.drive / "nothing.jsonl") == world.drive / "nothing.jsonl"


def test_cancelling_leaves_nothing_half_made(copies: Copies, model: Path) -> None:
    copies.cancel.cancel()
    with pytest.raises(CancelledError):
        copies.bring(model)
    copies.cancel = CancelToken()
    inside = copies.bring(model)
    assert copies.inside() == [inside]


def test_no_room_is_said_before_anything_is_copied(
    copies: Copies, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file claims to be larger than the disk: sparse, so it takes no room itself.
    with open(model, "r+b") as file:
        file.truncate(1 << 43)
    with pytest.raises(StepError) as caught:
        copies.bring(model)
    assert caught.value.code.id == "disk_full"
    assert copies.inside() == []


def test_a_result_comes_out_whole_and_leaves_nothing_inside(copies: Copies, world: Any) -> None:
    made = copies.folder / "out.pth"
    made.parent.mkdir(parents=True)
    made.write_bytes(os.urandom(1_000_000))
    content, target = made.read_bytes(), world.drive / "合并.pth"
    copies.staging.fetch(str(made), target, copies.progress.append, copies.cancel)
    assert target.read_bytes() == content
    assert not made.exists()
    assert [path.name for path in world.drive.iterdir()] == [target.name]
    assert copies.progress[-1].done == copies.progress[-1].total


def test_a_result_never_takes_the_place_of_another_file(copies: Copies, world: Any) -> None:
    made, target = copies.folder / "out.pth", world.drive / "taken.pth"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"new")
    target.write_bytes(b"old")
    with pytest.raises(StepError) as caught:
        copies.staging.fetch(str(made), target, copies.progress.append, copies.cancel)
    assert caught.value.code.id == "copy_failed"
    assert target.read_bytes() == b"old"
    assert made.exists()


def test_a_copy_that_differs_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "made", tmp_path / "result"
    source.write_bytes(b"right")
    monkeypatch.setattr(copy_inside, "sha256", lambda path: "of something else")
    assert copy_inside.main(["out", str(source), str(target)]) == 1
    assert sorted(tmp_path.iterdir()) == [source]


def test_a_file_that_changes_while_it_is_read_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "growing"
    source.write_bytes(b"one")
    grow = copy_inside.os.fsync

    def fsync(handle: int) -> None:
        grow(handle)
        source.write_bytes(b"one two")

    monkeypatch.setattr(copy_inside.os, "fsync", fsync)
    assert copy_inside.main(["in", str(tmp_path / "files"), str(source)]) == 1
    assert '"changed"' in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "files").iterdir()] == [".lock"]


def test_an_index_that_is_not_understood_only_costs_a_copy(copies: Copies, model: Path, world: Any) -> None:
    (world.folder / "staged.json").write_text("[1, 2")
    assert copies.bring(model).read_bytes() == model.read_bytes()
