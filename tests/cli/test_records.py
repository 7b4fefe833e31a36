"""State across restarts in which the kernel names devices otherwise, as the command shows it."""

import json
import os
from pathlib import Path

import pytest

from aoe.cli.records import absolute
from aoe.cli.target import main
from aoe.wire.mask import Directive, DirectiveCommand
from tests.cli.test_serve import FRIEND, serving
from tests.disk.helpers import sparse
from tests.disk.test_blockdev import loop_device


def test_links_to_devices_that_swapped_numbers_keep_serial_and_mask(tmp_path: Path) -> None:
    state = ["--state-dir", tmp_path / "state"]
    with loop_device(sparse(tmp_path / "x", 2048)) as one, loop_device(sparse(tmp_path / "y", 2048)) as two:
        (tmp_path / "a").symlink_to(one)
        (tmp_path / "b").symlink_to(two)
        with serving(tmp_path / "a", *state) as target, target.client() as client:
            client.mask(Directive(DirectiveCommand.ADD, FRIEND))
            serial = target.facts["serial"]
            assert target.facts["path"] == str(tmp_path / "a")
        for name, device in (("a", two), ("b", one)):
            (tmp_path / name).unlink()
            (tmp_path / name).symlink_to(device)
        with serving(tmp_path / "b", *state) as target, target.client() as client:
            assert target.facts["serial"] != serial
            assert client.mask().directives == ()
        with serving(tmp_path / "a", *state) as target, target.client() as client:
            assert target.facts["serial"] == serial
            assert [it.mac for it in client.mask().directives] == [FRIEND]


def test_a_masked_device_by_its_kernel_name_is_refused(tmp_path: Path, capsys) -> None:
    state = ["--state-dir", str(tmp_path / "state"), "--link", "udp:127.0.0.1:0"]
    with loop_device(sparse(tmp_path / "x", 2048)) as device:
        (tmp_path / "a").symlink_to(device)
        with serving(tmp_path / "a", *state[:2], "--mask", FRIEND.hex(":")) as target:
            serial = target.facts["serial"]
        assert main(["serve", str(device), *state]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert str(device) in line
        assert f",serial={serial}" in line


def test_a_record_of_the_last_version_is_taken_over_with_a_line(tmp_path: Path) -> None:
    disk = sparse(tmp_path / "disk", 2048)
    (tmp_path / "link").symlink_to(disk)
    (tmp_path / "s").mkdir()
    known = {"path": str(disk), "serial": "OLD", "addresses": [], "config": "", "mask": [], "reserve": []}
    (tmp_path / "s" / "OLD.json").write_text(json.dumps(known))
    for lines in (1, 0):
        with serving(tmp_path / "link", "--state-dir", tmp_path / "s") as target:
            assert target.facts["serial"] == "OLD"
            _, _, err = target.stop()
            assert len(err.splitlines()) == lines
            assert not lines or (str(disk) in err and "OLD" in err)
    record = json.loads((tmp_path / "s" / "OLD.json").read_text())
    assert (record["version"], record["path"]) == (2, str(tmp_path / "link"))


def test_two_disks_cannot_have_one_serial(tmp_path: Path, capsys) -> None:
    paths = [f"{sparse(tmp_path / name, 64)},serial=SAME" for name in ("a", "b")]
    state = ["--state-dir", str(tmp_path / "s"), "--link", "udp:127.0.0.1:0"]
    assert main(["serve", *paths, *state]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(f"'{path}'" in line for path in paths)
    assert ",serial=" in line


@pytest.mark.parametrize("typed", ["disk", "./disk", "sub/../disk", "sub//../disk"])
def test_a_path_is_the_same_from_wherever_it_is_typed(typed: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "disk").touch()
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute(Path(typed)) == tmp_path / "disk"


def test_no_link_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "far" / "sub").mkdir(parents=True)
    for name in ("far/disk", "disk"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("disk")
    (tmp_path / "sub").symlink_to("far/sub")
    assert absolute(tmp_path / "link") == tmp_path / "link"
    through = Path(os.path.join(tmp_path, "sub/../disk"))  # noqa: PTH118
    assert absolute(through) == tmp_path / "sub" / ".." / "disk"
    assert absolute(tmp_path / "missing" / ".." / "disk") == tmp_path / "missing" / ".." / "disk"
