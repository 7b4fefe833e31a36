"""The id of an image: what it depends on, and where it stands."""

import random
import subprocess
from pathlib import Path

import pytest

from aoe.cloud import identity, member
from aoe.cloud.identity import Entry, id_of
from tests.support.tools import need, which

ENTRIES = [
    Entry("etc/passwd", 0o100644, 0, 0, "aa"),
    Entry("bin", 0o120777, 0, 0, "usr/bin"),
    Entry("usr/bin/ping", 0o100755, 0, 0, "bb", (("security.capability", "01"),)),
]
INPUTS = {"release": "debian12", "files": {"hook": "cc"}}
ID = id_of(INPUTS, ENTRIES)


def test_the_same_has_one_id_in_any_order() -> None:
    assert identity.is_id(ID)
    assert id_of(dict(reversed(INPUTS.items())), random.Random(1).sample(ENTRIES, 3)) == ID


@pytest.mark.parametrize(
    "change",
    [
        {"path": "etc/passwd-"},
        {"mode": 0o100640},
        {"owner": 1},
        {"group": 1},
        {"content": "ab"},
        {"extra": (("user.a", ""),)},
    ],
)
def test_every_fact_of_an_entry_counts(change: dict[str, object]) -> None:
    facts = {it: getattr(ENTRIES[0], it) for it in Entry.__slots__}
    assert id_of(INPUTS, [Entry(**{**facts, **change}), *ENTRIES[1:]]) != ID


def test_what_was_asked_for_counts_and_so_does_what_is_missing() -> None:
    assert id_of(INPUTS | {"files": {}}, ENTRIES) != ID
    assert id_of(INPUTS, ENTRIES[1:]) != ID
    assert id_of(INPUTS, [*ENTRIES, ENTRIES[0]]) != ID


def test_names_with_ends_of_lines_make_no_other_list() -> None:
    two = [Entry("a", 1, 0, 0, ""), Entry("b", 1, 0, 0, "")]
    one = [Entry('a", 1, 0, 0, "", []]\n["b', 1, 0, 0, "")]
    assert id_of({}, two) != id_of({}, one)


def test_the_command_line_and_the_uuid_name_the_id() -> None:
    assert identity.uuid_of(ID).replace("-", "") == ID
    assert identity.command_line(ID) == f"root=UUID={identity.uuid_of(ID)} aoeimage={ID}"


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "G" * 32, "A" * 32, f"{'0' * 32}\n"])
def test_another_text_is_no_id(text: str) -> None:
    assert not identity.is_id(text)


# The member


def test_the_member_and_what_is_before_it_are_one_file_to_zstd() -> None:
    need("zstd")
    before = subprocess.run(["zstd", "-c"], input=bytes(4095), capture_output=True, check=True).stdout
    whole = before + member.member(ID)
    done = subprocess.run(["zstd", "-dc"], input=whole, capture_output=True, check=True)
    assert done.stdout == bytes(4095) + member.archive(ID)
    assert member.id_at_end(whole[-member.LENGTH :]) == ID


def test_a_member_that_is_cut_or_changed_has_no_id() -> None:
    whole = b"initramfs" + member.member(ID)
    for length in range(len(whole) - member.LENGTH, len(whole)):
        assert member.id_at_end(whole[:length][-member.LENGTH :]) is None
    for at in range(len(whole) - member.LENGTH, len(whole)):
        changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        assert member.id_at_end(changed[-member.LENGTH :]) != ID


def test_cpio_reads_what_is_in_the_member(tmp_path: Path) -> None:
    need("busybox")
    command = [which("busybox") or "", "cpio", "-id"]
    subprocess.run(command, input=member.archive(ID), cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / identity.FILE).read_text() == f"{ID}\n"
