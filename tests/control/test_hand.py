"""What the owner changes is written down before the daemon is asked, and taken back if it refuses."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aoe.config.changes import Change
from aoe.control.client import Client
from aoe.control.hand import Hand, this_user
from aoe.control.messages import Failure, Request
from aoe.control.rights import Rights
from aoe.control.written import Written
from aoe.errors import ConfigurationError, ControlFailed
from tests.control.asking import Running, served
from tests.control.fake_node import FakeNode, refused

MAC = "02:00:00:00:00:01"


class Reader(FakeNode):
    """Also remembers what is written down when it is asked."""

    def __init__(self, written: Written) -> None:
        super().__init__()
        self.written = written
        self.seen: list[tuple[Change, ...]] = []

    async def _did(self, *what: object):  # type: ignore[no-untyped-def]
        self.seen.append(self.written.read())
        return await super()._did(*what)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "changes" / "changes.toml")


@pytest.fixture
def daemon(tmp_path: Path, written: Written) -> Iterator[Running]:
    rights = Rights(os.geteuid(), changes=str(written.path))
    with served(tmp_path / "control", Reader(written), rights) as running:
        yield running


@pytest.fixture
def hand(daemon: Running, written: Written) -> Iterator[Hand]:
    with Client(daemon.path) as client:
        yield Hand(client, written)


def ask(hand: Hand, verb: str, **arguments: object) -> Failure | dict[str, object]:
    """What became of it."""
    return hand.answer(Request(1, verb, arguments)).result


def test_a_change_is_written_down_before_it_is_asked_for(
    hand: Hand, daemon: Running, written: Written
) -> None:
    assert ask(hand, "add", address="1.0", keys={"path": "/dev/sda", "read-only": True}) == {
        "said": ["did take_up"],
        "number": 1,
        "exit": 0,
    }
    ask(hand, "mask", address="e1.0", mask=[MAC])
    assert daemon.node.asked == [("take_up", "add", "e1.0"), ("take_up", "set", "e1.0")]
    (first,), (same, second) = daemon.node.seen  # type: ignore[attr-defined]
    assert first == same
    assert (first.verb, first.address, first.keys) == ("add", "e1.0", {"path": "/dev/sda", "read-only": True})
    assert (second.verb, second.keys, second.by) == ("set", {"mask": [MAC]}, this_user())
    assert written.read() == (first, second)
    assert written.path.stat().st_mode & 0o777 == 0o644


def test_it_is_taken_back_if_the_daemon_refuses(hand: Hand, daemon: Running, written: Written) -> None:
    ask(hand, "set", address="e1.0", keys={"mask": "any"})
    before = written.read()
    daemon.node.error = refused("e1.0 is not served here")
    found = ask(hand, "remove", address="e1.0")
    assert isinstance(found, Failure)
    assert len(daemon.node.seen[-1]) == 1  # type: ignore[attr-defined]
    assert daemon.node.seen[-1][0].verb == "remove"  # type: ignore[attr-defined]
    assert written.read() == before


def test_it_stays_after_a_defect(hand: Hand, daemon: Running, written: Written) -> None:
    daemon.node.error = ZeroDivisionError()
    assert isinstance(ask(hand, "remove", address="e1.0"), Failure)
    assert written.read()[0].verb == "remove"


def test_apply_ends_them_and_a_plan_does_not(hand: Hand, daemon: Running, written: Written) -> None:
    ask(hand, "set", address="e1.0", keys={"mask": "any"})
    before = written.read()
    ask(hand, "apply", plan=True)
    assert written.read() == before
    daemon.node.error = refused("the file is wrong")
    ask(hand, "apply")
    assert written.read() == before
    daemon.node.error = None
    ask(hand, "apply")
    assert written.read() == ()
    assert not written.path.exists()


def test_verbs_that_change_no_configuration_are_not_written(hand: Hand, written: Written) -> None:
    for verb in ("status", "release", "reopen"):
        assert not isinstance(ask(hand, verb, address="e1.0"), Failure)
    assert not written.path.parent.exists()


@pytest.mark.parametrize(
    ("verb", "arguments", "told"),
    [
        ("set", {}, "'' is not an address"),
        ("set", {"address": 7}, "'7' is not an address"),
        ("set", {"address": "e1.0", "keys": []}, 'set needs "keys"'),
        ("set", {"address": "e1.0", "keys": {"mask": {"a": 1}}}, 'set needs "keys"'),
        ("set", {"address": "e1.0", "keys": {"mask": [None]}}, 'set needs "keys"'),
        ("set", {"address": "e1.0", "gone": "mask"}, 'set needs "gone"'),
        ("mask", {"address": "e1.0"}, 'mask needs "keys"'),
        ("set", {"address": "e1.0", "keys": {"path": "\ud800"}}, "is not UTF-8"),
    ],
)
def test_what_is_no_change_is_refused_and_not_asked_for(
    hand: Hand, daemon: Running, written: Written, verb: str, arguments: dict[str, object], told: str
) -> None:
    found = ask(hand, verb, **arguments)
    assert isinstance(found, Failure)
    assert told in found.message
    assert not daemon.node.asked
    assert written.read() == ()


def test_without_it_the_daemon_refuses(daemon: Running) -> None:
    with Client(daemon.path) as client:
        for verb in ("add", "remove", "set", "mask"):
            with pytest.raises(ControlFailed, match="ask through aoe-target control"):
                client.ask(verb, address="e1.0", mask="any")
            with pytest.raises(ControlFailed, match="ask as that user"):
                client.ask(verb, address="e1.0", mask="any", changes="/elsewhere")


def test_another_user_writes_nothing_down(daemon: Running, written: Written) -> None:
    daemon.call(lambda: setattr(daemon.server, "rights", Rights(os.geteuid() + 1, group=os.getegid())))
    with Client(daemon.path) as client:
        ask(Hand(client, None), "mask", address="e1.0", mask="any")
    if os.geteuid():
        assert daemon.node.asked == [("mask", "e1.0", ())]
    assert written.read() == ()


# The list


def test_a_second_command_waits_and_names_the_first(written: Written) -> None:
    other = Written(written.path)
    with written.held():
        began = time.monotonic()
        with (
            pytest.raises(ConfigurationError, match=f"process {os.getpid()} changes this target"),
            other.held(0.2),
        ):
            pass
        assert time.monotonic() - began >= 0.2
    with other.held(0.2):
        pass


def test_one_that_waits_gets_its_turn(written: Written) -> None:
    ended = threading.Event()
    with written.held():
        threading.Timer(0.2, ended.set).start()
        thread = threading.Thread(target=ended.wait)
        thread.start()
        ended.wait()
    with Written(written.path).held(5):
        thread.join()


def test_a_directory_that_others_can_change_is_refused(written: Written) -> None:
    written.path.parent.mkdir(mode=0o777)
    written.path.parent.chmod(0o777)
    with pytest.raises(ConfigurationError, match="can be changed by others than uid"), written.held():
        pass


def test_a_link_is_not_followed(written: Written, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    written.path.parent.mkdir()
    written.path.symlink_to(tmp_path / "other")
    with pytest.raises(ConfigurationError, match="Too many levels of symbolic links"):
        written.read()


def test_a_directory_that_is_a_link_is_refused(written: Written, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    written.path.parent.symlink_to(tmp_path / "theirs")
    with pytest.raises(ConfigurationError, match="can be changed by others"), written.held():
        pass


def test_a_damaged_list_changes_nothing(hand: Hand, daemon: Running, written: Written) -> None:
    written.path.parent.mkdir()
    written.path.write_text("[[change]]")
    found = ask(hand, "remove", address="e1.0")
    assert isinstance(found, Failure)
    assert "is damaged" in found.message
    assert not daemon.node.asked
    assert written.path.read_text() == "[[change]]"


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigurationError, match="no change can be written down"),
        Written(tmp_path / "file/x").held(),
    ):
        pass


def test_the_daemon_can_read_it_whatever_the_umask_is(written: Written) -> None:
    """A unit, or root's shell, may have one that hides all from other users."""
    before = os.umask(0o077)
    try:
        with written.held():
            written.write((Change(verb="mask", address="e1.0", by="root", at="2026-01-01T00:00:00+00:00"),))
    finally:
        os.umask(before)
    assert written.path.parent.stat().st_mode & 0o777 == 0o755
    assert written.path.stat().st_mode & 0o777 == 0o644


# What the owner takes over of the configured group


def lent(address: str = "e1.0", verb: str = "set", **keys: object) -> dict[str, object]:
    """As status shows it."""
    said = {"verb": verb, "address": address, "by": "uid 1001", "at": "2026-11-28T12:00:00Z", "lent": True}
    return {**said, "keys": {name.replace("_", "-"): value for name, value in keys.items()}, "gone": []}


def test_what_the_group_changed_is_taken_over_with_its_name(hand: Hand, written: Written) -> None:
    taken = [lent(limit_iops=100, mask=[MAC]), lent(limit_burst=0.5)]
    ask(hand, "set", address="e1.0", keys={"mask": "any"}, taken=taken)
    assert [(it.by, it.keys) for it in written.read()] == [
        ("uid 1001", {"limit-iops": 100}),
        ("uid 1001", {"limit-burst": 0.5}),
        (this_user(), {"mask": "any"}),
    ]
    ask(hand, "set", address="e1.0", taken=[lent(limit_iops=200)])
    assert written.read()[-1].keys == {"limit-iops": 200}


@pytest.mark.parametrize(
    "taken",
    [
        lent(path="/dev/sda"),
        lent(limit_iops=100, durability="write-back"),
        lent("e1.1", limit_iops=100),
        lent(verb="remove"),
        lent(verb="add", mask="any"),
        {"keys": {"mask": "any"}},
        7,
    ],
)
def test_a_daemon_cannot_slip_the_owner_another_change(
    hand: Hand, daemon: Running, written: Written, taken: object
) -> None:
    assert isinstance(ask(hand, "set", address="e1.0", taken=[taken]), Failure)
    assert (written.read(), daemon.node.asked) == ((), [])
