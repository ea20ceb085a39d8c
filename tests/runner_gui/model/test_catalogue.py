"""The bundled catalogue is whole; what servers list is taken for what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner_gui.model.catalogue import (
    Catalogue,
    Offer,
    Source,
    load_catalogue,
    read_listing,
    save_catalogue,
)
from runner_gui.model.workspace import assets_folder

DIGEST = "ab" * 32
BUNDLED = assets_folder() / "catalogue.json"


@pytest.fixture
def bundled(tmp_path: Path) -> Catalogue:
    return load_catalogue(BUNDLED, tmp_path / "none.json")


def test_the_bundled_catalogue_is_whole(bundled: Catalogue) -> None:
    names = [offer.name for offer in bundled.models]
    assert len(set(names)) == len(names) >= 30
    digests = [offer.sha256 for offer in bundled.models if offer.sha256]
    assert len(set(digests)) == len(digests)
    for offer in bundled.models:
        assert offer.parameters, offer.name
        assert offer.released, offer.name
        assert len(bundled.sources(offer)) >= 2
    assert {bundled.family(offer) for offer in bundled.models} >= {"RWKV-7 G1", "RWKV-6 World"}


@pytest.mark.parametrize(
    ("name", "parameters", "released"),
    [
        ("rwkv7-g1d-0.4b-20260210-ctx8192.pth", "0.4B", "2026-02-10"),
        ("RWKV-x060-World-1B6-v2.1-20240328-ctx4096.pth", "1.6B", "2024-03-28"),
        ("RWKV-x060-World-14B-v2.1-20240719-ctx4096.pth", "14B", "2024-07-19"),
        ("rwkv-something.pth", "", ""),
    ],
)
def test_a_name_tells_size_and_date(name: str, parameters: str, released: str) -> None:
    offer = Offer(name=name, repository="r")
    assert (offer.parameters, offer.released) == (parameters, released)


def test_the_preferred_server_is_asked_first(bundled: Catalogue) -> None:
    offer = bundled.models[0]
    hosts = [source.host for source in bundled.sources(offer, "modelscope.cn")]
    assert hosts[0] == "modelscope.cn"
    assert set(hosts) == set(bundled.hosts())
    assert [s.host for s in bundled.sources(offer)] == bundled.hosts()
    own = bundled.sources(offer, "modelscope.cn", "http://models.local/")
    assert own[0].file_url("x") == "http://models.local/BlinkDL/rwkv7-g1/resolve/main/x"
    assert [s.host for s in own[1:]] == hosts


def test_each_kind_of_server_names_files_in_its_way() -> None:
    hub = Source(kind="hub", at="https://h", repository="a/b")
    scope = Source(kind="modelscope", at="https://m", repository="a/b")
    assert hub.file_url("x 1.pth") == "https://h/a/b/resolve/main/x%201.pth"
    assert scope.file_url("x.pth") == "https://m/models/a/b/resolve/master/x.pth"


HUB: list[Any] = [
    {"type": "file", "path": "rwkv7-new.pth", "size": 10, "lfs": {"oid": DIGEST, "size": 10}},
    {"type": "file", "path": "README.md", "size": 5},
    {"type": "directory", "path": "old"},
    {"type": "file", "path": "../rwkv-evil.pth", "size": 5},
    {"type": "file", "path": "rwkv-odd.pth", "size": "many", "lfs": 7},
    {"type": "file", "path": "rwkv-bare.pth", "size": 7},
    "nonsense",
]


def test_a_hub_lists_its_files() -> None:
    assert read_listing("hub", HUB, "r") == [
        Offer(name="rwkv7-new.pth", repository="r", size_bytes=10, sha256=DIGEST),
        Offer(name="rwkv-bare.pth", repository="r", size_bytes=7),
    ]


def test_modelscope_lists_its_files() -> None:
    raw = {
        "Code": 200,
        "Data": {"Files": [{"Path": "rwkv7-n.pth", "Size": 9, "Sha256": DIGEST}, {"Path": 3}]},
    }
    assert read_listing("modelscope", raw, "r") == [
        Offer(name="rwkv7-n.pth", repository="r", size_bytes=9, sha256=DIGEST)
    ]


@pytest.mark.parametrize("raw", [None, 3, {}, {"Data": None}, {"Data": {"Files": {}}}, [None]])
def test_other_answers_list_nothing(raw: Any) -> None:
    assert read_listing("hub", raw, "r") == read_listing("modelscope", raw, "r") == []


def test_a_refreshed_catalogue_adds_and_never_replaces(bundled: Catalogue, tmp_path: Path) -> None:
    blank = next(offer for offer in bundled.models if offer.sha256 is None)
    known = next(offer for offer in bundled.models if offer.sha256)
    listed = [
        Offer(name="rwkv7-new.pth", repository="rwkv7-g1", size_bytes=5, sha256=DIGEST),
        Offer(name=known.name, repository="rwkv7-g1", size_bytes=6, sha256="cd" * 32),
        Offer(name=blank.name, repository="rwkv7-g1", size_bytes=7, sha256="ef" * 32),
    ]
    save_catalogue(bundled.merged(listed), tmp_path / "c.json")
    again = {offer.name: offer for offer in load_catalogue(BUNDLED, tmp_path / "c.json").models}
    assert again["rwkv7-new.pth"].sha256 == DIGEST
    assert again[known.name] == known
    assert (again[blank.name].size_bytes, again[blank.name].sha256) == (7, "ef" * 32)


@pytest.mark.parametrize("content", ["", "[]", '{"version": 2}', '{"version": 1, "models": 3}'])
def test_a_broken_refreshed_catalogue_counts_for_nothing(
    bundled: Catalogue, tmp_path: Path, content: str
) -> None:
    (tmp_path / "c.json").write_text(content)
    assert load_catalogue(BUNDLED, tmp_path / "c.json") == bundled
