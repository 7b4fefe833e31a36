"""Whose daemon it is."""

import os
from pathlib import Path

import pytest

from aoe.cli.node_verbs import owner_of, rights_of
from aoe.config.values import TargetConfig
from aoe.errors import ConfigurationError


def test_it_is_that_of_the_owner_of_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(os, "geteuid", lambda: 990)  # a service of root's has a user of its own
    assert owner_of(tmp_path / "file") == (tmp_path / "file").stat().st_uid == os.getuid()
    assert owner_of(tmp_path / "none") == 990


def test_rights_are_those_of_the_file() -> None:
    found = rights_of(TargetConfig(control_group="root", control_readers="all"), 7, "/changes")
    assert found == (7, 0, True, "/changes")
    assert rights_of(TargetConfig(), 7) == (7, None, False, "")
    with pytest.raises(ConfigurationError, match="there is no group nosuch; make it, or drop control-group"):
        rights_of(TargetConfig(control_group="nosuch"))
