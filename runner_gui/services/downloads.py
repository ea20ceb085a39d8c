"""Model files from the catalogue: one after the other, through pauses and restarts, checked as they come."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, QTimer, Signal

from runner_gui.model.catalogue import Offer
from runner_gui.model.problems import AnyProblem
from runner_gui.model.transfers import Rate, Remembered, Transfer, eta_s
from runner_gui.model.workspace import Workspace
from runner_gui.services.catalogue import CatalogueKeeper
from trainer.contract.errors import AppError, Problem
from trainer.contract.files import disk_error
from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.options import SetupOptions, options_file
from wsl_bootstrap.step import Progress, StepError

LOG = logging.getLogger(__name__)
READ_TIMEOUT_S = 15.0
# A thread that waits for a dead connection is not waited for: what it has written stays good.
_CLOSE_S = 0.5


class Downloads(QObject):
    """Every download of this window.

    Args:
        workspace: whose models folder the files go to.
        keeper: of the catalogue; the bundled one by default.
        options: where the person wants downloads from; asked anew for each.

    Signals:
        changed: some transfer is another, or there are more or fewer.
        finished(object): the path of a file that is whole and right.
        failed(object, str): a Problem or Code, and the file's name.
    """

    changed = Signal()
    finished = Signal(object)
    failed = Signal(object, str)

    _progressed = Signal(object, object)
    _ended = Signal(object, object)

    def __init__(
        self,
        workspace: Workspace,
        parent: QObject | None = None,
        *,
        keeper: CatalogueKeeper | None = None,
        options: Callable[[], SetupOptions] = lambda: SetupOptions.load(options_file()),
        timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        super().__init__(parent)
        self._workspace, self._options, self._timeout_s = workspace, options, timeout_s
        self.keeper = keeper or CatalogueKeeper(workspace, self)
        self._transfers: dict[str, Transfer] = {}
        self._worker: tuple[CancelToken, threading.Thread, str] | None = None
        self._rate = Rate()
        self._dropped: set[str] = set()
        self._preferred = ""
        self._closed = False
        self._progressed.connect(self._on_progress)
        self._ended.connect(self._on_ended)

    # What there is

    @property
    def transfers(self) -> list[Transfer]:
        """The unfinished ones, in the order in which they are worked at."""
        return list(self._transfers.values())

    def get(self, name: str) -> Transfer | None:
        return self._transfers.get(name)

    @property
    def preferred(self) -> str:
        """The host that is asked first; "" leaves the catalogue's order."""
        return self._preferred

    # What is asked of it

    def load(self) -> None:
        """Take up what an earlier window has left: what ran goes on, what was paused stays so."""
        remembered = Remembered.load(self._workspace.downloads_file)
        self._preferred = remembered.preferred
        for entry in remembered.transfers:
            offer = self.keeper.offer(entry.name)
            if offer is None or (entry.folder / entry.name).exists():
                continue
            state = "paused" if entry.paused else "queued"
            done = _part_bytes(entry.folder / entry.name)
            kept = Transfer(entry.name, entry.folder, state, done, offer.size_bytes)
            self._transfers[entry.name] = kept
        self._next()
        self.changed.emit()

    def add(self, offer: Offer) -> None:
        """Put a file at the end of the queue, unless it is there already or under way."""
        if offer.name in self._transfers or (self._workspace.models / offer.name).exists():
            return
        folder = self._workspace.models
        done = _part_bytes(folder / offer.name)
        self._put(Transfer(offer.name, folder, "queued", done, offer.size_bytes))
        self._next()

    def pause(self, name: str) -> None:
        """Stop it, and keep what has come."""
        one = self._transfers.get(name)
        if one is None or one.state in ("paused", "pausing", "failed"):
            return
        if one.is_active:
            self._put(replace(one, state="pausing", bytes_s=None, eta_s=None))
            self._stop_worker()
        else:
            self._put(replace(one, state="paused"))

    def resume(self, name: str) -> None:
        """Go on with one that was paused or has failed."""
        one = self._transfers.get(name)
        if one is not None and one.state in ("paused", "failed"):
            self._put(replace(one, state="queued", problem=None))
            self._next()

    def cancel(self, name: str) -> None:
        """Forget it, and remove what has come."""
        one = self._transfers.get(name)
        if one is None:
            return
        if one.is_active:
            self._dropped.add(name)
            self._put(replace(one, state="pausing"))
            self._stop_worker()
        else:
            self._drop(one)

    def prefer(self, host: str) -> None:
        """Ask this server first from the next download on; "" for the catalogue's order."""
        self._preferred = host
        self._remember()

    def refresh(self) -> None:
        """Ask the servers what they have now."""
        self.keeper.refresh(self._preferred, self._options().proxy)

    def close(self) -> None:
        """End what is under way; the next window goes on with it."""
        if self._closed:
            return
        self._remember()
        self._closed = True
        worker = self._worker
        if worker is not None:
            worker[0].cancel()
            worker[1].join(_CLOSE_S)
        self.keeper.close()

    # How it is done

    def _next(self) -> None:
        if self._worker is not None or self._closed:
            return
        one = next((t for t in self._transfers.values() if t.state == "queued"), None)
        offer = self.keeper.offer(one.name) if one is not None else None
        if one is None or offer is None:
            return
        options = self._options()
        sources = self.keeper.catalogue.sources(offer, self._preferred, options.source.models)
        urls = [source.file_url(offer.name) for source in sources]
        cancel = CancelToken()
        work = threading.Thread(
            target=self._work, args=(one, offer, urls, options.proxy, cancel), daemon=True
        )
        self._worker = cancel, work, one.name
        self._rate = Rate()
        self._put(replace(one, state="running", problem=None))
        work.start()

    def _work(
        self, one: Transfer, offer: Offer, urls: list[str], proxy: str | None, cancel: CancelToken
    ) -> None:
        """In a thread of its own."""
        from wsl_bootstrap.downloads import download
        from wsl_bootstrap.transfer import Wanted

        def tell(said: object) -> None:
            if not self._closed:
                self._progressed.emit(cancel, said)

        wanted = Wanted(offer.sha256, offer.size_bytes)
        ended: AnyProblem | str = "finished"
        try:
            one.folder.mkdir(parents=True, exist_ok=True)
            download(urls, one.target, wanted, tell, cancel, proxy, timeout_s=self._timeout_s)
        except CancelledError:
            ended = "cancelled"
        except StepError as error:
            ended = error.code
        except OSError as error:
            ended = disk_error(error, one.target).problem
        except Exception as error:  # the edge of the thread
            LOG.exception("the download of %s failed", one.name)
            ended = Problem("internal", {"detail": str(error)})
        if not self._closed:
            self._ended.emit(cancel, ended)

    def _stop_worker(self) -> None:
        if self._worker is not None:
            self._worker[0].cancel()

    def _on_progress(self, cancel: CancelToken, said: object) -> None:
        if self._worker is None or self._worker[0] is not cancel or not isinstance(said, Progress):
            return
        one = self._transfers[self._worker[2]]
        if one.state == "pausing":
            return
        total = said.total or one.total_bytes
        if said.unit != "bytes":
            self._put(replace(one, state="checking", total_bytes=total), remember=False)
            return
        speed = self._rate.note(time.monotonic(), said.done)
        self._put(
            replace(
                one,
                state="running",
                done_bytes=said.done,
                total_bytes=total,
                bytes_s=speed,
                eta_s=eta_s(said.done, total, speed),
            ),
            remember=False,
        )

    def _on_ended(self, cancel: CancelToken, ended: AnyProblem | str) -> None:
        if self._worker is None or self._worker[0] is not cancel or self._closed:
            return
        name, self._worker = self._worker[2], None
        one = replace(self._transfers[name], bytes_s=None, eta_s=None)
        if name in self._dropped and ended != "finished":
            self._drop(one)
        elif ended == "finished":
            del self._transfers[name]
            self._remember()
            self.changed.emit()
            self.finished.emit(one.target)
        elif ended == "cancelled":
            self._put(replace(one, state="paused"))
        elif not isinstance(ended, str):
            self._put(replace(one, state="failed", done_bytes=_part_bytes(one.target), problem=ended))
            self.failed.emit(ended, name)
        self._dropped.discard(name)
        QTimer.singleShot(0, self, self._next)

    def _put(self, one: Transfer, *, remember: bool = True) -> None:
        self._transfers[one.name] = one
        if remember:
            self._remember()
        self.changed.emit()

    def _drop(self, one: Transfer) -> None:
        self._transfers.pop(one.name, None)
        for path in (_part(one.target), _part(one.target).with_name(one.name + ".part.json")):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                self.failed.emit(disk_error(error, path).problem, one.name)
        self._remember()
        self.changed.emit()

    def _remember(self) -> None:
        if self._closed:
            return
        try:
            Remembered.of(self._preferred, self.transfers).save(self._workspace.downloads_file)
        except AppError as error:
            LOG.warning("downloads are not remembered: %s", error)


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _part_bytes(target: Path) -> int:
    part = _part(target)
    return part.stat().st_size if part.is_file() else 0
