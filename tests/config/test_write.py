"""What is written is read as it was."""

import pytest
from hypothesis import given, settings

from aoe.config.read import read
from aoe.config.values import Config, ExportConfig, TargetConfig
from aoe.config.write import dump
from aoe.errors import ConfigurationError
from tests.config.configs import configs


@given(configs())
@settings(max_examples=300)
def test_what_is_dumped_is_read_as_it_was(config: Config) -> None:
    assert read(dump(config), "f.toml") == config


@given(configs())
def test_what_is_read_is_dumped_as_it_was(config: Config) -> None:
    text = dump(config)
    assert dump(read(text.encode(), "f.toml")) == text


def test_what_is_not_stated_is_not_written() -> None:
    assert dump(Config()) == ""
    export = ExportConfig(path="/a", shelf=1, slot=2)
    assert dump(Config(exports=(export,))) == '[[export]]\npath = "/a"\nshelf = 1\nslot = 2\n'
    text = dump(Config(TargetConfig(spin=False), (ExportConfig(path="/a", shelf=1, slot=2, mask=()),)))
    assert text == '[target]\nspin = false\n\n[[export]]\npath = "/a"\nshelf = 1\nslot = 2\nmask = "any"\n'


def test_a_name_with_control_characters_is_escaped() -> None:
    text = dump(Config(exports=(ExportConfig(path='/a\n"\\\x1b\u2028', shelf=0, slot=0),)))
    assert 'path = "/a\\u000a\\"\\\\\\u001b\\u2028"\n' in text


def test_a_name_that_is_not_utf_8_is_refused() -> None:
    config = Config(exports=(ExportConfig(path="/\udcff", shelf=0, slot=0),))
    with pytest.raises(ConfigurationError, match="is not UTF-8, which a configuration file has to be"):
        dump(config)
