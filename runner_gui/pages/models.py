"""Models and adapters on disk: what each is, whether it can be trained, and what can be done with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QDragEnterEvent, QDropEvent, QGuiApplication, QShowEvent
from PySide6.QtWidgets import QFileDialog, QLineEdit, QMenu, QProgressBar, QVBoxLayout, QWidget

from runner_gui.i18n import language_changed, tr
from runner_gui.model.catalogue import Offer
from runner_gui.model.shelf import ShelfEntry
from runner_gui.model.workspace import MODEL_SUFFIXES, Workspace
from runner_gui.services.catalogue import CatalogueKeeper
from runner_gui.services.model_export import ModelExport
from runner_gui.services.place import Place
from runner_gui.services.shelf import FileWork, Shelf
from runner_gui.widgets import numbers_format as fmt
from runner_gui.widgets.banner import Banner, BannerAction, Notice
from runner_gui.widgets.controls import Card, button, empty, label, row
from runner_gui.widgets.dialogs import Question, facts_table
from runner_gui.widgets.model_table import ModelTable
from runner_gui.widgets.problem_text import problem_line
from runner_gui.widgets.side_panel import SidePanel
from trainer.contract.errors import Problem
from trainer.contract.files import disk_error

ACTIONS = ("train", "continue", "chat", "export", "verify", "show", "delete")
# What a model can be written as: suffix and element type, None for that of the model.
FORMATS = ((".safetensors", None), (".pth", None), (".gguf", "fp16"), (".gguf", "q8_0"))


class ModelsPage(QWidget):
    """The shelf.

    Signals:
        train_requested(object): a base model's path. continue_requested(object): an adapter's ShelfEntry.
        chat_requested(object): a model's path.
    """

    train_requested = Signal(object)
    continue_requested = Signal(object)
    chat_requested = Signal(object)

    def __init__(
        self,
        workspace: Workspace,
        interpreter: str = "",
        parent: QWidget | None = None,
        *,
        place: Place | None = None,
        keeper: CatalogueKeeper | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("page")
        self.setAcceptDrops(True)
        self._workspace = workspace
        self._busy = False
        self._keeper = keeper
        self.shelf, self.work, self.exporter = (
            Shelf(interpreter, self),
            FileWork(self),
            ModelExport(place, self),
        )
        self.heading, self.count = label("heading"), label("muted")
        self.search = QLineEdit()
        self.search.setClearButtonEnabled(True)
        self.search.setFixedWidth(220)
        self.add, self.folder = button(), button()
        self.banner, self.table = Banner(), ModelTable()
        self.side, self.why = SidePanel(), label(wrap=True)
        self.progress, self.cancel = QProgressBar(), button("link")
        self.progress.setTextVisible(False)
        self.buttons = {name: button("danger" if name == "delete" else "") for name in ACTIONS}
        self.formats = QMenu(self)
        self.buttons["export"].setMenu(self.formats)
        self.question: Question | None = None
        self._lay_out()
        self._connect()
        self.retranslate()
        self._show_progress(0, 0)

    def _lay_out(self) -> None:
        listed = Card()
        listed.body.addWidget(self.table)
        self.hint = label("muted", wrap=True)
        listed.body.addWidget(self.hint)
        self._facts = QVBoxLayout()
        self.side.column.addWidget(self.why)
        self.side.column.addLayout(self._facts)
        for shown in self.buttons.values():
            self.side.column.addWidget(shown)
        self.side.column.addLayout(row(self.progress, self.cancel))
        self.side.column.addStretch(1)
        across = row(listed, self.side, spacing=12)
        across.setStretch(0, 1)
        page = QVBoxLayout(self)
        page.setContentsMargins(16, 16, 16, 16)
        page.setSpacing(12)
        page.addLayout(row(self.heading, self.count, 1, self.search, self.add, self.folder, spacing=12))
        page.addWidget(self.banner)
        page.addLayout(across, 1)

    def _connect(self) -> None:
        self.search.textChanged.connect(self.table.set_words)
        self.table.chosen.connect(self._show_selection)
        self.table.opened.connect(self._open)
        self.add.clicked.connect(self._choose_files)
        self.folder.clicked.connect(lambda: _reveal(self._workspace.models))
        self.cancel.clicked.connect(self._cancel)
        for name, do in {
            "train": lambda one: self.train_requested.emit(one.path),
            "continue": self.continue_requested.emit,
            "chat": lambda one: self.chat_requested.emit(one.path),
            "show": lambda one: _reveal(one.path.parent),
            "verify": lambda one: self.work.hash(one.path),
        }.items():
            self.buttons[name].clicked.connect(lambda _=False, do=do: self._with_one(do))
        self.buttons["delete"].clicked.connect(self.ask_delete)
        self.shelf.changed.connect(self._take)
        self.shelf.failed.connect(self._fail)
        self.work.failed.connect(self._fail)
        self.work.progressed.connect(self._show_progress)
        self.work.idle.connect(lambda: self._show_progress(0, 0))
        self.work.hashed.connect(self._show_hash)
        self.work.copied.connect(self._on_copied)
        self.exporter.progressed.connect(lambda done, total: self._show_progress(done, total or 0))
        self.exporter.finished.connect(self._on_exported)
        self.exporter.failed.connect(self._fail)
        self.exporter.ended.connect(lambda: self._show_progress(0, 0))
        language_changed.connect(self.retranslate)

    # What is shown

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        QTimer.singleShot(0, self, self.refresh)

    def refresh(self) -> None:
        """Look at the folders again."""
        space = self._workspace
        self.shelf.look((space.models, space.demo_folder, space.runs))

    def set_busy(self, busy: bool) -> None:
        """While something is under way, the form takes no other model."""
        self._busy = busy
        self._show_selection()

    def close_files(self) -> None:
        """End what is under way."""
        self.shelf.close()
        self.work.close()
        self.exporter.close()

    def _take(self, entries: list[ShelfEntry]) -> None:
        if self.table.show_rows(entries):
            self._show_selection()
        self.count.setText(fmt.whole(len(entries)) if entries else "")
        if not self.table.selected() and self.table.shown:
            self.table.selectRow(0)

    def _show_selection(self) -> None:
        chosen = self.table.selected()
        one: ShelfEntry | None = chosen[0] if len(chosen) == 1 else None
        empty(self._facts)
        for shown in self.buttons.values():
            shown.setVisible(one is not None)
        self.why.setVisible(one is not None)
        many = tr("models.selected", count=fmt.whole(len(chosen))) if chosen else ""
        self.side.title.set_full_text(one.name if one else many)
        self.buttons["delete"].setVisible(bool(chosen))
        self.buttons["delete"].setEnabled(any(map(self._is_ours, chosen)))
        if one is None:
            return
        self.buttons["train"].setVisible(one.is_model)
        self.buttons["chat"].setVisible(one.is_model)
        self.buttons["export"].setVisible(one.is_model)
        self.buttons["export"].setEnabled(not self.exporter.is_busy)
        self.buttons["continue"].setVisible(one.kind == "adapter")
        for name in ("train", "continue"):
            self.buttons[name].setEnabled(not self._busy)
        self.why.setText(problem_line(one.problem) if one.problem else tr(f"models.{one.kind}_use"))
        facts = QWidget()
        facts.setLayout(facts_table(self._facts_of(one)))
        self._facts.addWidget(facts)

    def _facts_of(self, one: ShelfEntry) -> dict[str, str]:
        facts = {"models.folder": str(one.path.parent)}
        if one.generation:
            facts["models.generation"] = f"RWKV-{one.generation}"
        if one.parameters is not None:
            facts["models.parameters"] = fmt.whole(one.parameters)
        if one.rank is not None:
            facts["models.rank"] = fmt.whole(one.rank)
        facts["models.size"] = fmt.size(one.size_bytes)
        offer = self._offer(one.path)
        if self._keeper is not None and offer is not None and offer.size_bytes in (None, one.size_bytes):
            family = self._keeper.catalogue.family(offer)
            facts["models.source"] = tr("models.from_catalogue", family=family)
        if one.origin is not None:
            base, run, step = one.origin
            facts["models.origin_base"] = base or fmt.NONE
            facts["models.origin_run"] = run or fmt.NONE
            facts["models.origin_step"] = fmt.whole(step)
        return facts

    def _is_ours(self, one: ShelfEntry) -> bool:
        """Whether it may be deleted here: the demo came with the app, checkpoints belong to their run."""
        return self._workspace.models in one.path.parents

    def _offer(self, path: Path) -> Offer | None:
        """What the catalogue says of a file of this name."""
        return self._keeper.offer(path.name) if self._keeper is not None else None

    # What can be done

    def _with_one(self, do: Callable[[ShelfEntry], None]) -> None:
        chosen = self.table.selected()
        if len(chosen) == 1:
            do(chosen[0])

    def _open(self, one: ShelfEntry) -> None:
        if one.is_model and not self._busy:
            self.train_requested.emit(one.path)

    def _choose_files(self) -> None:
        pattern = " ".join(f"*{suffix}" for suffix in MODEL_SUFFIXES)
        chosen, _ = QFileDialog.getOpenFileNames(self.window(), tr("models.add"), "", pattern)
        self.take_files([Path(name) for name in chosen])

    def take_files(self, paths: list[Path]) -> None:
        """Copy files into the models folder; what lies there already stays as it is."""
        for path in paths:
            if path.suffix in MODEL_SUFFIXES and path.parent != self._workspace.models:
                self.work.copy_in(path, self._workspace.models)

    def ask_delete(self) -> Question | None:
        """Ask whether to delete the chosen files of the models folder, telling what that frees."""
        doomed = [one for one in self.table.selected() if self._is_ours(one)]
        if not doomed:
            return None
        size, count = fmt.size(sum(one.size_bytes for one in doomed)), fmt.whole(len(doomed))
        self.question = Question("delete_models", ("delete", "keep"), self.window(), count=count, size=size)
        self.question.answered.connect(lambda answer: self._delete(doomed) if answer == "delete" else None)
        self.question.finished.connect(self.question.deleteLater)
        self.question.open()
        return self.question

    def _delete(self, doomed: list[ShelfEntry]) -> None:
        for one in doomed:
            try:
                one.path.unlink(missing_ok=True)
            except OSError as error:
                self._fail(disk_error(error, one.path).problem)
        self.refresh()

    def _on_copied(self, path: Path) -> None:
        self.banner.show_notice(Notice("success", "imported", {"name": path.name}))
        self.refresh()

    def export(self, suffix: str, dtype: str | None) -> None:
        """Write the chosen model beside the others in another format, under a name that is free."""
        chosen = self.table.selected()
        if len(chosen) != 1 or self.exporter.is_busy:
            return
        path, number = chosen[0].path, 2
        stem = f"{path.stem}-{dtype}" if dtype else path.stem
        output = self._workspace.models / f"{stem}{suffix}"
        while output.exists():
            output, number = output.with_name(f"{stem}-{number}{suffix}"), number + 1
        self.exporter.start(path, output, dtype)
        self._show_progress(0, 0)
        self._show_selection()

    def _cancel(self) -> None:
        self.work.cancel()
        self.exporter.cancel()

    def _on_exported(self, path: Path) -> None:
        show = BannerAction("models.do_show", lambda: _reveal(path.parent))
        key = "exported_gguf" if path.suffix == ".gguf" else "exported_model"
        self.banner.show_notice(Notice("success", key, {"name": path.name}, actions=(show,)))
        self.refresh()

    def _show_hash(self, path: Path, digest: str) -> None:
        copy = BannerAction("models.copy", lambda: QGuiApplication.clipboard().setText(digest))
        args = {"name": path.name, "digest": digest}
        offer = self._offer(path)
        if offer is None or offer.sha256 is None:
            notice = Notice("info", "hashed", args, actions=(copy,))
        elif offer.sha256 == digest:
            notice = Notice("success", "hash_right", args, actions=(copy,))
        else:
            notice = Notice("error", "hash_wrong", args, actions=(copy,))
        self.banner.show_notice(notice)

    def _show_progress(self, done: int, total: int) -> None:
        busy = self.work.is_busy or self.exporter.is_busy
        for widget in (self.progress, self.cancel):
            widget.setVisible(busy)
        self.progress.setRange(0, 1000 if total or not busy else 0)
        self.progress.setValue(1000 * done // total if total else 0)
        self.buttons["export"].setEnabled(not self.exporter.is_busy)

    def _fail(self, problem: Problem | None) -> None:
        if problem is not None:
            self.banner.show_notice(Notice("error", problem=problem))

    # Dropping files

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        self.take_files([Path(u.toLocalFile()) for u in event.mimeData().urls() if u.isLocalFile()])
        event.acceptProposedAction()

    def retranslate(self) -> None:
        self.heading.setText(tr("page.models"))
        self.search.setPlaceholderText(tr("models.search"))
        self.search.setAccessibleName(tr("models.search"))
        self.add.setText(tr("models.add"))
        self.folder.setText(tr("models.open_folder"))
        self.hint.setText(tr("models.hint"))
        self.cancel.setText(tr("primary.cancel"))
        for name, shown in self.buttons.items():
            shown.setText(tr(f"models.do_{name}"))
        self.formats.clear()
        for suffix, dtype in FORMATS:
            words = tr(f"models.as_{dtype}") if dtype else suffix
            self.formats.addAction(words, lambda suffix=suffix, dtype=dtype: self.export(suffix, dtype))
        self._show_selection()


def _reveal(folder: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
