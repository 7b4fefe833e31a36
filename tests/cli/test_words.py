"""What is no command line of `aoe` is said in one line, with status 2, before anything is opened."""

import os

import pytest

from aoe.cli import target
from aoe.cli.client import main
from aoe.cli.parser import parser

HERE = ("--link", "udp:127.0.0.1:0,peer=127.0.0.1:9")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("read e0.0 --sectors -4", "--sectors: '-4' is not a whole number from 1"),
        ("read e0.0 --sectors 0", "--sectors"),
        ("read e0.0 --lba -1", "--lba"),
        ("read e0.0 --lba 0x10", "--lba"),
        ("write e0.0 --lba 1_000", "--lba"),
        ("read e0.0 --lba 281474976710656", "--lba"),
        ("ping e0.0 -c 0", "--count"),
        ("ping e0.0 -c 1.5", "--count"),
        ("ping e0.0 -i -3", "--interval"),
        ("ping e0.0 -i nan", "--interval"),
        ("ping e0.0 -i inf", "--interval"),
        ("bench e0.0 --bs 777", "--bs: '777' is not a size in whole sectors"),
        ("bench e0.0 --bs 0", "--bs"),
        ("bench e0.0 --bs 1g", "--bs"),
        ("bench e0.0 --bs -4k", "--bs"),
        ("bench e0.0 --iodepth 0", "--iodepth"),
        ("bench e0.0 --iodepth 4097", "--iodepth"),
        ("bench e0.0 --runtime 0", "--runtime"),
        ("bench e0.0 --runtime -1", "--runtime"),
        ("bench e0.0 --runtime nan", "--runtime"),
        ("bench e0.0 --runtime ten", "--runtime"),
        ("bench e0.0 --rw trim", "--rw"),
        ("nbd e0.0 --socket s --threads 0", "--threads"),
        ("nbd e0.0 --socket s --find nan", "--find"),
        ("nbd e0.0 --socket s --timeout soon", "--timeout"),
        ("nbd e0.0 --socket s --failback -1", "--failback"),
        ("mask e0.0 --add 02:00", "02:00"),
        ("frobnicate", "frobnicate"),
        ("", "command"),
        ("ping", "eSHELF.SLOT"),
        ("ping e0.0 --frobnicate", "--frobnicate"),
        ("bench e0.0 --rw randwrite", "--overwrite"),
        ("bench e0.0 --rw write", "--overwrite"),
        ("bench e0.0 --rw randrw", "--overwrite"),
        ("reserve e0.0 --set --release", "exclude"),
        ("identify e0.0 e0.x", "'e0.x' is not an address"),
    ],
)
def test_one_line_and_status_2(words: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words.split(), *(HERE if words else ())]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert says in line
    assert line.startswith("aoe: ")
    assert not out


def test_of_the_target_too(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("--cpus 99", "--cpus x", "--cpus -1", "--slot one", "--frobnicate", f"--cpus {10**30}"):
        assert target.main(["serve", "disk", *words.split()]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("aoe-target: ")
        assert words.split()[0] in line


@pytest.mark.parametrize("command", [main, target.main])
def test_version(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    from importlib import metadata

    assert callable(command)
    with pytest.raises(SystemExit) as ended:
        command(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.split()[1] == metadata.version("aoe-target")


def test_every_command_and_option_has_a_word_of_help() -> None:
    for name, command in parser()._subparsers._group_actions[0].choices.items():  # type: ignore[union-attr]
        for action in command._actions:
            assert action.help, (name, action.option_strings)


def test_an_interface_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(os.environ, "AOE_INTERFACE", "none7, none8")
    for words in (["ping", "e0.0"], ["discover"], ["nbd", "e0.0", "--socket", "/nonexistent/s"]):
        assert main(words) == 2
        assert "none7" in capsys.readouterr().err
    assert main(["ping", "e0.0", "--interface", "none9"]) == 2
    assert "none9" in capsys.readouterr().err
