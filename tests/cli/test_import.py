"""`aoe-target import`: files of other targets in, a file of ours out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aoe.config.read import read
from aoe.config.values import ExportConfig, TargetConfig

SCRIPT = "#!/bin/sh\nvbladed 1 2 eth1 /srv/disk\n"


def imported(*words: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "aoe.cli.target", "import", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_a_script(tmp_path: Path) -> None:
    script = tmp_path / "rc.local"
    script.write_text(SCRIPT)
    done = imported(script)
    assert (done.returncode, done.stderr) == (0, "")
    config = read(done.stdout, "made")
    assert config.exports == (ExportConfig(path="/srv/disk", shelf=1, slot=2),)
    assert config.target == TargetConfig(interfaces=("eth1",))
    assert f"# {script}:2\n" in done.stdout


def test_a_directory_of_debian_into_a_new_file(tmp_path: Path) -> None:
    for slot in range(3):
        (tmp_path / f"{slot}.conf").write_text(f"shelf=1\nslot={slot}\nnetif=eth1\nfilename=/srv/{slot}\n")
    (tmp_path / "README").write_text("no fragment")
    made = tmp_path / "made.toml"
    done = imported(tmp_path, "--output", made)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{made}: 3 exports; look at it, then aoe-target check {made}\n"
    assert [it.path for it in read(made.read_text(), "made").exports] == ["/srv/0", "/srv/1", "/srv/2"]
    before = made.read_bytes()
    again = imported(tmp_path, "--output", made)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr == f"aoe-target: {made}: File exists; name a file to be made\n"
    assert made.read_bytes() == before


def test_our_own_command_in_a_unit(tmp_path: Path) -> None:
    unit = tmp_path / "disks.service"
    unit.write_text(
        "[Service]\nExecStart=/usr/bin/aoe-target serve /srv/a /srv/b=2.7,serial=B \\\n"
        "  --interface eth1 --shelf 1 --durability write-back --mask 02:00:00:00:00:09 \\\n"
        "  --max-frame-age 2 --no-spin --offset 8\nExecReload=/usr/bin/aoe-target apply\n"
    )
    done = imported(unit)
    assert (done.returncode, done.stderr) == (0, "")
    config = read(done.stdout, "made")
    assert config.target == TargetConfig(interfaces=("eth1",), max_frame_age=2.0, spin=False)
    mask = (bytes.fromhex("020000000009"),)
    assert config.exports == (
        ExportConfig(path="/srv/a", shelf=1, slot=0, offset=8, durability="write-back", mask=mask),
        ExportConfig(
            path="/srv/b", shelf=2, slot=7, serial="B", offset=8, durability="write-back", mask=mask
        ),
    )


def test_a_key_file_stays_with_what_has_a_key(tmp_path: Path) -> None:
    script = tmp_path / "disks.sh"
    script.write_text("aoe-target serve --interface eth1 /srv/a.luks /srv/b --key-file /etc/k\n")
    config = read(imported(script).stdout, "made")
    assert [(it.path, it.key_file) for it in config.exports] == [("/srv/a.luks", "/etc/k"), ("/srv/b", None)]


def test_what_is_left_out_is_said_and_the_rest_is_kept(tmp_path: Path) -> None:
    script = tmp_path / "rc"
    script.write_text(SCRIPT + "vblade $n 0 eth1 /srv/n\naoe-target serve --no-such /srv/m\n")
    done = imported(script)
    assert done.returncode == 1
    assert len(read(done.stdout, "made").exports) == 1
    first, second = done.stderr.splitlines()
    assert first == f"aoe-target: {script}:3: left out: what $n stands for is not known here"
    assert second.startswith(f"aoe-target: {script}:4: left out: ")
    as_json = imported(script, "--json")
    *errors, last = map(json.loads, (as_json.stderr + as_json.stdout).splitlines())
    assert [it["line"] for it in errors] == [3, 4]
    assert last == {"exports": 1, "toml": done.stdout}


@pytest.mark.parametrize("text", ["", "nothing here\n", "\x00\xff", "vblade 1 2 eth1\n", "[defaults]\n"])
def test_files_without_a_disk(text: str, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(text.encode("latin-1"))
    done = imported(file)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("aoe-target: there is no disk in that")
    assert len(done.stderr.splitlines()) == 1


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for wrong in (tmp_path / "gone", Path("/dev/zero")):
        done = imported(wrong)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"aoe-target: {wrong}")
        assert len(done.stderr.splitlines()) == 1
    assert imported(tmp_path).returncode == 2
