"""The window's language and theme are process-wide: every test starts from English and light."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QApplication

from runner_gui import theme
from runner_gui.i18n import set_language


@pytest.fixture
def dressed(qapp: QApplication) -> Iterator[QApplication]:
    """The application as `app.main` dresses it."""
    qapp.setStyle("Fusion")
    set_language("en")
    theme.theme.apply("light")
    yield qapp
    set_language("en")
    theme.theme.apply("light")
