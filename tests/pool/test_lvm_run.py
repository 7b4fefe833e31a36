"""How commands of LVM are run, and what they say is understood."""

from pathlib import Path

import pytest

from aoe.errors import ConfigurationError, PoolError
from aoe.pool import lvm_run, lvm_seen


def test_what_lvm_complains_of_is_one_line() -> None:
    said = (
        "  WARNING: Sum of all thin volume sizes exceeds\n  Rounding up size to full physical extent\n"
        '  Volume group "vg" not found\n  Cannot process volume group vg\n'
    )
    assert lvm_run.in_a_line(said) == 'Volume group "vg" not found'
    assert lvm_run.in_a_line("  WARNING: this\n") == "WARNING: this"
    assert lvm_run.in_a_line("a\x1b[31m\nb") == "a\\u001b[31m; b"
    assert lvm_run.in_a_line("") == ""


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"report": []}', '{"report": [{"lv": [1]}]}', "\0"])
def test_a_report_that_is_none_is_said(text: str) -> None:
    with pytest.raises(PoolError, match="lvm's report is not understood"):
        lvm_seen.reported(text)
    with pytest.raises(PoolError, match="lvm's report is not understood"):
        lvm_seen.pool_of({"segtype": "thin-pool", "lv_size": text})


def test_a_program_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lvm_run._ENVIRONMENT, "PATH", str(tmp_path))
    for words, package in ((("lvs",), "lvm2"), (("thin_ls",), "thin-provisioning-tools")):
        with pytest.raises(ConfigurationError, match=rf"apt-get install {package}$"):
            lvm_run.run(words)


def program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_command_is_run_as_it_must_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is known, and what it says is told, with why it failed."""
    monkeypatch.setitem(lvm_run._ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(lvm_run, "_UDEV", tmp_path / "none")
    program(tmp_path, "lvm", 'printf "%s|" "$@" "$LC_ALL" "$HOME"; echo "  gone" >&2; test "$1" != lvremove')
    said = lvm_run.run(("lvs", "--units", "b")).split("|")
    assert (said[0], said[1], said[3:]) == ("lvs", "--config", ["--units", "b", "C", "", ""])
    assert "udev_sync=0" in said[2]
    with pytest.raises(PoolError, match=r"^lvremove: gone$"):
        lvm_run.run(("lvremove",))
    (tmp_path / "none").touch()
    assert lvm_run.run(("lvs",)).split("|")[:2] == ["lvs", "C"]


def test_a_command_that_does_not_end_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lvm_run._ENVIRONMENT, "PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("aoe.timing.POOL_COMMAND_S", 0.2)
    program(tmp_path, "lvm", "exec sleep 300")
    with pytest.raises(PoolError, match=r"^lvs took more than \d+ s$"):
        lvm_run.run(("lvs",))
