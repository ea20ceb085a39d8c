"""How the pages that talk to a model are laid out: the talk in the middle, its settings at the right."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QLayout, QVBoxLayout, QWidget


def lay_out(
    page: QWidget,
    head: QLayout,
    banner: QWidget,
    middle: QLayout,
    panel: QWidget,
    *,
    left: QWidget | None = None,
) -> None:
    """Fill a page: the head and the banner over all of it, then `left` | `middle` | `panel`."""
    across = QHBoxLayout()
    across.setSpacing(16)
    if left is not None:
        across.addWidget(left)
    across.addLayout(middle, 1)
    across.addWidget(panel)
    column = QVBoxLayout(page)
    column.setContentsMargins(20, 16, 20, 16)
    column.setSpacing(12)
    column.addLayout(head)
    column.addWidget(banner)
    column.addLayout(across, 1)
