"""The catalogue that this window has, and asking the servers what they have now."""

from __future__ import annotations

import logging
import threading

from PySide6.QtCore import QObject, Signal

from runner_gui.model.catalogue import Catalogue, Offer, load_catalogue, read_listing, save_catalogue
from runner_gui.model.problems import AnyProblem
from runner_gui.model.workspace import Workspace, assets_folder
from trainer.contract.errors import AppError, Problem
from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.step import StepError

LOG = logging.getLogger(__name__)
_TIMEOUT_S = 15.0


class CatalogueKeeper(QObject):
    """Holds the catalogue and refreshes it.

    Signals:
        changed: `catalogue` or `is_refreshing` is another.
        failed(object): a Problem or Code; the catalogue stays as it was.
    """

    changed = Signal()
    failed = Signal(object)

    _listed = Signal(object)

    def __init__(
        self, workspace: Workspace, parent: QObject | None = None, catalogue: Catalogue | None = None
    ) -> None:
        super().__init__(parent)
        self._file = workspace.catalogue_file
        self.catalogue = catalogue or load_catalogue(assets_folder() / "catalogue.json", self._file)
        self.is_refreshing = False
        self._cancel = CancelToken()
        self._listed.connect(self._take)

    def offer(self, name: str) -> Offer | None:
        return next((offer for offer in self.catalogue.models if offer.name == name), None)

    def refresh(self, first: str = "", proxy: str | None = None) -> None:
        """Ask the servers what they have, `first` before the others."""
        if not self.is_refreshing:
            self.is_refreshing = True
            self.changed.emit()
            threading.Thread(target=self._ask, args=(self.catalogue, first, proxy), daemon=True).start()

    def close(self) -> None:
        """Ask no further server; the one that is being asked is not waited for."""
        self._cancel.cancel()

    def _ask(self, catalogue: Catalogue, first: str, proxy: str | None) -> None:
        """In a thread of its own."""
        try:
            outcome: list[Offer] | AnyProblem = _listed(catalogue, first, proxy, self._cancel)
        except CancelledError:
            return
        except StepError as error:
            outcome = error.code
        except Exception as error:  # the edge of the thread
            LOG.exception("the catalogue was not refreshed")
            outcome = Problem("internal", {"detail": str(error)})
        if not self._cancel.cancelled:
            self._listed.emit(outcome)

    def _take(self, outcome: list[Offer] | AnyProblem) -> None:
        self.is_refreshing = False
        if not isinstance(outcome, list):
            self.failed.emit(outcome)
        else:
            self.catalogue = self.catalogue.merged(outcome)
            try:
                save_catalogue(self.catalogue, self._file)
            except AppError as error:
                self.failed.emit(error.problem)
        self.changed.emit()


def _listed(catalogue: Catalogue, first: str, proxy: str | None, cancel: CancelToken) -> list[Offer]:
    """What the repositories list, each by the first server that answers.

    Raises:
        StepError: no server answered for any of them. CancelledError.
    """
    from wsl_bootstrap.downloads import fetch_json

    found: list[Offer] = []
    reasons: list[str] = []
    silent: set[str] = set()  # a server that does not answer for one will not for another, and takes its time
    for name, repository in catalogue.repositories.items():
        order = sorted(repository.sources, key=lambda source: (source.host in silent, source.host != first))
        for source in order:
            cancel.raise_if_cancelled()
            try:
                raw = fetch_json(source.listing_url(), proxy, _TIMEOUT_S)
            except StepError as error:
                reasons.append(str(error.code.args.get("detail", "")))
                silent.add(source.host)
                continue
            if offers := read_listing(source.kind, raw, name):
                found += offers
                break
            reasons.append(source.listing_url())
    if not found:
        raise StepError(make_code("download_failed", detail="\n".join(reasons)), retryable=True)
    return found
