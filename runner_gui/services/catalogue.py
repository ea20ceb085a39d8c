"""The catalogue that this window has, and asking the servers what they have now."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal

from runner_gui.model.catalogue import Catalogue, Offer, load_catalogue, read_listing, save_catalogue
from runner_gui.model.workspace import Workspace, assets_folder
from runner_gui.services.background import Background
from trainer.contract.errors import AppError, Problem
from wsl_bootstrap.codes import make_code
from wsl_bootstrap.step import StepError

_TIMEOUT_S = 15.0


class CatalogueKeeper(QObject):
    """Holds the catalogue and refreshes it.

    Signals:
        changed: `catalogue` or `is_refreshing` is another.
        failed(object): a Problem or Code; the catalogue stays as it was.
    """

    changed = Signal()
    failed = Signal(object)

    def __init__(
        self, workspace: Workspace, parent: QObject | None = None, catalogue: Catalogue | None = None
    ) -> None:
        super().__init__(parent)
        self._file = workspace.catalogue_file
        self.catalogue = catalogue or load_catalogue(assets_folder() / "catalogue.json", self._file)
        self.is_refreshing = False
        self._background = Background(self)

    def offer(self, name: str) -> Offer | None:
        return next((offer for offer in self.catalogue.models if offer.name == name), None)

    def refresh(self, first: str = "", proxy: str | None = None) -> None:
        """Ask the servers what they have, `first` before the others."""
        if not self.is_refreshing:
            self.is_refreshing = True
            self.changed.emit()
            catalogue = self.catalogue
            self._background.submit(lambda: _listed(catalogue, first, proxy), self._take)

    def close(self) -> None:
        self._background.close()

    def _take(self, outcome: list[Offer] | Exception) -> None:
        self.is_refreshing = False
        if isinstance(outcome, StepError):
            self.failed.emit(outcome.code)
        elif isinstance(outcome, Exception):
            self.failed.emit(Problem("internal", {"detail": str(outcome)}))
        else:
            self.catalogue = self.catalogue.merged(outcome)
            try:
                save_catalogue(self.catalogue, self._file)
            except AppError as error:
                self.failed.emit(error.problem)
        self.changed.emit()


def _listed(catalogue: Catalogue, first: str, proxy: str | None) -> list[Offer]:
    """What the repositories list, each by the first server that answers; in a worker thread.

    Raises:
        StepError: no server answered for any of them.
    """
    from wsl_bootstrap.downloads import fetch_json

    found: list[Offer] = []
    reasons: list[str] = []
    for name, repository in catalogue.repositories.items():
        for source in sorted(repository.sources, key=lambda source: source.host != first):
            try:
                raw = fetch_json(source.listing_url(), proxy, _TIMEOUT_S)
            except StepError as error:
                reasons.append(str(error.code.args.get("detail", "")))
                continue
            if offers := read_listing(source.kind, raw, name):
                found += offers
                break
            reasons.append(source.listing_url())
    if not found:
        raise StepError(make_code("download_failed", detail="\n".join(reasons)), retryable=True)
    return found
