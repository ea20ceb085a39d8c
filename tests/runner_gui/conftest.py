"""The window's language and theme are process-wide: every test starts from English and light."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QEvent
from PySide6.QtWidgets import QApplication

from runner_gui import theme
from runner_gui.i18n import set_language
from runner_gui.model.settings import Settings
from runner_gui.model.workspace import Workspace
from runner_gui.window import MainWindow
from trainer.contract.run_folder import RunFolder, RunRecord


@pytest.fixture
def dressed(qapp: QApplication) -> Iterator[QApplication]:
    """The application as `app.main` dresses it, without what earlier tests have left to be deleted."""
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    qapp.setStyle("Fusion")
    set_language("en")
    theme.theme.apply("light")
    yield qapp
    set_language("en")
    theme.theme.apply("light")


@pytest.fixture
def window(dressed: QApplication, tmp_path: Path) -> Iterator[MainWindow]:
    """A window on an empty work folder, in English; nothing is probed until its Train page loads."""
    # Not given to qtbot, which would delete it before its threads have ended.
    made = MainWindow(Workspace(tmp_path / "工作 folder"), Settings(language="en"))
    made._loaded = True
    made.show()
    yield made
    made.close()
    made.deleteLater()


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[..., Any]:
    """The trainer's tests make small models; so do these."""
    path = Path(__file__).resolve().parents[1] / "trainer" / "checkpoints.py"
    spec = importlib.util.spec_from_file_location("small_checkpoints", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["small_checkpoints"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module.make_checkpoint


def _make_run(
    root: Path, name: str, created_ts: float = 1.0, params: dict[str, Any] | None = None, **summary: Any
) -> RunFolder:
    folder = RunFolder(root / name)
    folder.write(
        RunRecord(
            run_id=name,
            created_ts=created_ts,
            params={"base_model": "/m.pth", "data": "/d.jsonl", **(params or {})},
            base_name="m",
            base_bytes=1,
            base_sha256="0",
            generation="7",
            data_name="d",
            data_sha256="0",
            data_tokens=1,
            data_documents=1,
            total_steps=10,
            versions={},
            machine={},
            command=[],
        )
    )
    if summary:
        folder.summary_json.write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="session")
def make_run() -> Callable[..., RunFolder]:
    """Writes a run folder: (root, name, created_ts, params, **summary); without a summary it was cut off."""
    return _make_run
