"""Whose daemon it is."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from aoe.cli.rights import owner_of, rights_of
from aoe.config.values import Config, PoolConfig, TargetConfig
from aoe.errors import ConfigurationError


def test_it_is_that_of_the_owner_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(os, "geteuid", lambda: 990)  # a service of root's has a user of its own
    assert owner_of(tmp_path / "file") == (tmp_path / "file").stat().st_uid == os.getuid()
    assert owner_of(tmp_path / "none") == 990


def test_rights_are_those_of_the_file() -> None:
    target = TargetConfig(control_group="root", control_readers="all")
    pools = (PoolConfig(name="fast", path="/a", admins="root"), PoolConfig(name="slow", path="/b"))
    found = rights_of(Config(target, pools=pools), 7, "/changes")
    assert found == (7, 0, True, "/changes", {"fast": 0})
    assert rights_of(Config(), 7) == (7, None, False, "", {})
    nosuch = Config(TargetConfig(control_group="nosuch")), Config(pools=(replace(pools[1], admins="nosuch"),))
    for config in nosuch:
        with pytest.raises(ConfigurationError, match="no group nosuch; make it, or name another one in the"):
            rights_of(config)
