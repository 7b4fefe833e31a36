"""Which commands are in a script or a unit, and how far each goes."""

import pytest

from aoe.foreign.found import Line
from aoe.foreign.shell import commands, variables

PROGRAMS = frozenset({"vblade", "vbladed"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("vblade 1 2 eth0 /dev/md0", "1 2 eth0 /dev/md0"),
        ("/usr/sbin/vbladed 1 2 eth0 /dev/md0 &", "1 2 eth0 /dev/md0"),
        ("ionice -c2 -n7 /usr/sbin/vblade 1 2 eth0 '/srv/a disk'", "1 2 eth0 /srv/a disk"),
        ("nohup vblade 1 2 eth0 /dev/md0 >/dev/null 2>&1 &", "1 2 eth0 /dev/md0"),
        ("vblade 1 2 eth0 /dev/md0 > log 2>> other", "1 2 eth0 /dev/md0"),
        ("vblade 1 2 eth0 /dev/md0; echo done", "1 2 eth0 /dev/md0"),
        ("vblade 1 2 eth0 /dev/md0 || exit 1", "1 2 eth0 /dev/md0"),
        ("vblade 1 2 eth0 /dev/md0 # the mirror", "1 2 eth0 /dev/md0"),
        ("ExecStart=-/usr/sbin/vblade 1 2 eth0 /dev/md0", "1 2 eth0 /dev/md0"),
        ("ExecStart = @/usr/sbin/vblade 1 2 eth0 /dev/md0", "1 2 eth0 /dev/md0"),
        ("vblade 1 2 \\\n  eth0 \\\n  /dev/md0", "1 2 eth0 /dev/md0"),
    ],
)
def test_a_command_ends_where_the_shell_ends_it(line: str, words: str) -> None:
    (found,) = commands(f"#!/bin/sh\n\n{line}\nexit 0\n", "/etc/rc.local", PROGRAMS)
    assert found.origin == Line("/etc/rc.local", 3)
    assert " ".join(found.words) == words
    assert not found.unknown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# vblade 1 2 eth0 /dev/md0",
        "echo 'vblade 1 2'",
        "man vblade.8",
        "vblade 'no end",
        "svblade 1 2 e /d",
    ],
)
def test_what_is_no_command_is_none(text: str) -> None:
    assert list(commands(text, "f", PROGRAMS)) == []


@pytest.mark.parametrize(
    ("line", "unknown"),
    [
        ("vblade $shelf 2 eth0 /dev/md0", "$shelf"),
        ("vblade 1 2 eth0 /dev/%i", "/dev/%i"),
        ("vblade 1 2 eth0 /dev/vg/*", "/dev/vg/*"),
        ("vblade 1 2 eth0 `readlink x`", "`readlink"),
    ],
)
def test_what_only_a_shell_knows_is_said(line: str, unknown: str) -> None:
    (found,) = commands(line, "f", PROGRAMS)
    assert found.unknown == unknown


def test_variables() -> None:
    text = (
        "# a fragment\nshelf=10\nexport slot='3'\n netif=em3 # which\n"
        'options="-m 11:22:33:44:55:66 -o 8"\nslot=4\n'
    )
    found = variables(text, "f")
    assert {name: value for name, (_, value) in found.items()} == {
        "shelf": "10",
        "slot": "4",
        "netif": "em3",
        "options": "-m 11:22:33:44:55:66 -o 8",
    }
    assert found["slot"][0] == Line("f", 6)
