"""Configurations: what a server is asked for, and the file that keeps them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from runner_gui.model.configuration import PRECISIONS, Configuration, Configurations, fits
from runner_gui.model.shelf import ShelfEntry

FIRST = Configuration(name="demo", model="/m/demo.pth")
MODEL = ShelfEntry(Path("/m/base.pth"), "base", 1, 1.0, "7", 10, "bf16")
ADAPTER = ShelfEntry(Path("/a/x.pth"), "adapter", 1, 1.0, "7", 5, "fp32", 8, ("base.pth", "", 3))


@pytest.fixture
def some(tmp_path: Path) -> Configurations:
    return Configurations.load(tmp_path / "c.json", FIRST.model_copy(deep=True))


def test_what_a_server_is_asked_for() -> None:
    one = Configuration(
        name="x", model="/m.pth", adapter="/a.pth", alpha=32, device="cpu", precision="bf16", exposed=True,
        port=8123, api_key="k",
    )  # fmt: skip
    one.sampling.temperature = 0.5
    options = one.options()
    assert (options.model, options.adapter, options.state) == (Path("/m.pth"), Path("/a.pth"), None)
    assert (options.alpha, options.device, options.precision) == (32, "cpu", "bf16")
    assert (options.host, options.port, options.api_key) == ("0.0.0.0", 8123, "k")
    assert dict(options.sampling)["temperature"] == 0.5
    one.adapter, one.exposed = "", False
    assert (one.options().alpha, one.options().host) == (None, "127.0.0.1")


def test_only_precisions_of_the_device_are_asked_for() -> None:
    one = Configuration(name="x", device="cuda", precision="fp16")
    assert one.options().precision == "fp16"
    one.device = "cpu"
    assert one.options().precision == "auto"
    assert all(precisions[0] == "auto" for precisions in PRECISIONS.values())


@pytest.mark.parametrize(
    ("field", "value"), [("port", 0), ("port", 70000), ("name", ""), ("device", "tpu"), ("alpha", -1.0)]
)
def test_odd_values_are_refused(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        setattr(Configuration(name="x"), field, value)


def test_an_adapter_fits_its_base_and_no_other() -> None:
    assert fits(ADAPTER, MODEL)
    assert not fits(ADAPTER, replace(MODEL, path=Path("/m/other.pth")))
    assert not fits(replace(ADAPTER, generation="6"), MODEL)
    assert fits(replace(ADAPTER, origin=None), MODEL)  # it does not say; the server will
    assert not fits(MODEL, MODEL)
    assert not fits(ADAPTER, None)


def test_there_is_always_one(some: Configurations) -> None:
    assert [one.name for one in some.items] == ["demo"]
    some.remove(some.chosen)
    assert [one.name for one in some.items] == ["demo"]


def test_names_stay_apart(some: Configurations) -> None:
    second = some.add(some.chosen, "demo")
    assert (second.name, some.chosen) == ("demo 2", second)
    some.rename(second, " demo ")
    assert second.name == "demo 2"
    some.rename(second, "mine")
    assert some.chosen is second
    some.rename(second, "  ")
    assert second.name == "mine"
    second.sampling.temperature = 0.1
    assert some.items[0].sampling.temperature != 0.1
    some.remove(second)
    assert some.chosen.name == "demo"


def test_a_merged_model_gets_one_of_its_own_once(some: Configurations) -> None:
    some.chosen.port = 8123
    made = some.for_model(Path("/m/new model.pth"))
    assert (made.name, made.model, made.port) == ("new model", str(Path("/m/new model.pth")), 8123)
    some.choose("demo")
    assert some.for_model(Path("/m/new model.pth")) is made
    assert some.chosen is made
    assert len(some.items) == 2


def test_they_come_back_as_they_were(some: Configurations, tmp_path: Path) -> None:
    some.add(some.chosen, "二").sampling.top_p = 0.9
    some.save(tmp_path / "c.json")
    again = Configurations.load(tmp_path / "c.json", FIRST)
    assert again == some
    assert again.chosen.name == "二"


def test_a_file_that_somebody_edited(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"current": "gone", "items": [{"name": "a"}, {"name": "a", "new": 1}]}))
    assert [one.name for one in Configurations.load(path, FIRST).items] == ["a", "a 2"]
    for broken in ("", "[]", '{"items": [{"name": ""}]}', '{"items": [{"name": "a", "port": 0}]}'):
        path.write_text(broken)
        assert [one.name for one in Configurations.load(path, FIRST).items] == ["demo"]
