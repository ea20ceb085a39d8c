"""Starts the window."""

from __future__ import annotations

import argparse
import ctypes
import locale
import logging
import os
import sys
from pathlib import Path
from types import TracebackType

from PySide6.QtWidgets import QApplication

from runner_gui import theme
from runner_gui.i18n import set_language
from runner_gui.model import settings as settings_file
from runner_gui.model.settings import Settings
from runner_gui.model.workspace import Workspace
from runner_gui.services.single_instance import SingleInstance
from runner_gui.window import MainWindow

APP_ID = "RwkvLoraRunner.App"
LOG = logging.getLogger(__name__)


def make_application(arguments: list[str]) -> QApplication:
    """The application object, dressed and with numbers that C libraries understand."""
    application = QApplication(arguments)
    application.setApplicationName("RWKV LoRA Runner")
    application.setOrganizationName("RwkvLoraRunner")
    application.setStyle("Fusion")
    # QApplication takes the user's locale; with a decimal comma C libraries would read 0.5 as 0.
    locale.setlocale(locale.LC_NUMERIC, "C")
    return application


def main(arguments: list[str] | None = None) -> int:
    """Open the window and run until it is closed."""
    parser = argparse.ArgumentParser(prog="runner-gui", description="RWKV LoRA Runner")
    parser.add_argument("--work-dir", type=Path, help="where runs, models and settings lie")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.excepthook = _log_unhandled
    workspace = Workspace(given.work_dir)
    settings = settings_file.load(workspace.settings_file)
    _prepare_platform(settings)
    application = make_application(sys.argv[:1])
    instance = SingleInstance(workspace.root)
    if not instance.claim():
        heard = instance.ask_to_show()
        LOG.warning("a window of %s is open%s", workspace.root, "" if heard else " and does not answer")
        return 0 if heard else 1
    set_language(settings.language)
    theme.theme.apply(settings.theme)
    window = MainWindow(workspace, settings)
    instance.show_requested.connect(window.shell.bring_forward)
    window.show()
    status = application.exec()
    instance.close()
    return status


def _prepare_platform(settings: Settings) -> None:
    """What has to be said before there is an application."""
    if settings.scale != 100:
        os.environ.setdefault("QT_SCALE_FACTOR", f"{settings.scale / 100:g}")
    if sys.platform == "win32":  # else the taskbar shows Python
        ctypes.windll.shell32.SetCurrentProcessExplicitAppUserModelID(APP_ID)


def _log_unhandled(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    LOG.critical("unhandled", exc_info=(kind, error, trace))
