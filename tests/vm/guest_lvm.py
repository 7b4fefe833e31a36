"""Runs inside a guest that has LVM and no udev: the verbs of a pool on a real thin pool, `vg/thin`."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import Any

from aoe.errors import AoeError
from aoe.pool import filling, lvm_marking, lvm_run, store
from aoe.pool.adopting import Freeze
from aoe.pool.lvm_seen import kept, name_of
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.work import Request, Work

PLACE = "vg/thin"
MIB, GIB = 1 << 20, 1 << 30
SIZE = 10 * GIB
CLONES = 3
_CHANGING = ("lvcreate", "lvchange", "lvremove", "lvresize")


def is_changing(words: Sequence[str]) -> bool:
    """Whether a command is one of LVM that changes something."""
    return len(words) > 1 and words[0] == "lvm" and words[1] in _CHANGING


@contextmanager
def working(reserve: int = 10) -> Iterator[Work]:
    """Once commands of a killed process have ended, too: they have its lock."""
    work = Work(PLACE, kind="lvm-thin", name="thin", reserve=reserve, patience_s=60)
    try:
        yield work
    finally:
        work.close()


def write(work: Work, volume: str, byte: int, at: int = 0, length: int = MIB) -> None:
    with Path(work.ready(volume)).open("r+b", buffering=0) as file:
        file.seek(at)
        assert file.write(bytes([byte]) * length) == length
        os.fsync(file.fileno())


def read(work: Work, volume: str, snapshot: str = "", at: int = 0, length: int = 1) -> bytes:
    with Path(work.ready(volume, snapshot)).open("rb", buffering=0) as file:
        file.seek(at)
        return file.read(length)


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except AoeError as error:
        said = str(error)
    else:
        raise AssertionError("it was not refused")
    assert said.isprintable(), said
    return said


def check_whole(work: Work) -> None:
    """Nothing is left of anything, and what is kept cannot be written."""
    found = work.found
    used = {image.file for volume in work.volumes.values() for image in volume.images}
    assert not work.leftovers
    assert not any((found.new, found.gone, found.unfinished)), found
    assert used == set(found.images), found
    lvs = lvm_marking.place_of(PLACE).volumes()
    assert all(lvs[lv].kept for lv in kept(work.volumes.values())), lvs


# Verbs


def verbs() -> dict[str, object]:
    """Each of them, and how long a clone takes."""
    assert "is not marked" in refusal(lambda: Work(PLACE, kind="lvm-thin"))
    assert 'Volume group "no" not found' in refusal(lambda: Work("no/thin", kind="lvm-thin"))
    store.init(PLACE, kind="lvm-thin", name="thin")
    assert "is a pool already" in refusal(lambda: store.init(PLACE, kind="lvm-thin"))
    assert lvm_marking.place_of(PLACE).pool().fails_when_full
    with working() as work:
        states(work)
        sizes(work)
        in_use(work)
        times = clones(work)
        written(work)
        brought(work)
        was = dict(work.volumes)
    with working() as work:
        assert work.volumes == was
        check_whole(work)
        for volume in sorted(work.volumes, reverse=True):  # clones first
            work.do(Delete(volume, recursive=True))
        assert not lvm_marking.place_of(PLACE).volumes()
        tags(work)
    return times


def states(work: Work) -> None:
    work.do(Create("base", SIZE))
    write(work, "base", 1)
    work.do(Cut("base", "a"))
    write(work, "base", 2)
    work.do(Clone("base", "a", "web"))
    work.do(Clone("base", "", "db"))
    write(work, "web", 3)
    assert [read(work, it)[0] for it in ("base", "web", "db")] == [2, 3, 2]
    assert read(work, "base", "a")[0] == 1
    work.do(Rollback("base", "a"))
    assert read(work, "base")[0] == 1
    back = work.volumes["base"].snapshots[-1].name
    assert read(work, "base", back)[0] == 2
    head, _ = work.usage("web")
    assert head.allocated == head.own == MIB, head
    check_whole(work)
    work.do(Rename("base", "template"))
    work.do(Delete("db"))
    work.do(Delete("template", back))
    assert "has clones" in refusal(lambda: work.do(Delete("template", recursive=True)))
    assert "keeps disks as raw" in refusal(lambda: work.do(Create("q", SIZE, "qcow2")))
    assert not is_writable(work.ready("template", "a"))
    assert is_writable(work.ready("template"))


def is_writable(path: str) -> bool:
    """Whether the kernel takes a write of what is there."""
    with suppress(PermissionError), Path(path).open("r+b", buffering=0) as file:
        data = file.read(512)
        file.seek(0)
        return file.write(data) == 512
    return False


def sizes(work: Work) -> None:
    """What is behind an end does not come back, in the middle of a chunk as well."""
    least = 3 * MIB + 512
    work.do(Create("sized", 8 * MIB))
    write(work, "sized", 7, length=8 * MIB)
    work.do(Cut("sized", "kept"))
    work.do(Resize("sized", least, shrink=True))
    work.do(Resize("sized", 16 * MIB + 512))
    data = read(work, "sized", length=16 * MIB + 512)
    assert len(data) == 16 * MIB + 512
    assert data[:least] == b"\7" * least
    assert not any(data[least:])
    assert read(work, "sized", "kept", at=8 * MIB - 1) == b"\7"
    work.do(Delete("sized", recursive=True))


def in_use(work: Work) -> None:
    fd = os.open(work.ready("web"), os.O_RDWR | os.O_EXCL)
    try:
        for request in (Delete("web"), Resize("web", MIB, shrink=True)):
            assert "/dev/vg/" in refusal(lambda request=request: work.do(request))  # type: ignore[misc]
        work.do(Cut("web", "live"))
    finally:
        os.close(fd)
    work.do(Delete("web", "live"))


def written(work: Work) -> None:
    """A cut of a disk that is written meanwhile has all that was acknowledged, and is of one moment."""
    path = work.ready("web")
    done, said = os.pipe()
    child = os.fork()
    if child == 0:
        write_on(path, said)
    os.close(said)
    acknowledged(done, 50)
    os.set_blocking(done, False)
    before = acknowledged(done, 0)
    work.do(Cut("web", "live"))
    after = acknowledged(done, 0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    places = range(0, 64 * 4096, 4096)
    found = [int.from_bytes(read(work, "web", "live", at, 8), "little") for at in places]
    of_one_moment(found, before, after)
    work.do(Delete("web", "live"))


def of_one_moment(numbers: Sequence[int], before: int, after: int) -> None:
    """What was written one after the other, each number to the next block, is there up to one that was the
    last at a moment: so many were acknowledged before it, and so many behind it."""
    blocks, last = len(numbers), max(numbers)
    assert before <= last <= after + 1, (before, last, after)
    written = range(max(1, last - blocks + 1), last + 1)
    assert all(numbers[it % blocks] == it for it in written), numbers


def write_on(path: str, said: int) -> None:
    """Numbers, one after the other, and each is told of once it is written."""
    fd = os.open(path, os.O_RDWR | os.O_DSYNC)
    number = 0
    while True:
        number += 1
        os.pwrite(fd, number.to_bytes(8, "little") * 512, 4096 * (number % 64))
        os.write(said, number.to_bytes(8, "little"))


_last = [0]


def acknowledged(done: int, least: int) -> int:
    """The last number that was told of, once there are so many."""
    with suppress(BlockingIOError):
        while data := os.read(done, 8 * 4096 if least == 0 else 8):
            _last[0] = int.from_bytes(data[-8:], "little")
            if least and _last[0] >= least:
                break
    return _last[0]


def clones(work: Work) -> dict[str, object]:
    """Seconds for a clone of a template of 10 GiB: the verb, lvm's commands in it, and what the device mapper
    takes for the same without lvm."""
    verb, commands = [], []
    running = lvm_run.run
    took = [0.0]

    def timed(words: Sequence[str], stdin: int | None = None) -> str:
        start = time.monotonic()
        try:
            return running(words, stdin)
        finally:
            took[0] += time.monotonic() - start

    volumes = work.store._volumes  # type: ignore[attr-defined]  # of an LvmThin, whose commands are timed
    place = volumes._place
    volumes._place = place._replace(host=place.host._replace(run=timed))
    for number in range(CLONES):
        took[0] = 0.0
        start = time.monotonic()
        work.do(Clone("template", "a", f"clone{number}"))
        verb.append(time.monotonic() - start)
        commands.append(took[0])
    volumes._place = place
    origin = lvm_marking.place_of(PLACE).volumes()[name_of(work.image_of("template", "a"))].thin_id
    for number in range(CLONES):
        assert read(work, f"clone{number}")[0] == 1
        assert work.usage(f"clone{number}")[0].own == 0
        work.do(Delete(f"clone{number}"))
    return {"clone_s": median(verb), "lvm_s": median(commands), "dm_s": messages(origin)}


def brought(work: Work) -> None:
    """An image comes from a web server, is a template, and goes out of a clone; no copy is of more than its
    disk."""
    image, saved = Path("/tmp/image.raw"), Path("/tmp/saved.raw")
    image.write_bytes(b"\5" * MIB + bytes(4 * MIB) + b"\6" * MIB)
    with (
        served(image) as url,
        filling.brought(work, url, None, None, lambda *_: None) as of,
        filling.imported(work, of, "brought", None, lambda _: None) as made,
    ):
        made.done_by(work)
    assert not list(Path("/var/cache/aoe-target/vg/thin/scratch").iterdir())
    work.do(Freeze("brought"))
    work.do(Clone("brought", "", "brought-clone"))
    head, _ = work.usage("brought")
    assert head.allocated == 2 * MIB, head
    filling.save(work, "brought-clone", "", saved, "raw", lambda _: None)
    assert saved.read_bytes() == image.read_bytes()


@contextmanager
def served(file: Path) -> Iterator[str]:
    """Its URL, inside."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(file.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{file.name}"
        finally:
            server.shutdown()


def messages(origin: int) -> float:
    """Seconds of a snapshot by a message to the device mapper, less those of a program that does nothing."""
    pool = "/dev/mapper/vg-thin-tpool"
    made, nothing = [], []
    for _ in range(CLONES):
        made.append(seconds("dmsetup", "message", pool, "0", f"create_snap 4000 {origin}"))
        seconds("dmsetup", "message", pool, "0", "delete 4000")
        nothing.append(seconds("dmsetup", "version"))
    return median(made) - median(nothing)


def seconds(*command: str) -> float:
    start = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


def tags(work: Work) -> None:
    """lvm takes what records are made of, also that of a volume with many snapshots, in one command."""
    work.do(Create("tagged", MIB))
    volume = work.volumes["tagged"]
    lv = name_of(volume.head)
    usual = "".join(map(chr, range(33, 127)))
    legal = "".join(it for it in usual if it.isalnum() or it in "_+./=!:&#-")
    lvm_run.run(("lvchange", "--addtag", f"x{legal}", f"vg/{lv}"))
    words = [word for at in range(100) for word in ("--addtag", f"aoe.record=1.100.{at}.{'x' * 900}")]
    lvm_run.run(("lvchange", *words, f"vg/{lv}"))
    found = lvm_marking.place_of(PLACE).volumes()[lv].tags
    assert f"x{legal}" in found
    assert len(found) == 100 + 3, len(found)
    lvm_run.run(("lvchange", *(it.replace("add", "del") for it in words), f"vg/{lv}"))
    work.do(Delete("tagged"))


# Kills


def killed() -> dict[str, object]:
    """Verbs of another process that is killed before a command of lvm, or while one runs."""
    with working() as work:
        work.do(Create("base", 8 * MIB))
        write(work, "base", 1)
        work.do(Cut("base", "a"))
        work.do(Clone("base", "a", "web"))
        write(work, "base", 2)
    cases: list[tuple[Request, int, bool]] = [
        (Clone("base", "", "new"), 2, False),
        (Clone("base", "", "new"), 3, True),
        (Rollback("base", "a"), 2, False),
        (Resize("base", 4 * MIB, shrink=True), 1, True),
        (Delete("web"), 1, False),
    ]
    for request, at, during in cases:
        kill(request, at, during)
        with working() as work:
            check_whole(work)
            assert read(work, "base")[0] in (1, 2)
            assert read(work, "base", "a")[0] == 1
            if "new" in work.volumes:
                work.do(Delete("new"))
            if "web" not in work.volumes:
                work.do(Clone("base", "a", "web"))
    return {"kills": len(cases)}


def kill(request: Request, at: int, during: bool) -> None:
    child = os.fork()
    if child == 0:
        count = [0]
        running = subprocess.Popen.communicate if during else lvm_run.run

        def run(*words: Any, **how: Any) -> Any:
            name = words[0].args[1] if during else words[0][0]
            count[0] += name in _CHANGING
            if count[0] == at + 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return running(*words, **how)

        if during:
            subprocess.Popen.communicate = run  # type: ignore[method-assign]
        else:
            lvm_marking.HERE = lvm_marking.Host(run=run)
        work = Work(PLACE, kind="lvm-thin", name="thin", patience_s=60)
        work.do(request)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == signal.SIGKILL, status


# The power


def churn() -> None:
    """Until the power fails."""
    number = 0
    with working(0) as work:
        while True:
            number += 1
            work.do(Clone("base", "", "churned"))
            work.do(Delete("churned"))
            print(f"round {number} done", flush=True)


def again() -> dict[str, object]:
    """After the power has failed."""
    with working(0) as work:
        check_whole(work)
        if "churned" in work.volumes:
            work.do(Delete("churned"))
        assert read(work, "base")[0] in (1, 2)
        assert read(work, "base", "a")[0] == 1
        assert read(work, "disk", at=4 * MIB)[0] == 9, "it was acknowledged"
        work.do(Delete("filler"))
        return {"volumes": sorted(work.volumes)}


if __name__ == "__main__":
    print(json.dumps({"verbs": verbs, "killed": killed, "churn": churn, "again": again}[sys.argv[1]]()))
