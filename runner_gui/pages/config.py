"""Named configurations of the model server: edit, run, watch, stop."""

from __future__ import annotations

import secrets

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QGuiApplication, QShowEvent
from PySide6.QtNetwork import QAbstractSocket, QHostAddress, QNetworkInterface
from PySide6.QtWidgets import QFrame, QProgressBar, QScrollArea, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.configuration import ANYWHERE, Configuration
from runner_gui.model.problems import AnyProblem
from runner_gui.model.shelf import ShelfEntry
from runner_gui.services.configurations import ConfigurationKeeper
from runner_gui.services.model_server import ModelServer
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, BannerAction, Notice
from runner_gui.widgets.config_form import ConfigForm
from runner_gui.widgets.controls import CalmComboBox, Card, button, empty, label, row
from runner_gui.widgets.dialogs import Question, facts_table
from runner_gui.widgets.side_panel import SidePanel

SECOND_MS = 1000
KEY_BYTES = 24


class ConfigPage(QWidget):
    """The chosen configuration at the left, what runs at the right.

    Signals:
        shelf_wanted(): the page is shown and wants to know what models there are.
        chat_requested(object): `ServeOptions` of what runs.
    """

    shelf_wanted = Signal()
    chat_requested = Signal(object)

    def __init__(self, keeper: ConfigurationKeeper, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self.keeper = keeper
        self._shelf: list[ShelfEntry] = []
        self._seconds = 0
        self.heading, self.choice = label("heading"), CalmComboBox()
        self.choice.setMinimumContentsLength(24)
        self.new, self.delete = button(), button("danger")
        self.banner, self.form = Banner(), ConfigForm()
        self.side, self.words, self.progress = SidePanel(), label(wrap=True), QProgressBar()
        self.progress.setTextVisible(False)
        self.run, self.again, self.chat = button("confirm"), button(), button()
        self.run.setDefault(True)
        self.copy_address, self.copy_key = button(), button()
        self.question: Question | None = None
        self._clock = QTimer(self, interval=SECOND_MS)
        self._lay_out()
        self._connect()
        self.retranslate()

    def _lay_out(self) -> None:
        inside = QWidget()
        inside.setObjectName("scroll_body")
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.form)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setWidget(inside)
        card = Card()
        card.body.addWidget(scroll)
        self._facts = QVBoxLayout()
        self.side.column.addWidget(self.words)
        self.side.column.addWidget(self.progress)
        self.side.column.addWidget(self.run)
        self.side.column.addWidget(self.again)
        self.side.column.addWidget(self.chat)
        self.side.column.addLayout(self._facts)
        self.side.column.addLayout(row(self.copy_address, self.copy_key))
        self.side.column.addStretch(1)
        across = row(card, self.side, spacing=12)
        across.setStretch(0, 1)
        page = QVBoxLayout(self)
        page.setContentsMargins(16, 16, 16, 16)
        page.setSpacing(12)
        page.addLayout(row(self.heading, self.choice, 1, self.new, self.delete, spacing=12))
        page.addWidget(self.banner)
        page.addLayout(across, 1)

    def _connect(self) -> None:
        keeper = self.keeper
        self.choice.activated.connect(lambda index: self._choose(self.choice.itemData(index)))
        self.new.clicked.connect(self._add)
        self.delete.clicked.connect(self.ask_delete)
        self.form.edited.connect(keeper.edited)
        self.form.renamed.connect(self._rename)
        self.form.key_wanted.connect(self._draw_key)
        self.run.clicked.connect(self.press_primary)
        self.again.clicked.connect(self._start)
        self.chat.clicked.connect(self._chat)
        self.copy_address.clicked.connect(lambda: self._copy(self._address()))
        self.copy_key.clicked.connect(lambda: self._copy(keeper.server.key if keeper.server else ""))
        keeper.changed.connect(self._show)
        keeper.vitals.changed.connect(self._show_facts)
        keeper.failed.connect(self._on_failed)
        self._clock.timeout.connect(self._tick)
        language_changed.connect(self.retranslate)

    # What is shown

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.shelf_wanted.emit()
        self._show()

    def take_shelf(self, entries: list[ShelfEntry]) -> None:
        """These models and adapters are there to choose from."""
        self._shelf = entries
        self._show()

    def _show(self) -> None:
        everything = self.keeper.all
        names = [one.name for one in everything.items]
        if names != [self.choice.itemText(i) for i in range(self.choice.count())]:
            self.choice.clear()
            for name in names:
                self.choice.addItem(name, name)
        self.choice.setCurrentIndex(names.index(everything.chosen.name))
        self.delete.setEnabled(len(names) > 1)
        self.form.show_configuration(everything.chosen, self._shelf)
        self._show_server()

    def _show_server(self) -> None:
        server = self.keeper.server
        state = server.state if server is not None else "off"
        running, chosen = self.keeper.running_name, self.keeper.all.chosen.name
        if state == "loading" and not self._clock.isActive():
            self._seconds = 0
            self._clock.start()
        elif state != "loading":
            self._clock.stop()
        self.side.title.set_full_text(running or chosen)
        self.run.setText(tr("config.stop" if running else "config.run"))
        self.run.setDefault(not running)  # what is advised is filled; stopping is not
        others = bool(running) and running != chosen
        self.again.setVisible(others or self.keeper.is_outdated)
        self.again.setText(tr("config.run_this", name=chosen) if others else tr("config.restart"))
        self.progress.setVisible(state == "loading")
        for shown in (self.chat, self.copy_address):
            shown.setVisible(state == "ready")
        self.copy_key.setVisible(state == "ready" and bool(server and server.key))
        self._show_progress(server)
        self._show_facts()

    def _show_progress(self, server: ModelServer | None) -> None:
        state = server.state if server is not None else "off"
        if state != "loading" or server is None:
            moved = self._moved(server) if state == "ready" else ""
            self.words.setText(f"{tr(f'config.is_{state}')} {moved}".strip())
            return
        loaded = server.loaded
        self.progress.setRange(0, 1000 if loaded else 0)
        facts = [tr("config.is_loading"), fmt.duration(self._seconds)]
        if loaded is not None:
            done, total = loaded
            self.progress.setValue(1000 * done // total)
            facts.append(tr("downloads.progress", done=fmt.size(done), total=fmt.size(total)))
        self.words.setText(" · ".join(facts))

    def _moved(self, server: ModelServer | None) -> str:
        """That another port was taken, because the wanted one belongs to another program."""
        wanted = next((c.port for c in self.keeper.all.items if c.name == self.keeper.running_name), None)
        if server is None or wanted is None or server.port == wanted or self.keeper.is_outdated:
            return ""
        return tr("config.port_moved", wanted=wanted, port=server.port)

    def _show_facts(self) -> None:
        server, vitals = self.keeper.server, self.keeper.vitals.vitals
        empty(self._facts)
        if server is None or not server.is_ready:
            return
        facts = {"config.address": self._address(), "config.model": server.name}
        if self.keeper.running_options is not None and self.keeper.running_options.host == ANYWHERE:
            facts["config.outside"] = "\n".join(f"http://{ip}:{server.port}/v1" for ip in _own_addresses())
        facts["models.generation"] = f"RWKV-{server.generation}"
        facts["config.device"] = server.device
        if vitals is not None:
            on_gpu = server.device.startswith("cuda")
            facts["config.vram" if on_gpu else "config.ram"] = fmt.size(vitals.memory_bytes)
            facts["config.speed"] = (
                tr("config.tok_s", speed=f"{vitals.tok_s:.1f}") if vitals.tok_s else fmt.NONE
            )
            facts["config.answers"] = fmt.whole(vitals.active + vitals.waiting)
        shown = QWidget()
        shown.setLayout(facts_table(facts))
        self._facts.addWidget(shown)

    def _address(self) -> str:
        server = self.keeper.server
        return f"{server.url}/v1" if server is not None else ""

    def _tick(self) -> None:
        self._seconds += 1
        self._show_progress(self.keeper.server)

    # What a person does

    def press_primary(self) -> None:
        """Run the chosen configuration, or stop what runs."""
        if self.keeper.running_name:
            self.keeper.stop()
        else:
            self._start()

    def _start(self) -> None:
        self.banner.dismiss()
        self.keeper.run()

    def _chat(self) -> None:
        server = self.keeper.server
        if server is not None and self.keeper.running_options is not None:
            self.chat_requested.emit(self.keeper.running_options)

    def _choose(self, name: str) -> None:
        self.keeper.all.choose(name)
        self.keeper.edited()

    def _add(self) -> None:
        self.keeper.all.add(self.keeper.all.chosen, tr("config.new_name", name=self.keeper.all.chosen.name))
        self.keeper.edited()
        self.form.name.setFocus()
        self.form.name.selectAll()

    def _rename(self, name: str) -> None:
        if name != self.keeper.all.chosen.name:
            self.keeper.rename(self.keeper.all.chosen, name)

    def _draw_key(self) -> None:
        self.keeper.all.chosen.api_key = secrets.token_urlsafe(KEY_BYTES)
        self.keeper.edited()

    def ask_delete(self) -> Question:
        """Ask whether the chosen configuration is to go."""
        one: Configuration = self.keeper.all.chosen
        self.question = Question("delete_configuration", ("delete", "keep"), self.window(), name=one.name)
        self.question.answered.connect(lambda answer: self._delete(one) if answer == "delete" else None)
        self.question.finished.connect(self.question.deleteLater)
        self.question.open()
        return self.question

    def _delete(self, one: Configuration) -> None:
        if self.keeper.running_name == one.name:
            self.keeper.stop()
        self.keeper.all.remove(one)
        self.keeper.edited()

    def _copy(self, text: str) -> None:
        QGuiApplication.clipboard().setText(text)

    def _on_failed(self, problem: AnyProblem, details: str) -> None:
        actions = (BannerAction("config.start_again", self._start, main=True),)
        self.banner.show_notice(Notice("error", problem=problem, details=details, actions=actions))

    def retranslate(self) -> None:
        self.heading.setText(tr("page.config"))
        self.choice.setAccessibleName(tr("page.config"))
        self.new.setText(tr("config.new"))
        self.delete.setText(tr("config.delete"))
        self.chat.setText(tr("models.do_chat"))
        self.copy_address.setText(tr("config.copy_address"))
        self.copy_key.setText(tr("config.copy_key"))
        self._show()


def _own_addresses() -> list[str]:
    """This computer's IPv4 addresses as others on its networks know it."""
    found = (QHostAddress(address) for address in QNetworkInterface.allAddresses())
    ipv4 = QAbstractSocket.NetworkLayerProtocol.IPv4Protocol
    return [
        a.toString() for a in found if a.protocol() == ipv4 and not a.isLoopback() and not a.isLinkLocal()
    ]
