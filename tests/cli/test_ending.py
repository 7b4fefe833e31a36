"""`aoe` ended by Ctrl-C: at once, with one line and status 130, and with what it has."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.client import command, over
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.labs.served import SECTORS, Served
from tests.support.waiting import PROMPT_S

NOWHERE = ("--link", "udp:127.0.0.1:0,peer=127.0.0.1:9")
STARTED = "begun\n"
PROGRAM = (
    "import asyncio, sys\n"
    "from aoe import timing\n"
    "timing.FIND_S = timing.FIND_HEARD_S = timing.DISCOVER_S = timing.PING_S = 600.0\n"
    "from aoe.cli import client, running\n"
    "until_ended = running._until_ended\n"
    "async def told(command):\n"
    "    asyncio.get_running_loop().call_later(0.3, lambda: print('begun', file=sys.stderr, flush=True))\n"
    "    await until_ended(command)\n"
    "running._until_ended = told\n"
    "sys.exit(client.main())\n"
)


@contextmanager
def started(
    *words: str, stdin: int = subprocess.DEVNULL, ignored: bool = False
) -> Iterator["subprocess.Popen[str]"]:
    """It has been at it for a moment."""
    before = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh") if ignored else ()
    with subprocess.Popen(
        [*before, command()[0], "-c", PROGRAM, *words],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == STARTED
            yield process
        finally:
            process.kill()


def interrupt(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What it says then, on both."""
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)
    assert time.monotonic() - began < PROMPT_S
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdout.read(), process.stderr.read()


@pytest.mark.parametrize(
    "words",
    [
        ("discover",),
        ("stat",),
        ("identify", "e1.2"),
        ("ping", "e1.2"),
        ("read", "e1.2"),
        ("config", "e1.2"),
        ("copy", "e1.2", "/nonexistent-is-refused-later"),
        ("bench", "e1.2"),
    ],
    ids=lambda words: words[0],
)
def test_while_nobody_answers(words: tuple[str, ...]) -> None:
    words = ("copy", "e1.2", "-") if words[0] == "copy" else words
    with started(*words, *NOWHERE) as process:
        out, err = interrupt(process)
    assert process.returncode == 130
    assert (out, err) == ("", "aoe: interrupted\n")


def test_write_with_standard_input_open(served: Served, image: Path) -> None:
    reading, writing = os.pipe()
    before = image.read_bytes()
    try:
        with started("write", "e1.2", *over(served), stdin=reading) as process:
            _, err = interrupt(process)
    finally:
        os.close(reading)
        os.close(writing)
    assert (process.returncode, err) == (130, "aoe: interrupted; 0 bytes from --lba 0 on were written\n")
    assert image.read_bytes() == before


def test_read_whose_reader_does_not_read(tmp_path: Path, served: Served) -> None:
    with started("read", "e1.2", *over(served)) as process:  # 1 MiB does not fit a pipe
        out, err = interrupt(process)
    assert (process.returncode, err) == (130, "aoe: interrupted\n")
    assert len(out) < SECTORS * 512


def test_ping_says_what_it_has(served: Served) -> None:
    with started("ping", "e1.2", "-c", "1000", "-i", "0.01", *over(served)) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        out, err = interrupt(process)
    assert (process.returncode, err) == (130, "aoe: interrupted\n")
    *_, summary = out.splitlines()
    assert summary.startswith("e1.2: ")
    assert " 0 % loss, min/avg/max " in summary


def test_bench_says_what_it_has(served: Served) -> None:
    with started("bench", "e1.2", "--runtime", "60", *over(served)) as process:
        out, err = interrupt(process)
    assert (process.returncode, err) == (130, "aoe: interrupted\n")
    assert "IOPS" in out
    assert " 0 errors" in out


def test_bench_while_the_target_is_away(served: Served) -> None:
    with started("bench", "e1.2", "--runtime", "60", *over(served)) as process:
        os.kill(served.process.pid, signal.SIGSTOP)
        time.sleep(0.3)
        out, err = interrupt(process)
    assert (process.returncode, err) == (130, "aoe: interrupted\n")
    assert " 0 errors" in out


def test_nbd_before_it_serves(tmp_path: Path) -> None:
    need_nbdkit()
    with started("nbd", "e1.2", "--socket", str(tmp_path / "s"), *NOWHERE) as process:
        out, err = interrupt(process)
    assert (process.returncode, out, err) == (130, "", "aoe: interrupted\n")
    assert not list(tmp_path.iterdir())


def test_as_json(served: Served) -> None:
    with started("ping", "e1.2", "-c", "1000", "--json", *over(served)) as process:
        out, err = interrupt(process)
    assert (process.returncode, err) == (130, "")
    assert out.splitlines()[-1] == '{"error": {"kind": "interrupted", "message": "interrupted"}}'


def test_where_it_is_ignored_it_stays_ignored(served: Served) -> None:
    """As `aoe ... &` of a script has it."""
    with started("ping", "e1.2", "-c", "3", "-i", "0.2", *over(served), ignored=True) as process:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
