"""The catalogue: which model files can be downloaded, from where, and how they are known to be right."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runner_gui.model.workspace import MODEL_SUFFIXES
from trainer.contract.files import write_json

LOG = logging.getLogger(__name__)
_SHA256 = r"^[0-9a-f]{64}$"
# rwkv7-g1d-0.4b-20260210-ctx8192.pth, RWKV-x060-World-1B6-v2.1-20240328-ctx4096.pth
_SIZE = re.compile(r"-(\d+(?:\.\d+)?)b(\d*)(?=-)", re.IGNORECASE)
_DATE = re.compile(r"-(20\d{6})(?=[-.])")


class Source(BaseModel):
    """A repository on a server. `kind` says by which rules that names files and lists them."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["hub", "modelscope"]
    at: str = Field(pattern=r"^https?://")
    repository: str

    @property
    def host(self) -> str:
        """What a person knows it by."""
        return self.at.partition("://")[2].rstrip("/")

    def file_url(self, name: str) -> str:
        """Where a file is."""
        if self.kind == "hub":
            return f"{self.at}/{self.repository}/resolve/main/{quote(name)}"
        return f"{self.at}/models/{self.repository}/resolve/master/{quote(name)}"

    def listing_url(self) -> str:
        """Where the list of all files is."""
        if self.kind == "hub":
            return f"{self.at}/api/models/{self.repository}/tree/main"
        return f"{self.at}/api/v1/models/{self.repository}/repo/files?Revision=master"


class Repository(BaseModel):
    """One family of models, and the servers that all have the same files of it."""

    model_config = ConfigDict(frozen=True)

    family: str
    sources: tuple[Source, ...]


class Offer(BaseModel):
    """One file. What nobody has told of it is None."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[^/\\.][^/\\]*$")
    repository: str
    size_bytes: int | None = Field(default=None, gt=0)
    sha256: str | None = Field(default=None, pattern=_SHA256)

    @property
    def parameters(self) -> str:
        """The size that its name tells: 0.4B, 1.6B; "" where it does not."""
        found = _SIZE.search(self.name)
        if found is None:
            return ""
        return f"{found[1]}.{found[2]}B" if found[2] else f"{found[1]}B"

    @property
    def released(self) -> str:
        """The date that its name tells, 2026-02-10; "" where it does not."""
        found = _DATE.search(self.name)
        return f"{found[1][:4]}-{found[1][4:6]}-{found[1][6:]}" if found else ""


class Catalogue(BaseModel):
    """All offers, and where their files are."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    repositories: dict[str, Repository]
    models: tuple[Offer, ...]

    def family(self, offer: Offer) -> str:
        return self.repositories[offer.repository].family

    def sources(self, offer: Offer, first: str = "", hub: str | None = None) -> list[Source]:
        """The servers to ask in turn.

        Args:
            first: host of the one that the person prefers. hub: address of a model hub of their own.
        """
        sources = self.repositories[offer.repository].sources
        own = [s.model_copy(update={"at": hub.rstrip("/")}) for s in sources if hub and s.kind == "hub"][:1]
        return [*own, *sorted(sources, key=lambda source: source.host != first)]

    def hosts(self) -> list[str]:
        """Every server there is, in the order in which they are asked."""
        return list(dict.fromkeys(s.host for entry in self.repositories.values() for s in entry.sources))

    def merged(self, listed: Iterable[Offer]) -> Catalogue:
        """With what repositories list now; what is known of a file is never replaced.

        A file that was put in the place of another under the same name is not what was described here.
        """
        known = {offer.name: offer for offer in self.models}
        for offer in listed:
            old = known.setdefault(offer.name, offer)
            known[offer.name] = old.model_copy(
                update={
                    "size_bytes": old.size_bytes or offer.size_bytes,
                    "sha256": old.sha256 or offer.sha256,
                }
            )
        return self.model_copy(update={"models": tuple(known.values())})


def read_listing(kind: str, raw: Any, repository: str) -> list[Offer]:
    """The model files in what a server lists; whatever is not understood is left out.

    Args:
        kind: of the source. raw: its JSON.
    """
    files = raw if kind == "hub" else _at(raw, "Data", "Files")
    found = []
    for file in files if isinstance(files, list) else ():
        if not isinstance(file, dict):
            continue
        if kind == "hub":
            name, size, digest = file.get("path"), file.get("size"), _at(file, "lfs", "oid")
        else:
            name, size, digest = file.get("Path"), file.get("Size"), file.get("Sha256")
        if not isinstance(name, str) or not name.endswith(MODEL_SUFFIXES) or "rwkv" not in name.lower():
            continue
        try:
            found.append(Offer(name=name, repository=repository, size_bytes=size, sha256=digest or None))
        except ValidationError as error:
            LOG.info("%s lists %r in a way that is not understood: %s", repository, name, error)
    return found


def load_catalogue(bundled: Path, refreshed: Path) -> Catalogue:
    """What came with the app, with what was listed later; a file that cannot be read counts for nothing."""
    catalogue = Catalogue.model_validate_json(bundled.read_bytes())
    try:
        later = Catalogue.model_validate_json(refreshed.read_bytes())
    except FileNotFoundError:
        return catalogue
    except (OSError, ValidationError) as error:
        LOG.warning("the refreshed catalogue %s is left out: %s", refreshed, error)
        return catalogue
    known = [offer for offer in later.models if offer.repository in catalogue.repositories]
    return catalogue.merged(known)


def save_catalogue(catalogue: Catalogue, path: Path) -> None:
    """Keep a refreshed catalogue.

    Raises:
        AppError: `not_writable` or `disk_full`.
    """
    write_json(path, catalogue.model_dump(mode="json"))


def _at(raw: Any, *keys: str) -> Any:
    for key in keys:
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw
