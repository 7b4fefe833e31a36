"""An option of `aoe.Options` is one everywhere: Python, command line, nbdkit's words, the plugin."""

import asyncio
import inspect
import re
import subprocess
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import aoe
from aoe import limits
from aoe.cli.parser import command_of
from aoe.initiator.options import OPTIONS, Choice, CommandWords, Flag, Option, Options, Seconds
from aoe.nbd import DEFAULTS
from aoe.nbd.nbdkit import PLUGIN, Plan, command_line
from csrc import generate_options
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.tools import need

CSRC = Path(__file__).parents[2] / "csrc" / "nbd"
OTHERS = {"addresses", "interface", "link", "engine"}
"""What `attach` takes besides: where the disk is, and which code is used."""
each_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda it: it.word)


def unusual(option: Option) -> Any:
    """A value that is not the default."""
    match option.kind:
        case Seconds():
            return 7.5
        case Flag():
            return not option.default
        case Choice(words=words):
            return words[-1]
    return ["stonith", "--off"]


UNUSUAL = Options(**{option.name: unusual(option) for option in OPTIONS})


def typed(option: Option) -> str:
    """As it is typed on the command line of `aoe nbd`."""
    if isinstance(option.kind, Flag):
        return f"--{option.word}"
    value = unusual(option)
    return f"--{option.word}={' '.join(value) if isinstance(option.kind, CommandWords) else value}"


# Python


@pytest.mark.parametrize("function", [aoe.attach, aoe.open])
def test_python_takes_them_with_their_types_and_defaults(function: Any) -> None:
    parameters = inspect.signature(function).parameters
    assert set(parameters) == {option.name for option in OPTIONS} | OTHERS
    hints = get_type_hints(Options)
    for option in OPTIONS:
        assert parameters[option.name].default == option.default, option.name
        assert parameters[option.name].annotation == hints[option.name], option.name


def test_attach_hands_each_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Seen(Exception):
        pass

    def check(self: Options) -> None:
        raise Seen(self)

    monkeypatch.setattr(Options, "check", check)
    with pytest.raises(Seen) as seen:
        asyncio.run(aoe.attach("e0.0", **UNUSUAL._asdict()).__aenter__())
    assert seen.value.args == (UNUSUAL,)


@each_option
def test_its_kind_is_that_of_its_type(option: Option) -> None:
    hint = get_type_hints(Options)[option.name]
    match option.kind:
        case Seconds(none=none):
            assert (type(None) in get_args(hint)) == bool(none)
            assert option.name.endswith("_s")
        case Flag():
            assert hint is bool
        case Choice(words=words):
            assert get_args(hint) == words
    Options(**{option.name: unusual(option)}).check()


@each_option
def test_it_is_told_of(option: Option) -> None:
    assert f"`{option.name}`: {option.kind.help}" in (inspect.getdoc(aoe.Options) or "")


# The command line


def test_the_command_line_takes_them() -> None:
    command: Any = command_of(["nbd", "e0.0", "--socket", "s", *map(typed, OPTIONS)])
    assert command.options == UNUSUAL
    command = command_of(["nbd", "e0.0", "--socket", "s"])
    assert command.options._replace(fence=()) == DEFAULTS
    assert list(command.options.fence) == list(DEFAULTS.fence)


# The plugin


def test_the_header_is_fresh() -> None:
    written = generate_options.HEADER.read_text()
    assert written == generate_options.header(), "run python -m csrc.generate"


@each_option
def test_the_plugin_uses_what_it_was_told(option: Option) -> None:
    field = f"{option.word}_ns" if isinstance(option.kind, Seconds) else option.word
    assert re.search(rf"\bhow(->|\.){field}\b", (CSRC / "plugin.c").read_text())


def test_the_plugin_is_told_each(tmp_path: Path) -> None:
    need_nbdkit()
    words = command_line(Plan(tmp_path / "s", ["e1.1"], options=UNUSUAL))
    for option in OPTIONS:
        said = [word for word in words if word.startswith(f"{option.word}=")]
        assert said == [f"{option.word}={text}" for text in option.kind.texts(unusual(option))]
        assert said


def nbdkit(*words: str) -> str:
    """What nbdkit says of words for the plugin; none of them makes it serve."""
    need("nbdkit")
    done = subprocess.run(
        ["nbdkit", "-f", PLUGIN, *words], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
    return done.stderr


def test_the_plugin_understands_each() -> None:
    need_nbdkit()
    words = [f"{it.word}={text}" for it in OPTIONS for text in it.kind.texts(unusual(it))]
    assert "address=eSHELF.SLOT and interface=NAME are needed" in nbdkit(*words)


@each_option
def test_the_plugin_says_what_it_cannot_mean(option: Option) -> None:
    need_nbdkit()
    if isinstance(option.kind, Seconds):
        for text in ("soon", "-1", "nan", "", f"{limits.SECONDS_MAX * 2}"):
            assert f"{option.word}={text} is not a number of seconds" in nbdkit(f"{option.word}={text}")
        assert ("is not a number" in nbdkit(f"{option.word}=none")) == (not option.kind.none)
    elif isinstance(option.kind, Choice):
        said = nbdkit(f"{option.word}=maybe")
        assert f"{option.word}=maybe is not one of: {' '.join(option.kind.words)}" in said
    elif isinstance(option.kind, Flag):
        assert "maybe" in nbdkit(f"{option.word}=maybe")
    else:
        many = [f"{option.word}=word"] * (limits.FENCE_WORDS_MAX + 1)
        assert f"more than {limits.FENCE_WORDS_MAX} words" in nbdkit(*many)


@each_option
def test_the_plugin_tells_of_it(option: Option) -> None:
    need_nbdkit()
    said = subprocess.run(["nbdkit", PLUGIN, "--help"], capture_output=True, text=True, check=True).stdout
    assert f"\n{option.word}=" in said
    assert " ".join(option.meaning().split()) in " ".join(said.split())


def test_a_word_that_it_does_not_know_is_an_error() -> None:
    need_nbdkit()
    assert "unknown parameter 'sprad'" in nbdkit("sprad=true")
