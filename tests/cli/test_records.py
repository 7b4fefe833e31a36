"""State across restarts in which the kernel names devices otherwise, as the command shows it."""

import json
import os
from pathlib import Path

import pytest

from aoe.cli.target import main
from aoe.target.naming import name_of
from aoe.wire.mask import Directive, DirectiveCommand
from tests.disk.helpers import sparse
from tests.support.labs.fault_disk import loop_device
from tests.support.labs.served import FRIEND, serving


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
    assert name_of(Path(typed)) == str(tmp_path / "disk")


def test_no_link_is_resolved(tmp_path: Path) -> None:
    (tmp_path / "far" / "sub").mkdir(parents=True)
    for name in ("far/disk", "disk"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("disk")
    (tmp_path / "sub").symlink_to("far/sub")
    assert name_of(tmp_path / "link") == str(tmp_path / "link")
    through = Path(os.path.join(tmp_path, "sub/../disk"))  # noqa: PTH118
    assert name_of(through) == str(tmp_path / "sub" / ".." / "disk")
    assert name_of(tmp_path / "missing" / ".." / "disk") == str(tmp_path / "missing" / ".." / "disk")


@pytest.mark.parametrize("form", ["/dev/fd/{}", "/proc/self/fd/{}", "link"])
def test_a_descriptor_has_the_name_that_it_was_opened_by(form: str, tmp_path: Path) -> None:
    """The next time that number is another file's, which must not get the mask list of this one."""
    paths = [sparse(tmp_path / name, 8) for name in ("a", "b")]
    with paths[0].open() as first, paths[1].open() as second:
        for path, file in zip(paths, (first, second), strict=True):
            handed_on = Path(form.format(file.fileno()))
            if form == "link":
                handed_on = tmp_path / f"to-{path.name}"
                handed_on.symlink_to(f"/proc/self/fd/{file.fileno()}")
            assert name_of(handed_on) == str(path)
            path.unlink()
            assert name_of(handed_on) == ""


def test_standard_input_keeps_the_state_of_its_file(tmp_path: Path) -> None:
    state = ["--state-dir", tmp_path / "s"]
    one, two = (sparse(tmp_path / name, 8) for name in ("a", "b"))
    with one.open() as file, serving("/dev/stdin", *state, stdin=file) as target, target.client() as client:
        client.mask(Directive(DirectiveCommand.ADD, FRIEND))
        serial = target.facts["serial"]
    with two.open() as file, serving("/dev/stdin", *state, stdin=file) as target:
        assert (target.facts["serial"] != serial, target.facts["path"]) == (True, str(two))
    with serving(one, *state) as target:
        assert target.facts["serial"] == serial


def test_a_relative_path_from_a_directory_that_is_gone(tmp_path: Path, monkeypatch, capsys) -> None:
    sparse(tmp_path / "disk", 8)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    state = ["--state-dir", str(tmp_path / "s"), "--link", "udp:127.0.0.1:0"]
    assert main(["serve", "../disk", *state]) == 2
    assert capsys.readouterr().err == "aoe-target: ../disk: this directory is gone; name the disk from / on\n"


def test_what_is_said_of_a_record_is_one_line(tmp_path: Path) -> None:
    disk = sparse(tmp_path / "d\nisk", 8)
    (tmp_path / "s").mkdir()
    known = {"path": str(disk), "serial": "OLD", "addresses": [], "config": "", "mask": [], "reserve": []}
    (tmp_path / "s" / "OLD.json").write_text(json.dumps(known))
    with serving(disk, "--state-dir", tmp_path / "s") as target:
        _, _, err = target.stop()
        assert len(err.splitlines()) == 1, err
