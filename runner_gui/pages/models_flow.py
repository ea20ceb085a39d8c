"""From a checkpoint to a model that talks: try it, merge it, use it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from PySide6.QtCore import QObject, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QWidget

from runner_gui.i18n import tr
from runner_gui.model.run_store import RunStore, best_checkpoint, last_checkpoint
from runner_gui.model.serving import ServeOptions
from runner_gui.services.pipeline import Pipeline
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, BannerAction, Notice
from runner_gui.widgets.merge_dialog import MergeDialog, MergeFacts
from trainer.contract.errors import Problem
from trainer.contract.run_folder import Checkpoint, RunFolder, RunRecord
from wsl_bootstrap.codes import Code


class ModelsFlow(QObject):
    """Opens the merge dialog and links it to the pipeline.

    Signals:
        chat_requested(object): `ServeOptions` of a model to talk to.
        compare_requested(object, object): those of two models to hold against each other.
    """

    chat_requested = Signal(object)
    compare_requested = Signal(object, object)

    def __init__(self, page: QWidget, pipeline: Pipeline, banner: Banner) -> None:
        super().__init__(page)
        self._page, self._pipeline, self._banner = page, pipeline, banner
        self.merge_dialog: MergeDialog | None = None
        pipeline.merged.connect(self._on_merged)
        pipeline.use_ready.connect(lambda model: self.chat_requested.emit(ServeOptions(Path(model))))
        pipeline.steps_changed.connect(self._show_merging)

    def offer_result(self, folder: RunFolder | None, status: str) -> None:
        """Say what a run has reached; offer to merge it, to try it and, if it was stopped, to go on."""
        point = best_checkpoint(folder) if folder is not None else None
        if folder is None or point is None:
            return
        stays = _stays_beside(folder.read())
        merge = BannerAction("checkpoints.merge", lambda: self.ask_merge(folder, str(point.path)), main=True)
        actions = [
            *([] if stays else [merge]),
            BannerAction("checkpoints.try", lambda: self.try_checkpoint(folder, str(point.path)), main=stays),
            BannerAction("checkpoints.compare", lambda: self.compare_checkpoint(folder, str(point.path))),
        ]
        if status == "stopped" and last_checkpoint(folder) is not None:
            actions.append(BannerAction("action.resume", lambda: self._resume(folder)))
        args = {"step": fmt.whole(point.meta.step)}
        self._banner.show_notice(Notice("success", f"run_{status}", args, actions=actions))

    def ask_merge(self, folder: RunFolder, checkpoint: str) -> MergeDialog | None:
        """Open the merge dialog for a checkpoint's folder."""
        point = _find(folder, checkpoint)
        info = RunStore(folder.path.parent).get(folder.path)
        if point is None or info is None:
            self._fail(Problem("adapter_unreadable", {"path": checkpoint, "reason": "meta.json"}))
            return None
        if _stays_beside(info.record):
            args = {"path": str(point.adapter), "generation": info.record.generation}
            self._fail(Problem("merge_state", args))
            return None
        output = self._pipeline.merge_target(point, folder)
        alpha, r = _strength(point)
        facts = MergeFacts(
            point.path,
            point.meta.step,
            info.record.base_name,
            output,
            info.record.base_bytes,
            shutil.disk_usage(_existing(output.parent)).free,
            alpha,
            r,
        )
        dialog = MergeDialog(facts, self._page.window())
        dialog.merge_requested.connect(
            lambda path, options: self._pipeline.merge(point, folder, Path(path), options)
        )
        dialog.use_requested.connect(lambda path: self._pipeline.use(Path(path)))
        dialog.show_requested.connect(lambda path: self.show_in_folder(Path(path)))
        dialog.finished.connect(self._on_merge_closed)
        self.merge_dialog = dialog
        dialog.open()
        return dialog

    def try_checkpoint(self, folder: RunFolder, checkpoint: str) -> None:
        """Chat with the base model and a checkpoint's adapter, without merging."""
        if (options := self._mounted(folder, checkpoint)) is not None:
            self.chat_requested.emit(options)

    def compare_checkpoint(self, folder: RunFolder, checkpoint: str) -> None:
        """Hold a checkpoint against the base that it was trained from."""
        if (options := self._mounted(folder, checkpoint)) is not None:
            self.compare_requested.emit(ServeOptions(options.model), options)

    def _mounted(self, folder: RunFolder, checkpoint: str) -> ServeOptions | None:
        point = _find(folder, checkpoint)
        info = RunStore(folder.path.parent).get(folder.path)
        if point is None or info is None:
            self._fail(Problem("adapter_unreadable", {"path": checkpoint, "reason": "meta.json"}))
            return None
        base = self._pipeline.place.original(info.record.params["base_model"])
        return ServeOptions(base, point.adapter)

    def show_in_folder(self, path: Path) -> None:
        folder = path if path.is_dir() else path.parent
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))

    def take_failure(self, problem: Problem | Code) -> bool:
        """Show a failure in the merge dialog, if it is the one that waits."""
        if self.merge_dialog is None or self.merge_dialog.merge.isEnabled():
            return False
        self.merge_dialog.show_failed(problem)
        return True

    def _resume(self, folder: RunFolder) -> None:
        if not self._pipeline.is_busy:
            self._banner.dismiss()
            self._pipeline.resume(folder)

    def _fail(self, problem: Problem) -> None:
        self._banner.show_notice(Notice("error", problem=problem))

    def _show_merging(self) -> None:
        dialog = self.merge_dialog
        view = next((v for v in self._pipeline.steps if v.id == "merge"), None)
        if dialog is None or view is None or dialog.merge.isEnabled():
            return
        if view.state == "applying":
            dialog.show_progress(view.done, view.total)
        elif view.state == "verifying":
            dialog.show_progress(0, None)
            dialog.show_phase(tr("phase.verifying"))

    def _on_merged(self, path: str) -> None:
        if self.merge_dialog is not None:
            self.merge_dialog.show_merged(path)
            return
        actions = (
            BannerAction("merge.use", lambda: self._pipeline.use(Path(path)), main=True),
            BannerAction("action.show", lambda: self.show_in_folder(Path(path))),
        )
        self._banner.show_notice(Notice("success", "merged", {"name": Path(path).name}, actions=actions))

    def _on_merge_closed(self) -> None:
        if self.merge_dialog is not None:
            self.merge_dialog.deleteLater()
            self.merge_dialog = None


def _stays_beside(record: RunRecord | None) -> bool:
    """Whether what was trained is a state that no tool reads from a merged model."""
    return record is not None and record.params.get("method") == "state" and record.generation == "7"


def _find(folder: RunFolder, checkpoint: str) -> Checkpoint | None:
    wanted = Path(checkpoint).name
    return next((point for point in folder.checkpoints() if point.path.name == wanted), None)


def _strength(point: Checkpoint) -> tuple[float | None, int | None]:
    """Alpha and r as the checkpoint's sidecar tells them."""
    try:
        raw = json.loads((point.path / "adapter.json").read_text(encoding="utf-8"))
        return raw.get("alpha"), raw.get("r")
    except (OSError, ValueError, AttributeError):
        return None, None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest of those above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
