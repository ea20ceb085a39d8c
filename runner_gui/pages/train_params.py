"""What is done with all parameters at once: presets, files, the clipboard, the command that they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog, QWidget

from runner_gui.i18n import tr
from runner_gui.model import params_file
from runner_gui.model.form import FormState
from runner_gui.model.params_file import LoadedParams
from runner_gui.model.settings import Settings
from runner_gui.model.train_presets import KEPT, preset_values
from runner_gui.services.pipeline import Pipeline
from runner_gui.widgets.banner import Banner, BannerAction, Notice
from runner_gui.widgets.command_dialog import CommandDialog
from runner_gui.widgets.preset_bar import PresetBar
from trainer.contract.errors import AppError

_SUFFIX = ".params.json"


class TrainParamsFlow(QObject):
    """Links the preset bar, the form and the pipeline."""

    def __init__(
        self,
        page: QWidget,
        bar: PresetBar,
        state: FormState,
        settings: Settings,
        pipeline: Pipeline,
        banner: Banner,
    ) -> None:
        super().__init__(page)
        self._page, self._bar, self._state = page, bar, state
        self._settings, self._pipeline, self._banner = settings, pipeline, banner
        self._demo = pipeline.workspace.demo_params()
        bar.show_preset(settings.preset)
        bar.preset_chosen.connect(self.take_preset)
        bar.action_chosen.connect(lambda name: getattr(self, f"ask_{name}")())

    def take_preset(self, name: str) -> None:
        """Start from a preset; model, data and device stay, and what was there can be had back."""
        before, last = dict(self._state.values), self._settings.preset
        self._use_preset(name)
        if before != self._state.values:
            undo = BannerAction("action.undo", lambda: self._undo(last, before))
            words = {"name": " · ".join(tr(key) for key in _words(name))}
            self._banner.show_notice(Notice("info", "preset_taken", words, actions=(undo,)))

    def _use_preset(self, name: str) -> None:
        self._settings.preset = name
        self._bar.show_preset(name)
        self._state.load(preset_values(name, self._demo), KEPT)

    def _undo(self, preset: str, values: Mapping[str, Any]) -> None:
        self._use_preset(preset)
        self._fill(values)
        self._banner.dismiss()

    # Files

    def ask_save(self) -> QFileDialog:
        """Ask where to keep the parameters, and write them."""
        dialog = QFileDialog(self._page.window(), tr("preset.do_save"))
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix(_SUFFIX.removeprefix("."))
        dialog.selectFile(f"{Path(self._state.values['data'] or 'rwkv').stem}{_SUFFIX}")
        return self._open(dialog, self.save)

    def ask_load(self) -> QFileDialog:
        """Ask for a file of parameters, and take it."""
        dialog = QFileDialog(self._page.window(), tr("preset.do_load"))
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setNameFilters([f"{tr('form.filter_fitting')} (*.json)", f"{tr('form.filter_all')} (*)"])
        return self._open(dialog, self.load)

    def ask_runner(self) -> QFileDialog:
        """Ask for RWKV-Runner's `config.json`, and take its training parameters."""
        dialog = QFileDialog(self._page.window(), tr("preset.do_runner"))
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setNameFilters(["config.json (config.json)", f"{tr('form.filter_all')} (*)"])
        return self._open(dialog, self.load_runner)

    def _open(self, dialog: QFileDialog, then: Callable[[Path], None]) -> QFileDialog:
        dialog.fileSelected.connect(lambda path: then(Path(path)))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        return dialog

    def save(self, path: Path) -> None:
        """Write every parameter to a file."""
        try:
            params_file.save(self._state.values, path)
        except AppError as error:
            self._banner.show_notice(Notice("error", problem=error.problem))
        else:
            self._banner.show_notice(Notice("success", "exported", {"name": path.name}))

    def load(self, path: Path) -> None:
        """Take the parameters of a file."""
        self._take(lambda: params_file.load(path), path.name)

    def load_runner(self, path: Path) -> None:
        """Take what RWKV-Runner was set to."""
        self._take(lambda: params_file.load_runner(path), f"RWKV-Runner ({path.name})")

    def ask_copy(self) -> None:
        """Put what differs from the defaults on the clipboard."""
        QGuiApplication.clipboard().setText(params_file.as_text(self._state.values))
        self._banner.show_notice(Notice("success", "params_copied"))

    def ask_paste(self) -> None:
        """Take parameters from the clipboard."""
        text = QGuiApplication.clipboard().text()
        self._take(lambda: params_file.from_text(text), tr("preset.clipboard"))

    def _take(self, read: Callable[[], LoadedParams], name: str) -> None:
        try:
            loaded = read()
        except AppError as error:
            self._banner.show_notice(Notice("error", problem=error.problem))
            return
        before, preset = dict(self._state.values), self._settings.preset
        self._fill(loaded.values)
        undo = (BannerAction("action.undo", lambda: self._undo(preset, before)),)
        taken = "\n".join(f"{tr(f'param.{n}.label')}: {value}" for n, value in loaded.values.items())
        if loaded.left_out:
            args = {"name": name, "names": tr("list.separator").join(loaded.left_out)}
            self._banner.show_notice(Notice("warning", "params_partly", args, details=taken, actions=undo))
        else:
            self._banner.show_notice(
                Notice("success", "params_taken", {"name": name}, details=taken, actions=undo)
            )

    def _fill(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            self._state.set(name, value)

    # The command

    def ask_command(self) -> CommandDialog | None:
        """Show the command that the button would run."""
        params = self._state.params()
        if params is None:
            self._banner.show_notice(Notice("warning", "command_unready"))
            return None
        dialog = CommandDialog(self._pipeline.preview(params).argv, self._page.window())
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()
        return dialog


def _words(preset: str) -> tuple[str, ...]:
    purpose, _, effort = preset.partition(".")
    return (f"preset.{purpose}", f"effort.{effort}") if effort else (f"preset.{purpose}",)
