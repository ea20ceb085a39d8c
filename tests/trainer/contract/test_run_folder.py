from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from trainer.contract.errors import AppError
from trainer.contract.files import atomic_write, write_json
from trainer.contract.run_folder import CheckpointMeta, RunFolder, new_run_folder, safe_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my run", "my-run"), ("con", "_con"), ("NUL.txt", "_NUL.txt"), ("a/b\\c:d*?", "a-b-c-d"),
        ("角色 扮演。", "角色-扮演。"), ("  ...  ", "run"), ("", "run"), ("x" * 100, "x" * 64),
        ("名" * 40, "名" * 21), ("a\x00\nb", "a-b"),
    ],
)  # fmt: skip
def test_names_that_every_file_system_takes(name: str, expected: str) -> None:
    assert safe_name(name) == expected


def test_two_runs_of_one_second_get_two_folders(tmp_path: Path) -> None:
    a, b = (new_run_folder(tmp_path, "demo", now_ts=0.0) for _ in range(2))
    assert a.path != b.path
    assert b.run_id == f"{a.run_id}-2"


def _hold(path: str, held, release) -> None:  # type: ignore[no-untyped-def]
    with RunFolder(path).lock():
        held.set()
        release.wait(30)


def test_a_run_is_running_while_a_process_holds_it_and_interrupted_when_that_dies(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(str(tmp_path), held, release))
    process.start()
    assert held.wait(30)
    run = RunFolder(tmp_path)
    assert run.status() == "running"
    with pytest.raises(AppError, match="run"):
        run.delete()
    process.kill()
    process.join()
    assert run.status() == "interrupted"


def test_a_checkpoint_without_its_meta_is_not_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (20, 3, 100):
        folder = run.checkpoint_folder(step)
        folder.mkdir(parents=True)
        meta = CheckpointMeta(step=step, epoch=0, kind="periodic", tokens=1, created_ts=0.0, bytes=1)
        if step != 20:
            write_json(folder / "meta.json", meta.model_dump(mode="json"))
    (run.ckpt / "000200.tmp").mkdir()
    assert [c.meta.step for c in run.checkpoints()] == [3, 100]


def test_a_broken_run_json_is_no_record(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.read() is None
    run.run_json.write_text('{"run_id": ')
    assert run.read() is None


@pytest.mark.parametrize("text", ["{}", "[]", '{"step": "three"}', '{"params": 3}', "null", "\x00"])
def test_files_that_hold_something_else_are_no_records(text: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.checkpoint_folder(3).mkdir(parents=True)
    for path in (folder.run_json, folder.notes_json, folder.checkpoint_folder(3) / "meta.json"):
        path.write_text(text)
    assert folder.read() is None
    assert folder.checkpoints() == []
    assert folder.notes().name == ""


def test_atomic_write_leaves_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"v": 1})
    with pytest.raises(TypeError), atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        file.write("no bytes")  # type: ignore[arg-type]
    assert json.loads(path.read_text()) == {"v": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AppError) as caught:
        write_json(tmp_path / "file" / "a.json", {})
    assert caught.value.code == "not_writable"
