"""Downloads from real servers on this machine: gone on with, checked, stopped, passed on to the next."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from wsl_bootstrap.cancel import CancelledError, CancelToken
from wsl_bootstrap.downloads import download, find_image
from wsl_bootstrap.step import Progress, StepError
from wsl_bootstrap.transfer import Wanted

CONTENT = bytes(range(256)) * 20_000  # 5 MB
OTHER = CONTENT[::-1]
SHA256 = hashlib.sha256(CONTENT).hexdigest()
KNOWN = Wanted(SHA256, len(CONTENT))
UNKNOWN = Wanted()


def fetch(urls: list[str], target: Path, wanted: Wanted = KNOWN, timeout_s: float = 20.0) -> list[Progress]:
    heard: list[Progress] = []

    def listen(payload: object) -> None:
        assert isinstance(payload, Progress)
        heard.append(payload)

    download(urls, target, wanted, listen, CancelToken(), timeout_s=timeout_s, pause_s=0.01)
    return heard


def refused(urls: list[str], target: Path, wanted: Wanted = KNOWN, timeout_s: float = 20.0) -> StepError:
    with pytest.raises(StepError) as problem:
        fetch(urls, target, wanted, timeout_s)
    return problem.value


def begins(file_server: Any, path: str = "/f") -> list[int]:
    """Where each request for a path began."""
    return [int((r or "bytes=0-").removeprefix("bytes=")[:-1]) for p, r, _ in file_server.asked if p == path]


def leave_part(target: Path, content: bytes, source: str = "", validator: str = "") -> None:
    """What an application that was killed in the middle has left."""
    target.with_name(target.name + ".part").write_bytes(content)
    note = f'{{"source": "{source}", "validator": {validator or chr(34) * 2}}}'
    target.with_name(target.name + ".part.json").write_text(note)


def test_a_file_comes_whole_with_progress(file_server: Any, tmp_path: Path) -> None:
    url = file_server.serve("/f", CONTENT)
    heard = fetch([url], tmp_path / "deep" / "f")
    assert (tmp_path / "deep" / "f").read_bytes() == CONTENT
    assert heard[-1] == Progress(len(CONTENT), len(CONTENT), "bytes")
    assert [entry.done for entry in heard] == sorted(entry.done for entry in heard)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["f"]
    assert fetch([url], tmp_path / "deep" / "f") == []  # it is there
    assert len(file_server.asked) == 1


def test_a_connection_that_drops_is_taken_up_as_long_as_it_brings_something(
    file_server: Any, tmp_path: Path
) -> None:
    url = file_server.serve("/f", CONTENT, breaks_at=1_000_000)
    fetch([url], tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert len(begins(file_server)) == 6  # 5.12 MB
    assert begins(file_server) == sorted(begins(file_server))


def test_an_address_that_brings_nothing_is_given_up(file_server: Any, tmp_path: Path) -> None:
    url = file_server.serve("/f", CONTENT, breaks_at=0)
    problem = refused([url], tmp_path / "f")
    assert (problem.code.id, problem.retryable) == ("download_failed", True)
    assert len(file_server.asked) == 3


def test_the_next_mirror_goes_on_where_one_stalls(file_server: Any, tmp_path: Path) -> None:
    stalled = file_server.serve("/f", CONTENT, stalls_at=2_000_000)
    good = file_server.serve("/g", CONTENT)
    file_server.paths["/f"].ranges = False
    fetch([stalled, good], tmp_path / "f", timeout_s=0.3)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert begins(file_server, "/g")[0] > 0


def test_a_mirror_without_the_file_is_passed_over(file_server: Any, tmp_path: Path) -> None:
    gone = file_server.url + "/gone"
    broken = file_server.serve("/b", b"", status=503)
    fetch([gone, broken, file_server.serve("/f", CONTENT)], tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert [path for path, _, _ in file_server.asked][:3] == ["/gone", "/b", "/f"]


def test_what_every_address_refuses_is_not_tried_again(file_server: Any, tmp_path: Path) -> None:
    problem = refused([file_server.url + "/gone", file_server.url + "/gone2"], tmp_path / "f")
    assert (problem.code.id, problem.retryable) == ("download_failed", False)
    assert "404" in str(problem.code.args["detail"])
    assert len(file_server.asked) == 2


@pytest.mark.parametrize("lie", [len(CONTENT) - 5, len(CONTENT) + 5])
def test_a_server_that_lies_about_the_size(file_server: Any, tmp_path: Path, lie: int) -> None:
    url = file_server.serve("/f", CONTENT, says_bytes=lie)
    assert "bytes" in str(refused([url], tmp_path / "f").code.args["detail"])
    assert len(file_server.asked) == 1  # another size is another file
    # Where nobody knows the size beforehand, the checksum tells in the end.
    fetch([url, file_server.serve("/g", CONTENT)], tmp_path / "h", Wanted(SHA256))
    assert (tmp_path / "h").read_bytes() == CONTENT
    assert begins(file_server, "/g") == ([0] if lie < len(CONTENT) else [])  # cut off, it is not that file


def test_more_than_there_should_be(file_server: Any, tmp_path: Path) -> None:
    url = file_server.serve("/f", CONTENT + b"more", chunked=True)
    assert "more than" in str(refused([url], tmp_path / "f").code.args["detail"])


def test_a_short_answer_without_a_length_is_no_end(file_server: Any, tmp_path: Path) -> None:
    url = file_server.serve("/f", CONTENT, chunked=True, breaks_at=3_000_000)
    fetch([url], tmp_path / "f")
    assert begins(file_server) == [0, 3_000_000]


def test_a_server_that_ignores_ranges_begins_anew(file_server: Any, tmp_path: Path) -> None:
    leave_part(tmp_path / "f", b"old")
    fetch([file_server.serve("/f", CONTENT, ranges=False)], tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_redirect_keeps_the_range(file_server: Any, tmp_path: Path) -> None:
    moved = file_server.serve("/g", b"", redirect=file_server.serve("/f", CONTENT))
    leave_part(tmp_path / "f", CONTENT[:100])
    fetch([moved], tmp_path / "f")
    assert begins(file_server) == [100]
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_redirects_in_a_circle_end(file_server: Any, tmp_path: Path) -> None:
    file_server.serve("/g", b"", redirect=file_server.url + "/g")
    assert "TooManyRedirects" in str(refused([file_server.url + "/g"], tmp_path / "f").code.args["detail"])


def test_a_piece_from_another_place_is_refused(file_server: Any, tmp_path: Path) -> None:
    leave_part(tmp_path / "f", CONTENT[:100])
    url = file_server.serve("/f", CONTENT, says_from=50)
    assert "from byte 50" in str(refused([url], tmp_path / "f").code.args["detail"])
    fetch([url, file_server.serve("/g", CONTENT)], tmp_path / "f")
    assert begins(file_server, "/g") == [100]


def test_a_part_that_is_already_whole_costs_nothing(file_server: Any, tmp_path: Path) -> None:
    leave_part(tmp_path / "f", CONTENT)
    fetch([file_server.serve("/f", CONTENT)], tmp_path / "f")
    assert file_server.asked == []
    leave_part(tmp_path / "g", CONTENT)
    fetch([file_server.url + "/f"], tmp_path / "g", Wanted(SHA256))  # of unknown size: the server says so
    assert (tmp_path / "g").read_bytes() == CONTENT
    assert len(file_server.asked) == 1


@pytest.mark.parametrize("part", [b"", b"not the beginning of it", CONTENT + b"too long"])
def test_wrong_bytes_are_thrown_away(file_server: Any, tmp_path: Path, part: bytes) -> None:
    url = file_server.serve("/f", OTHER)
    if part:
        leave_part(tmp_path / "f", part)
    problem = refused([url], tmp_path / "f")
    assert (problem.code.id, problem.retryable) == ("download_mismatch", True)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_part_costs_one_more_download_and_no_more(file_server: Any, tmp_path: Path) -> None:
    leave_part(tmp_path / "f", b"not the beginning of it")
    fetch([file_server.serve("/f", CONTENT)], tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert begins(file_server) == [23, 0]


def test_wrong_bytes_from_one_mirror_do_not_spoil_the_next(file_server: Any, tmp_path: Path) -> None:
    urls = [file_server.serve("/f", OTHER), file_server.serve("/g", CONTENT)]
    fetch(urls, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert begins(file_server, "/g") == [0]


def test_without_a_checksum_only_the_same_file_of_the_same_server_is_gone_on_with(
    file_server: Any, tmp_path: Path
) -> None:
    url = file_server.serve("/f", CONTENT, etag='"a"')
    leave_part(tmp_path / "f", CONTENT[:1000], url, '"\\"a\\""')
    fetch([url], tmp_path / "f", UNKNOWN)
    assert file_server.asked[-1] == ("/f", "bytes=1000-", '"a"')
    leave_part(tmp_path / "g", b"of an older file", url, '"\\"b\\""')
    fetch([url], tmp_path / "g", UNKNOWN)
    assert file_server.asked[-1] == ("/f", "bytes=16-", '"b"')  # the server sends all of it then
    leave_part(tmp_path / "h", b"of another mirror", "http://elsewhere/f", '"\\"a\\""')
    fetch([url], tmp_path / "h", UNKNOWN)
    assert file_server.asked[-1] == ("/f", None, None)
    for name in "fgh":
        assert (tmp_path / name).read_bytes() == CONTENT


def test_a_log_in_page_is_not_a_model(file_server: Any, tmp_path: Path) -> None:
    url = file_server.serve("/f", b"<html>sign in</html>", type="text/html; charset=utf-8")
    assert "web page" in str(refused([url], tmp_path / "f", UNKNOWN).code.args["detail"])
    assert list(tmp_path.iterdir()) == []


def test_a_stop_keeps_the_part(file_server: Any, tmp_path: Path) -> None:
    cancel = CancelToken()
    heard: list[object] = []

    def stop(payload: object) -> None:
        heard.append(payload)
        cancel.cancel()

    with pytest.raises(CancelledError):
        download([file_server.serve("/f", CONTENT)], tmp_path / "f", KNOWN, stop, cancel)
    assert len(heard) == 1
    kept = (tmp_path / "f.part").stat().st_size
    assert 0 < kept < len(CONTENT)
    assert fetch([file_server.url + "/f"], tmp_path / "f")[0].unit == "bytes_checked"
    assert begins(file_server) == [0, kept]


def test_a_disk_without_room_is_told_before_it_is_full(file_server: Any, small_disk: Path) -> None:
    problem = refused([file_server.serve("/f", CONTENT)], small_disk / "f")
    assert problem.code.id == "disk_full"
    assert (small_disk / "f.part").stat().st_size == 0


def test_the_newest_image_of_a_mirror(file_server: Any) -> None:
    names = ("ubuntu-24.04.9-wsl-amd64.wsl", "ubuntu-24.04.10-wsl-amd64.wsl", "ubuntu-24.04.10-wsl-arm64.wsl")
    sums = "".join(f"{place:064x} *{name}\n" for place, name in enumerate((*names, "ubuntu-24.04.10.iso")))
    file_server.serve("/images/SHA256SUMS", sums.encode())
    url = file_server.url
    assert find_image(f"{url}/images", "amd64") == (f"{url}/images/{names[1]}", f"{1:064x}")
    assert find_image(f"{url}/images/", "arm64")[1] == f"{2:064x}"
    for folder, machine in (("images", "riscv64"), ("nothing", "amd64")):
        with pytest.raises(StepError):
            find_image(f"{url}/{folder}", machine)
