"""The list of what can be downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from runner_gui.i18n import tr
from runner_gui.model import transfers
from runner_gui.model.catalogue import Offer
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.record_table import Column, Records, RecordTable

OfferState = transfers.State | Literal["offered", "there", "other"]
_ROLES = {"there": "green", "other": "amber", "failed": "red", "running": "accent_text"}


@dataclass(frozen=True, slots=True)
class OfferRow:
    """A file, and how far it is here: "other" is a file of another size under its name."""

    offer: Offer
    family: str
    state: OfferState


def check_words(offer: Offer) -> str:
    """How it will be known to be right."""
    return "SHA-256" if offer.sha256 else tr("downloads.unchecked")


def state_words(row: OfferRow) -> str:
    """Where it stands; of one that nothing can check, that comes first."""
    if row.state == "offered" and not row.offer.sha256:
        return tr("downloads.unchecked")
    return tr(f"downloads.{row.state}")


def _state_role(row: OfferRow) -> str:
    unchecked = row.state == "offered" and not row.offer.sha256
    return "amber" if unchecked else _ROLES.get(row.state, "muted")


def _billions(row: OfferRow) -> float | None:
    return float(row.offer.parameters.rstrip("B")) if row.offer.parameters else None


COLUMNS = (
    Column("downloads.name", lambda row: row.offer.name, stretches=True),
    Column("downloads.family", lambda row: row.family, fits_from=820),
    Column("downloads.parameters", lambda row: row.offer.parameters or fmt.NONE, _billions, fits_from=600),
    Column("downloads.size", lambda row: fmt.size(row.offer.size_bytes), lambda row: row.offer.size_bytes),
    Column("downloads.released", lambda row: row.offer.released or fmt.NONE, fits_from=940),
    Column("downloads.check", lambda row: check_words(row.offer), fits_from=700),
    Column("downloads.state", state_words, color=_state_role),
)


class OfferTable(RecordTable):
    """Rows are `OfferRow`s, the newest first at the start."""

    def __init__(self, parent: QWidget | None = None) -> None:
        records = Records(
            lambda row: row.offer.name,
            lambda row: f"{row.offer.name} {row.family} {row.offer.parameters} {state_words(row)}",
            lambda row: row.offer.name,
        )
        super().__init__(COLUMNS, records, "page.downloads", parent)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)  # names begin alike
        self.sortByColumn(4, Qt.SortOrder.DescendingOrder)
