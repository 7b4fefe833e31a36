"""The keys are the options of `serve`, and the fields of the values."""

import argparse
from dataclasses import MISSING, fields
from typing import get_args, get_type_hints

import pytest

from aoe.cli import target_parser
from aoe.cli.serve import Words
from aoe.config import values
from aoe.config.keys import EXPORT, NEEDED, POOL, TABLES, TARGET, Key, in_words_of_a_file
from aoe.config.kinds import Choice, Flag
from aoe.config.read import read
from aoe.config.values import ExportConfig, PoolConfig, TargetConfig
from aoe.target.rates import NONE
from man import generate

KEYS = (*TARGET, *EXPORT)
A = '[[export]]\npath = "/a"\nshelf = 0\nslot = 0\n'


def serve() -> argparse.ArgumentParser:
    return generate.commands(target_parser.parser())["serve"]


def long(action: argparse.Action) -> str:
    return next((it for it in action.option_strings if it.startswith("--")), "PATH")


def test_every_option_of_serve_has_a_key_and_every_such_key_an_option() -> None:
    options = {long(it) for it in serve()._actions if it.dest not in ("help", "means")}
    written = [option for key in KEYS for option in key.options]
    assert sorted(written) == sorted(options)


def test_what_is_written_for_an_option_is_right() -> None:
    for table, head in (("target", "[target]\n"), ("export", A)):
        for key in TABLES[table].values():
            for written in key.options.values():
                assert written.startswith(f"{key.name} = ")
                text = head.replace(f"{written.split('=')[0]}= 0\n", "").replace(
                    'path = "/a"\n', "" if key.name == "path" else 'path = "/a"\n'
                )
                beside = 'format = "luks"\n' if key.name == "key-file" else ""
                read(f"{text}{beside}{written}\n", "f.toml")


def test_choices_are_those_of_serve() -> None:
    choices = {long(it): it.choices for it in serve()._actions if it.choices}
    for option, words in choices.items():
        (key,) = [it for it in KEYS if option in it.options]
        assert isinstance(key.kind, Choice)
        assert list(key.kind.choices) == list(words or ())


def test_defaults_are_those_of_serve() -> None:
    """What is not typed and what is not written mean the same."""
    typed = target_parser.command_of(["serve", "/a"])
    assert isinstance(typed, Words)
    meant = typed.meaning()
    target, export = TargetConfig(), ExportConfig(path="/a", shelf=0, slot=0)
    assert meant.engine == target.engine
    assert (meant.threads.threads, meant.threads.cpus) == (target.threads, target.cpus)
    assert bool(meant.threads.spin_us) == target.spin
    assert meant.options.frame_age_s == target.max_frame_age
    assert meant.options.buffer_count == target.buffer_count
    assert (meant.options.remote_admin, meant.options.remote_masks) == (
        target.remote_admin,
        target.remote_masks,
    )
    assert (meant.state_dir, meant.force, meant.reset_state) == (
        target.state_dir,
        export.force,
        export.reset_state,
    )
    assert meant.limits == NONE == export.limits
    assert (meant.durability, meant.mask) == (export.durability, export.mask)
    assert meant.copy_of == export.copy_of
    how = meant.opening
    assert (how.direct, how.shared, how.read_only) == (export.direct, export.shared, export.read_only)
    assert (how.offset, how.length) == (export.offset, export.length)


@pytest.mark.parametrize(("keys", "of"), [(TARGET, TargetConfig), (EXPORT, ExportConfig), (POOL, PoolConfig)])
def test_keys_are_fields(keys: tuple[Key, ...], of: type[TargetConfig | ExportConfig | PoolConfig]) -> None:
    assert [key.field for key in keys] == [it.name for it in fields(of)]
    hints = get_type_hints(of, vars(values))
    for key in keys:
        if isinstance(key.kind, Choice):
            assert get_args(hints[key.field]) == key.kind.choices
        if isinstance(key.kind, Flag):
            assert bool in (hints[key.field], *get_args(hints[key.field]))


def test_what_has_no_default_is_needed() -> None:
    without = [it.name for it in fields(ExportConfig) if it.default is MISSING]
    assert without == [key.name for key in NEEDED["export"]]
    without = [it.name for it in fields(PoolConfig) if it.default is MISSING]
    assert without == [key.name for key in NEEDED["pool"]]
    assert not any(it.default is MISSING for it in fields(TargetConfig))


def test_every_key_is_told_of() -> None:
    for key in (*KEYS, *POOL):
        assert key.help
        assert not key.help.endswith(".")
        assert key.kind.words


@pytest.mark.parametrize(
    ("message", "meant"),
    [
        ("stop it, or say --shared", "stop it, or say shared = true"),
        (
            "say --buffered (not possible with --shared)",
            "say direct = false (not possible with shared = true)",
        ),
        ("no whole sector from --offset 5 on", "no whole sector from offset 5 on"),
        ("there, not --length 7", "there, not length 7"),
        ("needs --offset and --length in steps", "needs offset and length in steps"),
        (
            "no Ethernet interface is up; say --interface NAME",
            'no Ethernet interface is up; say interfaces = ["NAME"]',
        ),
        ("losetup --detach /dev/loop0", "losetup --detach /dev/loop0"),
    ],
)
def test_messages_of_serve_are_said_in_words_of_a_file(message: str, meant: str) -> None:
    assert in_words_of_a_file(message) == meant
