"""Named configurations: which model is served, on what, to whom, and how answers are drawn by default."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from runner_gui.model import stored
from runner_gui.model.sampling import BOUNDS, Sampling
from runner_gui.model.serving import ServeOptions
from runner_gui.model.shelf import ShelfEntry
from trainer.contract.files import write_json

HERE, ANYWHERE = "127.0.0.1", "0.0.0.0"
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
# What a device computes in. fp16 on a processor is many times slower than fp32 and no smaller than bf16.
PRECISIONS: dict[str, tuple[str, ...]] = {
    "auto": ("auto",),
    "cpu": ("auto", "fp32", "bf16"),
    "cuda": ("auto", "bf16", "fp16", "fp32"),
}


class Configuration(BaseModel):
    """One of them; paths are "" where nothing is chosen.

    Attributes:
        adapter, state: mounted on the model without merging.
        alpha: of an adapter whose file does not tell it.
        exposed: whether other computers may ask too.
        port: the one to try first; a busy one is left to whom it belongs.
        api_key: what clients must send; "" asks nobody for any.
        sampling: of requests that leave it open.
    """

    model_config = ConfigDict(extra="ignore", validate_assignment=True, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=200)
    model: str = ""
    adapter: str = ""
    state: str = ""
    alpha: float | None = Field(default=None, gt=0)
    device: Device = "auto"
    precision: Precision = "auto"
    exposed: bool = False
    port: int = Field(default=8000, ge=1, le=65535)
    api_key: str = ""
    sampling: Sampling = Field(default_factory=Sampling)

    def options(self) -> ServeOptions:
        """What a server is asked for."""
        return ServeOptions(
            Path(self.model),
            Path(self.adapter) if self.adapter else None,
            Path(self.state) if self.state else None,
            self.alpha if self.adapter else None,
            self.device,
            self.precision if self.precision in PRECISIONS[self.device] else "auto",
            ANYWHERE if self.exposed else HERE,
            self.port,
            self.api_key,
            tuple((name, getattr(self.sampling, name)) for name in BOUNDS),
        )


def fits(adapter: ShelfEntry, model: ShelfEntry | None) -> bool:
    """Whether an adapter may be mounted on a model, as far as both tell what they are."""
    if model is None or adapter.kind != "adapter":
        return False
    if adapter.generation and model.generation and adapter.generation != model.generation:
        return False
    base = adapter.origin[0] if adapter.origin else ""
    return not base or Path(base).name in (model.path.name, model.path.stem)


class Configurations(BaseModel):
    """All of them in their order, and the chosen one. There is always one.

    Attributes:
        current: the name of the chosen one.
    """

    version: Literal[1] = 1
    current: str = ""
    items: list[Configuration] = Field(default_factory=list)

    @classmethod
    def load(cls, path: Path, first: Configuration) -> Configurations:
        """What is stored, with `first` where there is nothing."""
        found = stored.load(path, cls)
        if not found.items:
            found.items.append(first)
        names: set[str] = set()
        for one in found.items:  # somebody may have edited the file
            one.name = _free(one.name, names)
            names.add(one.name)
        return found

    def save(self, path: Path) -> None:
        """Write them, whole or not at all.

        Raises:
            AppError: `not_writable` or `disk_full`.
        """
        write_json(path, self.model_dump(mode="json"))

    @property
    def chosen(self) -> Configuration:
        return next((one for one in self.items if one.name == self.current), self.items[0])

    def choose(self, name: str) -> None:
        self.current = name

    def add(self, like: Configuration, name: str) -> Configuration:
        """Append a copy under a name that is free, and choose it."""
        new = like.model_copy(deep=True)
        new.name = _free(name, {one.name for one in self.items})
        self.items.append(new)
        self.current = new.name
        return new

    def rename(self, one: Configuration, name: str) -> None:
        """Give it a name that no other has; an empty one is not taken."""
        if name.strip():
            was_chosen = self.chosen is one
            one.name = _free(name.strip(), {other.name for other in self.items if other is not one})
            self.current = one.name if was_chosen else self.current

    def remove(self, one: Configuration) -> None:
        """Remove it, unless it is the last."""
        if len(self.items) > 1:
            self.items = [other for other in self.items if other is not one]

    def for_model(self, model: Path) -> Configuration:
        """The one that serves this very model and nothing on it, made where there is none; it is chosen."""
        plain = (c for c in self.items if c.model == str(model) and not c.adapter and not c.state)
        found = next(plain, None)
        if found is None:
            like = self.chosen.model_copy(update={"model": str(model), "adapter": "", "state": ""})
            return self.add(like, model.stem)
        self.current = found.name
        return found


def _free(name: str, taken: Iterable[str]) -> str:
    number, free, taken = 2, name, set(taken)
    while free in taken:
        free = f"{name} {number}"
        number += 1
    return free
