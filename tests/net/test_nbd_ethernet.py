"""`aoe nbd` over Ethernet: what an NBD client sees, while all is well and while servers come and go."""

import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from aoe import limits
from tests.support.labs.failover import Pair, pair
from tests.support.labs.nbd_client import (
    FLAG_FLUSH,
    FLAG_FUA,
    FLAG_MULTI,
    FLAG_READ_ONLY,
    FLAG_TRIM,
    FLUSH,
    FUA,
    READ,
    TRIM,
    WRITE,
    ZEROES,
    NbdClient,
    NbdError,
)
from tests.support.labs.nbdkit import Door, owner_address
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need, need_namespaces, which
from tests.support.waiting import PROMPT_S, wait_for

ENGINES = ("c",)
SECTORS = 16384
SIZE = SECTORS * 512
EPERM, EIO, ESHUTDOWN = 1, 5, 108
OVER = ("--interface", "v0")
CALLS_MIN = 5


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@pytest.fixture
def jumbo() -> Iterator[Lab]:
    need_namespaces()
    with Lab(mtu=9000) as made:
        yield made


@pytest.fixture
def target(jumbo: Lab, disk: Path, tmp_path: Path) -> Iterator[AoeTarget]:
    with AoeTarget(jumbo, tmp_path, f"{disk}=1.1") as made:
        yield made


def run(*command: str | Path) -> str:
    tool = which(str(command[0])) or str(command[0])
    words = [tool, *map(str, command[1:])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# Life


def test_it_says_when_it_serves_and_ends_on_sigterm(target: AoeTarget, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door:
        assert door.output == f"nbd: {door.path} serves e1.1, {SIZE} bytes\n"
        with door.connect() as client:
            assert client.size == SIZE
            assert client.flags & FLAG_FLUSH
            assert client.flags & FLAG_FUA
            assert client.flags & FLAG_MULTI
            assert not client.flags & FLAG_READ_ONLY
        assert door.stop() == 0
        assert not door.path.exists()
        assert door.errors == ""


def test_json_and_sigint(target: AoeTarget, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER, "--json") as door:
        assert door.said == {"socket": str(door.path), "address": "e1.1", "bytes": SIZE}
        door.process.send_signal(signal.SIGINT)
        assert door.process.wait(30) == 130


def test_nobody_answers(target: AoeTarget, tmp_path: Path) -> None:
    door = Door(target.lab, tmp_path, "e1.7", *OVER, "--find", "0.5").launch()
    assert door.process.wait(30) == 1
    asked = "is it served there, and is this host allowed to use it?"
    assert door.errors == f"aoe: e1.7 does not answer on v0; {asked}\n"
    assert not door.path.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("e1.1", "--interface", "none9"), "none9"),
        (("e1.999", *OVER), "is not an address"),
        (("e1.1", *OVER, *OVER), "is given twice"),
    ],
)
def test_mistakes_are_told(target: AoeTarget, tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    door = Door(target.lab, tmp_path, *words).launch()
    assert door.process.wait(30) == 2
    assert said in door.errors
    assert len(door.errors.splitlines()) == 1


def test_a_socket_that_was_left_behind_is_replaced_and_one_in_use_is_not(
    target: AoeTarget, tmp_path: Path
) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door:
        (tmp_path / "other").mkdir()
        second = Door(target.lab, tmp_path / "other", "e1.1", *OVER)
        second.argv[-1] = str(door.path)
        assert second.launch().process.wait(30) == 2
        assert "is in use" in second.errors
        child = door.child
        door.process.kill()
        wait_for(lambda: not Path(f"/proc/{child}").exists())
    assert door.path.exists()
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door, door.connect() as client:
        assert client.size == SIZE


def test_nbdkit_ends_with_its_parent(target: AoeTarget, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door, door.connect():
        child = Path(f"/proc/{door.child}")
        door.process.kill()
        door.process.wait()
        wait_for(lambda: not child.exists())


def test_connections_leave_no_thread_and_no_descriptor(target: AoeTarget, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door:
        process = Path(f"/proc/{door.child}")

        def used() -> tuple[int, int]:
            return len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))

        before = used()
        for _ in range(20):
            with door.connect() as client:
                client.read(0, 4096)
        wait_for(lambda: used() == before, what=lambda: f"{used()} instead of {before}")


@pytest.mark.parametrize(("words", "more"), [((), limits.NBD_THREADS), (("--threads", "3"), 3)])
def test_each_client_has_its_threads(
    target: AoeTarget, tmp_path: Path, words: tuple[str, ...], more: int
) -> None:
    """As many as requests of it are under way at once."""
    with Door(target.lab, tmp_path, "e1.1", *OVER, *words) as door:
        tasks = Path(f"/proc/{door.child}/task")
        before = len(list(tasks.iterdir()))
        with door.connect():
            # The connection has one of its own, too.
            wait_for(lambda: len(list(tasks.iterdir())) == before + 1 + more)


def test_it_ends_although_a_client_stays_connected(target: AoeTarget, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door, door.connect() as client:
        client.write(0, b"x")
        assert door.stop() == 0, "it waits for the client"
        assert door.errors == ""


# Data


def test_read_only(target: AoeTarget, disk: Path, tmp_path: Path) -> None:
    before = disk.read_bytes()
    with Door(target.lab, tmp_path, "e1.1", *OVER, "--read-only") as door, door.connect() as client:
        assert client.flags & FLAG_READ_ONLY
        assert client.read(5, 9) == before[5:14]
        with pytest.raises(NbdError, match=str(EPERM)):
            client.write(0, b"x")
    assert disk.read_bytes() == before


def test_nbdcopy_both_ways(target: AoeTarget, disk: Path, tmp_path: Path) -> None:
    need("nbdcopy")
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(random.Random(2).randbytes(SIZE))
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door:
        run("nbdcopy", "--flush", source, door.uri)
        assert disk.read_bytes() == source.read_bytes()
        run("nbdcopy", door.uri, back)
        assert back.read_bytes() == source.read_bytes()
    assert "engine_writes=0" not in target.counters()


def exercise(client: NbdClient, model: bytearray, start: int, end: int, seed: int) -> None:
    """Reads and writes of any bytes between `start` and `end`."""
    rng = random.Random(seed)
    for _ in range(150):
        length = rng.choice((1, 3, 511, 512, 513, 4096, 8192, 70000))
        at = rng.randrange(start, end - length)
        if rng.random() < 0.5:
            data = rng.randbytes(length)
            client.write(at, data, rng.choice((0, FUA)))
            model[at : at + length] = data
        else:
            assert client.read(at, length) == model[at : at + length], (at, length)


@pytest.mark.parametrize("mtu", [1500, 9000])
def test_any_bytes_over_two_connections(mtu: int, disk: Path, tmp_path: Path) -> None:
    need_namespaces()
    model = bytearray(disk.read_bytes())
    with (
        Lab(mtu=mtu) as lab,
        AoeTarget(lab, tmp_path, f"{disk}=1.1"),
        Door(lab, tmp_path, "e1.1", *OVER) as door,
        door.connect() as one,
        door.connect() as other,
    ):
        half = SIZE // 2 + 100
        in_thread = threading.Thread(target=exercise, args=(one, model, 0, half, 1))
        in_thread.start()
        exercise(other, model, half, SIZE, 2)
        in_thread.join()
        assert one.read(0, SIZE // 2) == model[: SIZE // 2]
        assert other.read(SIZE // 2, SIZE // 2) == model[SIZE // 2 :]
    assert disk.read_bytes() == model


def test_one_request_of_the_largest_size_and_many_at_once(jumbo: Lab, tmp_path: Path) -> None:
    """More frames than the core has room for: what does not fit waits."""
    large = 32 << 20
    path = image(tmp_path / "large", 8 * large // 512)
    with (
        AoeTarget(jumbo, tmp_path, f"{path}=1.1"),
        Door(jumbo, tmp_path, "e1.1", *OVER) as door,
        door.connect() as client,
    ):
        client.write(0, b"z" * large)
        handles = {client.send(READ, at * large, large): at for at in range(8)}
        for _ in range(8):
            handle, error, data = client.answer()
            assert not error
            assert data == (b"z" if handles[handle] == 0 else b"\0") * large


def test_flush_fua_trim_and_zeroes(target: AoeTarget, disk: Path, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door, door.connect() as client:
        assert client.flags & FLAG_TRIM
        client.write(4096, b"f" * 4096, FUA)
        client.ask(FLUSH)
        client.ask(TRIM, 65536, 65536)
        client.ask(ZEROES, 131072, 65536, flags=FUA)
        client.ask(ZEROES, 300001, 7)
        now = disk.read_bytes()
        assert now[4096:8192] == b"f" * 4096
        assert now[65536 : 3 * 65536] == bytes(2 * 65536)
        assert now[300001:300008] == bytes(7)
        said = target.counters()
        assert "engine_flushes=0" not in said
        assert "trims=" in said


def test_it_grows_for_those_who_connect_later(target: AoeTarget, disk: Path, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door:
        target.stop()
        with disk.open("ab") as file:
            file.truncate(2 * SIZE)
        target.start()

        def seen() -> bool:
            with door.connect() as client:
                return client.size == 2 * SIZE

        wait_for(seen)


# Trouble


@contextmanager
def writers(door: Door, count: int, seconds: float) -> Iterator[list[str]]:
    """Threads that each write one block again and again, and read it back; what they found wrong."""
    faults: list[str] = []
    deadline = time.monotonic() + seconds
    calls = [0] * count

    def work(number: int) -> None:
        try:
            with door.connect() as client:
                while time.monotonic() < deadline or calls[number] <= CALLS_MIN:
                    calls[number] += 1
                    data = calls[number].to_bytes(8, "little") * 512
                    client.write(number * 4096, data)
                    if client.read(number * 4096, 4096) != data:
                        faults.append(f"writer {number} reads what it did not write")
        except Exception as error:
            faults.append(f"writer {number}: {error!r}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield faults
    finally:
        for thread in threads:
            thread.join()
    assert min(calls) > CALLS_MIN, calls


def pair_door(there: Pair, directory: Path, *more: str) -> Door:
    return Door(there.lab, directory, "e1.0", "e2.0", "--interface", "v0", "--interface", "v1", *more)


def as_used(there: Pair, door: Door) -> Pair:
    """With the server that carries what is written as its owner."""
    return there if owner_address(door.path) == "e1.0" else Pair(there.lab, there.other, there.owner)


@pytest.mark.parametrize("trouble", ["kill", "unplug", "pause"])
def test_one_of_two_primaries_is_lost(trouble: str, tmp_path: Path) -> None:
    with pair(tmp_path) as there, pair_door(there, tmp_path) as door:
        with writers(door, 4, 4.0) as faults:
            time.sleep(1)
            used = as_used(there, door)
            if trouble == "kill":
                used.owner.kill()
            elif trouble == "pause":
                used.owner.pause()
            else:
                there.lab.down(used.client_end)
        assert not faults
        if trouble == "pause":
            used.owner.resume()
        assert door.stop() == 0


def test_the_only_target_restarts(target: AoeTarget, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER) as door:
        with writers(door, 4, 4.0) as faults:
            time.sleep(0.5)
            target.kill()
            time.sleep(0.5)
            target.start()
        assert not faults


def test_a_request_is_given_up_after_the_timeout(target: AoeTarget, tmp_path: Path) -> None:
    with Door(target.lab, tmp_path, "e1.1", *OVER, "--timeout", "1") as door, door.connect() as client:
        target.kill()
        started = time.monotonic()
        for at in range(4):
            client.send(WRITE, at * 4096, 4096, b"x" * 4096)
        answers = [client.answer() for _ in range(4)]
        assert [error for _, error, _ in answers] == [EIO] * 4
        assert 0.9 < time.monotonic() - started < PROMPT_S
        door.says("does not answer any more")
        target.start()

        def done() -> bool:
            with suppress(NbdError):  # it had no processor in that second
                client.write(1 << 20, b"y" * 4096)
                return client.read(1 << 20, 4096) == b"y" * 4096
            return False

        wait_for(done)


def test_it_ends_while_requests_wait_for_ever(target: AoeTarget, tmp_path: Path) -> None:
    with ExitStack() as stack:
        door = stack.enter_context(Door(target.lab, tmp_path, "e1.1", *OVER))
        client = stack.enter_context(door.connect())
        target.kill()
        for at in range(8):
            client.send(WRITE, at * 4096, 4096, b"x" * 4096)
        wait_for(client.heard)
        started = time.monotonic()
        door.process.terminate()
        assert [client.answer()[1] for _ in range(8)] == [ESHUTDOWN] * 8
        assert door.process.wait(30) == 0
        assert time.monotonic() - started < PROMPT_S


def test_fio_under_the_loss_of_a_primary(tmp_path: Path) -> None:
    need("fio")
    with pair(tmp_path) as there, pair_door(there, tmp_path) as door:
        command = [
            *("fio", "--name=load", "--ioengine=nbd", f"--uri={door.uri}", "--rw=randrw", "--bs=4k"),
            *("--iodepth=16", "--runtime=4", "--time_based", "--size=4m", "--output-format=json"),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as load:
            time.sleep(2)
            as_used(there, door).owner.kill()
            out, _ = load.communicate(timeout=120)
        assert load.returncode == 0, out
        (job,) = json.loads(out[out.index("{") :])["jobs"]
        assert job["error"] == 0
        assert job["read"]["total_ios"] > 16
