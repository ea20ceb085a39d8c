from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner_gui.model import settings as store
from runner_gui.model.settings import Settings
from trainer.contract.errors import AppError


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "settings.json"
    settings = Settings(language="zh_CN", theme="dark", advanced_form=True, last_params={"ctx_len": 512})
    settings.note_data("/数据 a")
    store.save(settings, path)
    assert store.load(path) == settings


def test_no_file_is_the_defaults(tmp_path: Path) -> None:
    assert store.load(tmp_path / "none.json") == Settings()


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"\xff\xfe", b'{"theme": "pink"}', b'{"version": 2}', b'{"recent_data": "x"}', b"null"],
)
def test_what_is_not_understood_is_set_aside_and_kept(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    assert store.load(path) == Settings()
    assert (tmp_path / "settings.json.unreadable").read_bytes() == content
    assert not path.exists()


def test_fields_of_another_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"theme": "light", "new_field": 1}))
    assert store.load(path).theme == "light"


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AppError) as caught:
        store.save(Settings(), tmp_path / "file" / "settings.json")
    assert caught.value.code == "not_writable"


def test_recent_paths_are_unique_newest_first_and_few() -> None:
    settings = Settings()
    for number in range(15):
        settings.note_model(f"m{number % 12}")
    assert settings.recent_models[:3] == ["m2", "m1", "m0"]
    assert len(settings.recent_models) == 10
    assert len(set(settings.recent_models)) == 10
