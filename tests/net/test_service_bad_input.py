"""What can be wrong with what a service is given: its file, names, its disks, another daemon. Each is one
clear line, and what it serves is not touched: under load no request is lost, and nothing has changed."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from aoe import limits
from tests.net.service import Service, export
from tests.net.untouched import SECTORS, Site, serving
from tests.support.labs.peers import image
from tests.support.tools import need_namespaces
from tests.support.waiting import wait_for

ENGINES = ("c",)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, load: Path) -> Iterator[Site]:
    need_namespaces()
    with serving(tmp_path_factory.mktemp("service"), load) as made:
        yield made


# Its file


class Wrong(NamedTuple):
    """What stands where its file should be, and what is said of it behind its name."""

    make: Callable[[Path, str], object]
    said: str


def cut(at: str) -> Callable[[Path, str], object]:
    """Only what is before that."""
    return lambda file, text: file.write_text(text[: text.rindex(at)])


def instead(data: bytes) -> Callable[[Path, str], object]:
    return lambda file, _: file.write_bytes(data)


def gone(file: Path, _: str) -> None:
    file.unlink()


def directory(file: Path, _: str) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path, _: str) -> None:
    file.unlink()
    os.mkfifo(file)


def a_socket(file: Path, _: str) -> None:
    file.unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(file))


def link_to(place: str) -> Callable[[Path, str], object]:
    def make(file: Path, _: str) -> None:
        file.unlink()
        file.symlink_to(place)

    return make


TOO_LARGE = f":1: larger than {limits.CONFIG_BYTES_MAX} bytes; this is no configuration file"
MISSING = " does not exist; write it: man aoe-target.toml has an example"
FILES = {
    "gone": Wrong(gone, MISSING),
    "a directory": Wrong(directory, " is not a file; name a configuration file"),
    "a pipe": Wrong(pipe, " is not a file; name a configuration file"),
    "a socket": Wrong(a_socket, ": No such device or address; name a readable file"),
    "a device": Wrong(link_to("/dev/zero"), " is not a file; name a configuration file"),
    "a link to itself": Wrong(
        link_to("target.toml"), ": Too many levels of symbolic links; name a readable file"
    ),
    "a link to nowhere": Wrong(link_to("nowhere"), MISSING),
    "10 MiB of nothing": Wrong(lambda file, _: os.truncate(file, 10 << 20), TOO_LARGE),
    "10 MiB of text": Wrong(instead(b"# comment\n" * (1 << 20)), TOO_LARGE),
    "not UTF-8": Wrong(
        lambda file, text: file.write_bytes(text.encode() + b"# caf\xe9\n"),
        ":15: byte 0xe9 is not UTF-8; save the file as UTF-8",
    ),
    "UTF-16": Wrong(
        lambda file, text: file.write_bytes(text.encode("utf-16")),
        ":1: byte 0xff is not UTF-8; save the file as UTF-8",
    ),
    "a byte order mark": Wrong(
        lambda file, text: file.write_bytes(b"\xef\xbb\xbf" + text.encode()),
        ":1: begins with a byte order mark; save the file as UTF-8 without one",
    ),
    "cut in a value": Wrong(
        cut('two"'), ":12: not TOML: Unterminated string at the end of the file; end the text with a quote"
    ),
    "cut in a key": Wrong(
        cut("lf = 1"),
        ":13: not TOML: Expected '=' after a key in a key/value pair at the end of the file; "
        "write KEY = VALUE",
    ),
    "cut in the name of a table": Wrong(
        cut("]]"),
        ":11: not TOML: Expected ']]' at the end of an array declaration at the end of the file; "
        "end the name of the table with ]",
    ),
    "zeroes behind the text": Wrong(
        lambda file, text: file.write_text(text + "\0" * 512),
        ":15: not TOML: Invalid statement at column 1; write KEY = VALUE, or [TABLE], or # before a comment",
    ),
    "lists without end": Wrong(
        instead(b"a = " + b"[" * 5000), ":1: lists within lists without end; write plain lists"
    ),
    "a key of many parts": Wrong(
        instead(b"a" + b".a" * 5000 + b" = 1"), ":1: a key of many parts; write [TABLE] and KEY = VALUE"
    ),
    "a number without end": Wrong(
        instead(b"a = " + b"9" * 5000),
        ":1: a number of more digits than can be read; write a smaller one",
    ),
    "control characters": Wrong(
        lambda file, text: file.write_text(text + '"\\u001b[2J\\n" = "\\u0007"\n'),
        r':15: e1.2: "\u001b[2J\u000a" is no key of [[export]]; its keys are ',
    ),
}


def new_errors(service: Service, act: Callable[[], object]) -> list[str]:
    """The lines of its log that an action leads to: one at least."""
    before = len(service.errors)
    act()
    wait_for(lambda: service.errors[before:].endswith("\n"), what="nothing is said")
    return service.errors[before:].splitlines()


def test_a_file_that_only_root_may_read_is_read(site: Site) -> None:
    """By the opener: the daemon itself has no right to it."""
    try:
        with site.untouched():
            site.file.chmod(0)
            assert site.service.apply() == "nothing to do\n"
    finally:
        site.restore()


@pytest.mark.parametrize("name", FILES)
def test_a_wrong_file_is_a_line_and_changes_nothing(site: Site, name: str) -> None:
    wrong = FILES[name]
    try:
        with site.untouched():
            wrong.make(site.file, site.text)
            expected = f"aoe-target: {site.file}{wrong.said}"
            for words in ((), ("--plan",)):
                said = site.service.apply(*words, exit_status=2).splitlines()
                print(said)
                assert len(said) == 1
                assert said[0].isprintable()
                assert said[0].startswith(expected) if expected.endswith(" ") else said == [expected]
            assert new_errors(site.service, site.service.reload) == said
    finally:
        site.restore()
    with site.untouched():
        assert site.service.apply() == "nothing to do\n"


def test_half_of_a_file_that_is_a_file_takes_no_disk_from_a_client(site: Site) -> None:
    """What was written so far is TOML, with an export that is not whole, or with none."""
    head, second = site.text.index("[[export]]"), site.text.rindex("[[export]]")
    try:
        for text in (site.text[:head], site.text[: second - 1], ""):
            site.file.write_text(text)
            with site.untouched():
                site.service.apply("--plan", exit_status=1 if "one" not in text else 0)
        site.file.write_text(site.text[:head])
        with site.load_of_one():
            said = site.service.apply(exit_status=1).splitlines()
        assert said == [
            f"e1.2: remove {site.work}/two",
            "stays: e1.1: a client used it in the last minute; apply --remove does it now",
        ]
    finally:
        site.restore()
    assert site.service.apply() == f"e1.2: serve {site.work}/two\n"


# Other daemons


def test_a_second_daemon_on_its_file_state_or_socket_is_refused(site: Site) -> None:
    file, other = site.work / "other.toml", site.work / "state2"
    pid = site.service.pid
    name = Path(f"/proc/{pid}/comm").read_text().strip()
    used = f"is used by {name} (process {pid}) already; stop it, or give this one its own file"
    listens = f"process {pid} is a daemon at {site.service.socket} already; stop it, or name another"
    elsewhere = site.text.replace(f"{site.work}/state", str(other))
    for text, config, at, told in (
        (site.text, site.file, site.work / "socket", f"aoe-target: {site.file} {used} and state-dir"),
        (site.text, file, site.work / "socket", f"aoe-target: {site.work}/state {used} and state-dir"),
        (elsewhere, file, site.service.socket, f"aoe-target: {listens} --socket"),
    ):
        file.write_text(text)
        words = ("run", "--config", config, "--socket", at)
        with site.untouched():
            done = site.lab.run("target", sys.executable, "-m", "aoe.cli.target", *words, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{told}\n")


# Names


NASTY = "nasty\x1b[2J\nline"


def test_control_characters_of_a_path_are_shown_and_not_obeyed(site: Site) -> None:
    disk = image(site.work / NASTY)
    missing = f"{site.work}/gone\x07\x9b"
    try:
        site.file.write_text(site.text + export(disk, "3.1"))
        before = len(site.service.output)
        said = [*site.service.apply("--plan").splitlines(), *site.service.apply().splitlines()]
        site.file.write_text(site.text + f"[[export]]\npath = {json.dumps(missing)}\nshelf = 3\nslot = 2\n")
        said += site.service.apply(exit_status=1).splitlines()
        said += command(site, "status").splitlines() + command(site, "status", "--json").splitlines()
        said += site.service.output[before:].splitlines() + site.service.errors.splitlines()
        assert all(line.isprintable() for line in said), said
        assert any("\\x1b[2J" in line or "\\u001b[2J" in line for line in said)
    finally:
        site.restore()
        site.service.apply("--remove")


def command(site: Site, *words: str) -> str:
    """What a command says."""
    verb, *others = words
    argv = [sys.executable, "-m", "aoe.cli.target", verb, "--socket", site.service.socket, *others]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


def test_control_characters_of_groups_and_interfaces_are_shown_and_not_obeyed(site: Site) -> None:
    for text in (
        f"{site.text}mask = [{json.dumps(NASTY)}]\n",
        f"{site.text}interfaces = [{json.dumps(NASTY)}]\n",
        f'{site.text}[groups]\n{json.dumps(NASTY)} = ["{NASTY.encode().hex()}"]\n',
        f"{site.text}[{json.dumps(NASTY)}]\na = 1\n",
    ):
        site.file.write_text(text)
        try:
            with site.untouched():
                said = site.service.apply(exit_status=2).splitlines()
                print(said)
                assert len(said) == 1
                assert said[0].isprintable()
                assert "\\u001b[2J\\u000aline" in said[0]
        finally:
            site.restore()


def test_an_interface_that_is_renamed_is_served_on(site: Site) -> None:
    """Also by an apply: the name of the file meant it, and means nothing else by now."""

    def rename(name: str, to: str) -> None:
        done = site.lab.run("target", "ip", "link", "set", name, "name", to)
        assert done.returncode == 0, done.stderr
        wait_for(lambda: [it["name"] for it in site.status()["interfaces"]] == [to], what=f"it is not {to}")

    with site.untouched():
        rename("v0", "enp9s9")
        assert site.service.apply() == "nothing to do\n"
        site.service.reload()
        rename("enp9s9", "v0")
        assert site.service.apply() == "nothing to do\n"


# Its disks


def test_a_disk_that_another_file_replaced_is_served_on(site: Site) -> None:
    """Whoever deployed an image anew is told; the client goes on with the one that it has."""
    disk, before = site.work / "one", site.work / "before"
    disk.rename(before)
    image(disk, SECTORS)
    try:
        with site.untouched():
            (said,) = site.service.apply().splitlines()
            kept = "what was opened is served on, until the export is removed"
            assert said == f"note: e1.1: {disk} is another file by now; {kept}"
    finally:
        before.rename(disk)
    with site.untouched():
        assert site.service.apply() == "nothing to do\n"
