"""The list of models and adapters."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from runner_gui.i18n import tr
from runner_gui.model.shelf import ShelfEntry
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.record_table import Column, Records, RecordTable

KIND_ROLES = {"base": "text", "merged": "green", "adapter": "accent_text", "gguf": "muted", "refused": "red"}


def _generation(entry: ShelfEntry) -> str:
    return f"RWKV-{entry.generation}" if entry.generation else fmt.NONE


def _parameters(entry: ShelfEntry) -> str:
    return fmt.NONE if entry.parameters is None else fmt.count(entry.parameters)


COLUMNS = (
    Column("models.name", lambda entry: entry.name, stretches=True),
    Column("models.kind", lambda entry: tr(f"models.{entry.kind}"), color=lambda e: KIND_ROLES[e.kind]),
    Column("models.generation", _generation, fits_from=440),
    Column("models.parameters", _parameters, lambda entry: entry.parameters, fits_from=640),
    Column("models.dtype", lambda entry: entry.dtype or fmt.NONE, fits_from=840),
    Column("models.size", lambda entry: fmt.size(entry.size_bytes), lambda entry: entry.size_bytes),
    Column(
        "models.modified", lambda e: fmt.moment(e.modified_ts), lambda entry: entry.modified_ts, fits_from=940
    ),
)


class ModelTable(RecordTable):
    """Rows are `ShelfEntry`s, by name at the start."""

    def __init__(self, parent: QWidget | None = None) -> None:
        records = Records(
            lambda entry: str(entry.path),
            lambda entry: f"{entry.path} {entry.name} {_generation(entry)} {tr(f'models.{entry.kind}')}",
            lambda entry: str(entry.path),
        )
        super().__init__(COLUMNS, records, "page.models", parent)
        self.sortByColumn(0, Qt.SortOrder.AscendingOrder)
