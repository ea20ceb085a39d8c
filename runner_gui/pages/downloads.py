"""What can be downloaded, and how far it is."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QUrl, Signal
from PySide6.QtGui import QDesktopServices, QShowEvent
from PySide6.QtWidgets import QLineEdit, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.catalogue import Offer
from runner_gui.model.problems import AnyProblem
from runner_gui.model.workspace import Workspace
from runner_gui.services.downloads import Downloads
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, BannerAction, Notice
from runner_gui.widgets.controls import CalmComboBox, Card, button, empty, label, row
from runner_gui.widgets.dialogs import Question, facts_table
from runner_gui.widgets.offer_table import OfferRow, OfferState, OfferTable, check_words
from runner_gui.widgets.side_panel import SidePanel
from runner_gui.widgets.transfer_list import STOPPED, TransferList

ACTIONS = ("download", "pause", "resume", "cancel", "show")
SHOWN_DIGITS = 12


class DownloadsPage(QWidget):
    """The catalogue and the queue.

    Signals:
        train_requested(object): the path of a model that has come.
    """

    train_requested = Signal(object)

    def __init__(self, workspace: Workspace, downloads: Downloads, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self._workspace, self.downloads = workspace, downloads
        self.heading, self.count = label("heading"), label("muted")
        self.search = QLineEdit()
        self.search.setClearButtonEnabled(True)
        self.search.setFixedWidth(200)
        self.server, self.server_name = CalmComboBox(), label("muted")
        self.server.setMinimumContentsLength(14)
        self.server_name.setBuddy(self.server)
        self.refresh_button = button()
        self.banner, self.table, self.queue = Banner(), OfferTable(), TransferList()
        self.side, self.words = SidePanel(), label(wrap=True)
        self.buttons = {name: button("confirm" if name == "download" else "") for name in ACTIONS}
        self.buttons["download"].setDefault(True)
        self.question: Question | None = None
        self._lay_out()
        self._connect()
        self._fill_servers()
        self.retranslate()

    def _lay_out(self) -> None:
        listed = Card()
        listed.body.addWidget(self.table)
        self._facts = QVBoxLayout()
        self.side.column.addWidget(self.words)
        self.side.column.addLayout(self._facts)
        for shown in self.buttons.values():
            self.side.column.addWidget(shown)
        self.side.column.addStretch(1)
        left = QVBoxLayout()
        left.setSpacing(12)
        left.addWidget(listed, 1)
        left.addWidget(self.queue)
        across = row(spacing=12)
        across.addLayout(left, 1)
        across.addWidget(self.side)
        page = QVBoxLayout(self)
        page.setContentsMargins(16, 16, 16, 16)
        page.setSpacing(12)
        page.addLayout(
            row(
                self.heading, self.count, 1, self.search, self.server_name, self.server, self.refresh_button,
                spacing=12,
            )
        )  # fmt: skip
        page.addWidget(self.banner)
        page.addLayout(across, 1)

    def _connect(self) -> None:
        downloads = self.downloads
        self.search.textChanged.connect(self.table.set_words)
        self.table.chosen.connect(self._show_selection)
        self.table.opened.connect(lambda one: self._add(one.offer))
        self.server.currentIndexChanged.connect(lambda i: downloads.prefer(self.server.itemData(i)))
        self.refresh_button.clicked.connect(downloads.refresh)
        downloads.changed.connect(self._show)
        downloads.finished.connect(self._on_finished)
        downloads.failed.connect(self._on_failed)
        downloads.keeper.changed.connect(self._on_catalogue)
        downloads.keeper.failed.connect(lambda problem: self._on_failed(problem, ""))
        for name, do in {
            "download": lambda one: self._add(one.offer),
            "pause": lambda one: downloads.pause(one.offer.name),
            "resume": lambda one: downloads.resume(one.offer.name),
            "cancel": lambda one: self.ask_cancel(one.offer.name),
            "show": lambda _one: _open_folder(self._workspace.models),
        }.items():
            self.buttons[name].clicked.connect(
                lambda _=False, do=do: [do(one) for one in self.table.selected()]
            )
        self.queue.pause_requested.connect(downloads.pause)
        self.queue.resume_requested.connect(downloads.resume)
        self.queue.cancel_requested.connect(self.ask_cancel)
        language_changed.connect(self.retranslate)

    # What is shown

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._show()

    def _rows(self) -> list[OfferRow]:
        catalogue = self.downloads.keeper.catalogue
        return [OfferRow(offer, catalogue.family(offer), self._state(offer)) for offer in catalogue.models]

    def _state(self, offer: Offer) -> OfferState:
        transfer = self.downloads.get(offer.name)
        if transfer is not None:
            return transfer.state
        try:
            size = (self._workspace.models / offer.name).stat().st_size
        except OSError:
            return "offered"
        return "there" if offer.size_bytes in (None, size) else "other"

    def _show(self) -> None:
        if not self.isVisible():
            return
        rows = self._rows()
        self.queue.show_transfers(self.downloads.transfers)
        self._show_preferred()
        if self.table.show_rows(rows):
            self._show_selection()
        self.count.setText(fmt.whole(len(rows)))
        if not self.table.selected() and self.table.shown:
            self.table.selectRow(0)

    def _show_selection(self) -> None:
        chosen = self.table.selected()
        states = {one.state for one in chosen}
        empty(self._facts)
        one: OfferRow | None = chosen[0] if len(chosen) == 1 else None
        many = tr("models.selected", count=fmt.whole(len(chosen))) if chosen else ""
        self.side.title.set_full_text(one.offer.name if one else many)
        self.words.setVisible(one is not None)
        waiting = {"queued", "running", "checking"}
        self.buttons["download"].setVisible("offered" in states)
        self.buttons["pause"].setVisible(bool(states & waiting))
        self.buttons["resume"].setVisible(bool(states & set(STOPPED)))
        self.buttons["cancel"].setVisible(bool(states & {*waiting, "pausing", *STOPPED}))
        self.buttons["show"].setVisible(bool(states & {"there", "other"}))
        if one is None:
            return
        key = (
            one.state if one.state in ("there", "other") else "unchecked" if not one.offer.sha256 else "offer"
        )
        self.words.setText(tr(f"downloads.{key}_words"))
        facts = QWidget()
        facts.setLayout(facts_table(self._facts_of(one)))
        self._facts.addWidget(facts)

    def _facts_of(self, one: OfferRow) -> dict[str, str]:
        offer, catalogue = one.offer, self.downloads.keeper.catalogue
        digest = f"{offer.sha256[:SHOWN_DIGITS]}…" if offer.sha256 else ""
        hosts = [source.host for source in catalogue.sources(offer, self.downloads.preferred)]
        return {
            "downloads.family": one.family,
            "downloads.parameters": offer.parameters or fmt.NONE,
            "downloads.size": fmt.size(offer.size_bytes),
            "downloads.released": offer.released or fmt.NONE,
            "downloads.check": f"{check_words(offer)} {digest}".strip(),
            "downloads.servers": "\n".join(hosts),
        }

    def _fill_servers(self) -> None:
        self.server.blockSignals(True)
        self.server.clear()
        for host in ("", *self.downloads.keeper.catalogue.hosts()):
            self.server.addItem(host or tr("downloads.any_server"), host)
        self.server.blockSignals(False)
        self._show_preferred()

    def _show_preferred(self) -> None:
        self.server.blockSignals(True)
        self.server.setCurrentIndex(max(0, self.server.findData(self.downloads.preferred)))
        self.server.blockSignals(False)

    # What is done

    def press_primary(self) -> None:
        """Download what is chosen."""
        if self.buttons["download"].isVisible():
            self.buttons["download"].click()

    def _add(self, offer: Offer) -> None:
        if self._state(offer) == "offered":
            self.downloads.add(offer)

    def ask_cancel(self, name: str) -> Question | None:
        """Ask whether what has come may go; where nothing has, there is nothing to ask."""
        transfer = self.downloads.get(name)
        if transfer is None:
            return None
        if not transfer.done_bytes:
            self.downloads.cancel(name)
            return None
        size = fmt.size(transfer.done_bytes)
        self.question = Question("cancel_download", ("delete", "keep"), self.window(), name=name, size=size)
        self.question.answered.connect(
            lambda answer: self.downloads.cancel(name) if answer == "delete" else None
        )
        self.question.finished.connect(self.question.deleteLater)
        self.question.open()
        return self.question

    def _on_finished(self, path: Path) -> None:
        offer = self.downloads.keeper.offer(path.name)
        checked = offer is not None and offer.sha256 is not None
        actions = (
            BannerAction("models.do_train", lambda: self.train_requested.emit(path), main=True),
            BannerAction("models.do_show", lambda: _open_folder(path.parent)),
        )
        key = "downloaded" if checked else "downloaded_unchecked"
        self.banner.show_notice(Notice("success", key, {"name": path.name}, actions=actions))

    def _on_failed(self, problem: AnyProblem, name: str) -> None:
        retry = (lambda: self.downloads.resume(name)) if name else self.downloads.refresh
        actions = (BannerAction("downloads.retry", retry, main=True),)
        self.banner.show_notice(Notice("error", problem=problem, details=name, actions=actions))

    def _on_catalogue(self) -> None:
        busy = self.downloads.keeper.is_refreshing
        self.refresh_button.setEnabled(not busy)
        self.refresh_button.setText(tr("downloads.refreshing" if busy else "downloads.refresh"))
        self._show()

    def retranslate(self) -> None:
        self.heading.setText(tr("page.downloads"))
        self.search.setPlaceholderText(tr("models.search"))
        self.search.setAccessibleName(tr("models.search"))
        self.server_name.setText(tr("downloads.server"))
        self.server.setAccessibleName(tr("downloads.server"))
        self.server.setItemText(0, tr("downloads.any_server"))
        for name, shown in self.buttons.items():
            shown.setText(tr(f"downloads.do_{name}"))
        self._on_catalogue()
        self._show_selection()


def _open_folder(folder: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
