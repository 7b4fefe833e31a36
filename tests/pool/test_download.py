"""What is fetched from a web server: whole, resumed, and with every fault told in one line."""

import hashlib
import json
import os
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from aoe import limits, timing
from aoe.errors import AoeError, ConfigurationError, FetchFailed, PoolError
from aoe.pool import asking, download
from aoe.pool.download import Note, Scratch, fetched, load, waiting
from aoe.sandbox import user
from tests.pool.web import Web, serving
from tests.support.tools import need, need_users, tool
from tests.support.waiting import statuses, wait_for

DATA = bytes(range(256)) * 4096
ROOM = 1 << 30


@pytest.fixture
def web() -> Iterator[Web]:
    with serving() as it:
        it.data = DATA
        yield it


def fetch(pool: Path, url: str, sha256: str | None = None, spare: int = ROOM) -> bytes:
    """All of it; what is kept of it stays."""
    with fetched(Scratch(str(pool), spare), url, sha256, lambda *_: None) as file:
        return os.pread(file.fd, 1 << 24, 0)


def refused(pool: Path, url: str, kind: type[AoeError] = FetchFailed, **how: object) -> str:
    with pytest.raises(kind) as caught:
        fetch(pool, url, **how)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def kept(pool: Path) -> int:
    """Bytes of the only file that waits."""
    (it,) = waiting(str(pool))
    return it.bytes


def test_a_file_comes_whole_and_then_nothing_of_it_is_left(web: Web, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    with fetched(Scratch(str(tmp_path), ROOM), web.url(), None, lambda *it: told.append(it)) as file:
        assert os.pread(file.fd, 1 << 24, 0) == DATA
        assert not list(waiting(str(tmp_path)))  # as it is under way
        file.forget()
    assert told[-1] == (len(DATA), len(DATA))
    assert not list((tmp_path / "scratch").iterdir())


def test_it_goes_on_where_it_was_interrupted(web: Web, tmp_path: Path) -> None:
    web.cut = 700_000
    assert f"ended after 700000 of {len(DATA)} bytes; do it again to go on" in refused(tmp_path, web.url())
    assert kept(tmp_path) == 700_000
    (found,) = waiting(str(tmp_path))
    assert found.url == web.url()
    assert time.time() - found.changed < 3600
    web.cut = None
    assert fetch(tmp_path, web.url(), hashlib.sha256(DATA).hexdigest()) == DATA
    assert web.asked[-1]["Range"] == "bytes=700000-"
    assert fetch(tmp_path, web.url()) == DATA
    assert web.asked[-1]["Range"] == f"bytes={len(DATA)}-"


def test_another_version_is_fetched_from_its_beginning(web: Web, tmp_path: Path) -> None:
    web.cut = 700_000
    refused(tmp_path, web.url())
    web.cut, web.tag, web.data = None, '"two"', DATA[::-1]
    assert fetch(tmp_path, web.url()) == DATA[::-1]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_what_a_server_does_not_name_is_not_resumed(tag: str, web: Web, tmp_path: Path) -> None:
    web.cut, web.tag = 700_000, tag
    refused(tmp_path, web.url())
    assert not list((tmp_path / "scratch").iterdir())
    web.cut = None
    assert fetch(tmp_path, web.url()) == DATA
    assert "Range" not in web.asked[-1]


def test_bytes_that_were_not_synced_are_asked_for_again(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.cut = 700_000
    refused(tmp_path, web.url())
    (part,) = (tmp_path / "scratch").glob("*.part")
    with part.open("ab") as file:
        file.write(b"what a crash left")
    web.cut = None
    assert fetch(tmp_path, web.url()) == DATA


@pytest.mark.parametrize(
    "harm", [b"", b"{", b"\xff", b"null", b'{"url": 1}', b'{"url":"x","version":"","total":-1,"kept":9}']
)
def test_a_note_that_is_damaged_begins_anew(harm: bytes, web: Web, tmp_path: Path) -> None:
    web.cut = 700_000
    refused(tmp_path, web.url())
    (note,) = (tmp_path / "scratch").glob("*.json")
    note.write_bytes(harm)
    list(waiting(str(tmp_path)))
    web.cut = None
    assert fetch(tmp_path, web.url()) == DATA


def test_a_note_is_read_as_it_was_written() -> None:
    note = Note("http://a/b", '"x"', 10, 5)
    assert load(note.dump(), "http://a/b") == note
    assert load(note.dump(), "http://a/c") == Note("http://a/c")
    longest = Note(
        "\u00e9" * limits.DOWNLOAD_URL_MAX, "\u00e9" * limits.DOWNLOAD_VERSION_MAX, 1 << 62, 1 << 62
    )
    assert len(longest.dump()) == limits.DOWNLOAD_NOTE_BYTES


FAULTS: dict[str, tuple[Callable[[Web], object], str]] = {
    "not there": (lambda web: setattr(web, "status", 404), "the server says 404 Not Found"),
    "failing": (lambda web: setattr(web, "status", 503), "the server says 503 Service Unavailable"),
    "nothing": (lambda web: setattr(web, "status", 204), "the server says 204, and not what was asked for"),
    "loop": (lambda web: setattr(web, "location", web.url()), "redirect"),
    "file": (
        lambda web: setattr(web, "location", "file:///etc/passwd"),
        "file:///etc/passwd' is not allowed",
    ),
    "ftp": (lambda web: setattr(web, "location", "ftp://127.0.0.1/x"), "sends on to ftp, which is neither"),
    "packed": (
        lambda web: web.headers.update({"Content-Encoding": "gzip"}),
        "the server packs what",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_server_does_wrong_is_told(fault: str, web: Web, tmp_path: Path) -> None:
    """And nothing is left of it."""
    act, said = FAULTS[fault]
    act(web)
    assert said in refused(tmp_path, web.url())
    assert not list((tmp_path / "scratch").iterdir())


def test_a_redirect_is_followed(web: Web, tmp_path: Path) -> None:
    with serving() as other:
        other.location = web.url()
        assert fetch(tmp_path, other.url()) == DATA


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of 127.0.0.1, signed by itself, with its key. It is for root alone."""
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    name = ("-subj", "/CN=a test", "-addext", "subjectAltName=IP:127.0.0.1")
    need("openssl")
    tool("openssl", "req", "-x509", *kind, *name, "-keyout", f"{file}.key", "-out", file)
    with file.open("a") as both:
        both.write(Path(f"{file}.key").read_text())
    file.chmod(0o600)
    return file


def test_over_tls_a_server_must_prove_what_it_is(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And then all is as without: what was interrupted goes on."""
    with serving(certificate) as web:
        web.data = DATA
        said = refused(tmp_path, web.url())
        assert said.startswith(f"{web.url()}: its certificate is refused: self")
        assert not web.asked
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        web.cut = 700_000
        assert f"ended after 700000 of {len(DATA)} bytes" in refused(tmp_path, web.url())
        web.cut = None
        assert fetch(tmp_path, web.url(), hashlib.sha256(DATA).hexdigest()) == DATA
        assert web.asked[-1]["Range"] == "bytes=700000-"
        monkeypatch.setenv("no_proxy", "localhost")
        other = web.url().replace("127.0.0.1", "localhost")
        assert "its certificate is refused: Hostname mismatch" in refused(tmp_path, other)


def test_from_https_nothing_leads_to_http() -> None:
    asked = asking.request.Request("https://a/b")
    with pytest.raises(FetchFailed, match="from https to http; name that URL"):
        asking._Redirects().redirect_request(asked, None, 302, "Found", {}, "http://a/b")


def test_another_sum_is_refused_and_kept_nowhere(web: Web, tmp_path: Path) -> None:
    said = refused(tmp_path, web.url(), sha256="0" * 64)
    assert f"has the SHA-256 {hashlib.sha256(DATA).hexdigest()}, not {'0' * 64}; it was removed" in said
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("said", [True, False])
def test_what_is_too_large_is_refused(said: bool, web: Web, tmp_path: Path) -> None:
    if not said:
        web.headers["Content-Length"] = ""
    found = refused(tmp_path, web.url(), ConfigurationError, spare=500_000)
    assert "the pool has room for 500000 above its reserve; delete volumes" in found
    assert not list((tmp_path / "scratch").iterdir())


def test_a_directory_apart_is_made_and_is_what_may_be_too_small(web: Web, tmp_path: Path) -> None:
    apart = tmp_path / "cache" / "vg" / "thin"
    with (
        pytest.raises(ConfigurationError) as caught,
        fetched(Scratch(str(apart), 500_000, apart=True), web.url(), None, lambda *_: None),
    ):
        pass
    assert f"{apart} has room for 500000; give it more, or fetch it yourself" in str(caught.value)
    with fetched(Scratch(str(apart), ROOM, apart=True), web.url(), None, lambda *_: None) as file:
        assert os.pread(file.fd, 1 << 24, 0) == DATA
    assert (apart / "scratch").stat().st_mode & 0o777 == 0o700


def test_what_is_told_ends_it_also_while_nothing_comes(web: Web, tmp_path: Path) -> None:
    web.cut, web.stall = 700_000, True
    told: list[int] = []

    def enough(have: int, _: int | None) -> None:
        told.append(have)
        if told[-2:] == [700_000, 700_000]:
            raise LookupError

    with pytest.raises(LookupError), fetched(Scratch(str(tmp_path), ROOM), web.url(), None, enough):
        pass
    assert kept(tmp_path) == 700_000


def test_the_child_is_another_user_and_has_nothing_but_its_files(web: Web, tmp_path: Path) -> None:
    """What a server says is read by it."""
    need_users()
    web.cut, web.stall = 700_000, True
    found: list[tuple[dict[str, str], list[Path]]] = []

    def look(have: int, _: int | None) -> None:
        if have == 700_000:
            (child,) = children()
            own = (it for it in Path(f"/proc/{child}/fd").iterdir() if int(it.name) > 2)
            open_files = [it.readlink() for it in own]
            found.append((statuses(child)[0], open_files))
            raise LookupError

    with pytest.raises(LookupError), fetched(Scratch(str(tmp_path), ROOM), web.url(), None, look):
        pass
    ((status, open_files),) = found
    assert {*status["Uid"].split(), *status["Gid"].split()} == {str(user.OTHER)}
    assert (status["Groups"], status["NoNewPrivs"]) == ("", "1")
    assert {int(status[it], 16) for it in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    files = [it for it in open_files if it.is_absolute()]
    assert sorted(it.suffix for it in files) == [".json", ".part"], files
    assert {it.parent for it in files} == {tmp_path / "scratch"}


def children() -> list[int]:
    """Processes of this thread that fetch."""
    return [int(it) for it in Path("/proc/thread-self/children").read_text().split()]


def test_a_server_that_stalls_is_given_up(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "DOWNLOAD_STALL_S", 0.5)
    web.cut, web.stall = 700_000, True
    assert "0.5 s" in refused(tmp_path, web.url())
    monkeypatch.undo()
    web.cut, web.stall = None, False
    assert fetch(tmp_path, web.url()) == DATA


def test_a_server_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(signal, "setitimer", lambda *_: None)
    watch = asking._Watch(60.0)
    watch.count += limits.DOWNLOAD_LEAST_BYTES
    watch._look()
    watch.count += limits.DOWNLOAD_LEAST_BYTES - 1
    with pytest.raises(FetchFailed, match=r"next to nothing, came for 60 s; do it again to go on"):
        watch._look()


def test_no_server_is_told(tmp_path: Path) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/disk"
        assert refused(tmp_path, url) == f"{url}: Connection refused"
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize(
    "url", ["http://", "http:///x", "http://a:99999/x", "http://a b/", "http://[::1/x", "https://a/\n"]
)
def test_what_is_no_url_is_refused(url: str, tmp_path: Path) -> None:
    assert "is no URL; write it as https://HOST/FILE" in refused(tmp_path, url, ConfigurationError)


def test_a_user_in_a_url_is_refused_and_not_said(tmp_path: Path) -> None:
    said = refused(tmp_path, "https://me:secret@host/x", ConfigurationError)
    assert "secret" not in said
    assert "fetch the file yourself" in said


def test_two_do_not_fetch_the_same(web: Web, tmp_path: Path) -> None:
    with fetched(Scratch(str(tmp_path), ROOM), web.url(), None, lambda *_: None):
        assert "is being fetched by another process" in refused(tmp_path, web.url(), PoolError)


def test_an_interruption_ends_the_child_and_keeps_what_is_there(web: Web, tmp_path: Path) -> None:
    web.cut, web.stall = 700_000, True
    came = threading.Event()

    def interrupt() -> None:
        came.wait(30)
        os.kill(os.getpid(), signal.SIGINT)

    other = threading.Thread(target=interrupt)
    other.start()
    with (
        pytest.raises(KeyboardInterrupt),
        fetched(
            Scratch(str(tmp_path), ROOM), web.url(), None, lambda have, _: have == 700_000 and came.set()
        ),
    ):
        pass
    other.join()
    web.cut, web.stall = None, False
    assert fetch(tmp_path, web.url()) == DATA
    assert web.asked[-1]["Range"] == "bytes=700000-"


def test_the_child_ends_with_a_parent_that_is_killed(web: Web, tmp_path: Path) -> None:
    web.cut, web.stall = 700_000, True
    child = os.fork()
    if child == 0:
        fetch(tmp_path, web.url())
        os._exit(0)
    wait_for(lambda: web.asked, what="nothing was asked for")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(lambda: list(waiting(str(tmp_path))), what="the child goes on")
    web.cut, web.stall = None, False
    assert fetch(tmp_path, web.url()) == DATA


def test_what_the_store_refuses_is_told(web: Web, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, hard))
    try:
        assert refused(tmp_path, web.url(), PoolError) == f"{web.url()}: File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_thread_fetches_as_well(web: Web, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        assert threads.submit(fetch, tmp_path, web.url()).result() == DATA


def test_names_and_urls() -> None:
    assert download.is_url("HTTPS://host/x")
    assert not download.is_url("/srv/http://x")
    assert download.name_of("https://host/a/disk.qcow2?x=/y#z") == "disk.qcow2"
    assert json.loads(Note("u").dump())["kept"] == 0
