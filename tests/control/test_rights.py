"""Which process may do what."""

import pytest

from aoe.control.rights import READING, SHARED, Peer, Rights
from aoe.control.verbs import STEPS

ROOT, DAEMON, MEMBER, STRANGER = 0, 990, 1001, 1002
GROUP = 500
OURS = Rights(owner=ROOT, group=GROUP)


def peer(uid: int, *gids: int) -> Peer:
    """A process of a user with these groups."""
    return Peer(1, uid, frozenset(gids))


@pytest.mark.parametrize("verb", STEPS)
def test_root_may_do_all(verb: str) -> None:
    assert not OURS.refusal(verb, peer(ROOT, 0))
    assert not Rights(owner=1000).refusal(verb, peer(ROOT, 0))
    assert not Rights(owner=1000).refusal(verb, peer(1000, 1000))


@pytest.mark.parametrize("verb", STEPS)
def test_the_group_may_what_names_no_store(verb: str) -> None:
    may = not OURS.refusal(verb, peer(MEMBER, 1001, GROUP))
    assert may == (verb in {"status", "volumes", "mask", "release", "drain", "resume"})


@pytest.mark.parametrize(
    ("keys", "may"),
    [
        ({"limit-iops"}, True),
        ({"limit-client-bandwidth", "limit-burst", "mask"}, True),
        ({"limit-iops", "path"}, False),
        ({"durability"}, False),
        (set(), False),
    ],
)
def test_the_group_may_set_what_names_no_store(keys: set[str], may: bool) -> None:
    assert not OURS.refusal("set", peer(ROOT, 0), keys)
    assert (not OURS.refusal("set", peer(MEMBER, GROUP), keys)) is may
    assert OURS.refusal("set", peer(STRANGER), keys)
    assert OURS.refusal("add", peer(MEMBER, GROUP), keys)


@pytest.mark.parametrize("verb", STEPS)
def test_others_may_look_if_allowed_and_nothing_else(verb: str) -> None:
    assert OURS.refusal(verb, peer(STRANGER, 1002))
    may = not OURS._replace(all_read=True).refusal(verb, peer(STRANGER, 1002))
    assert may == (verb in {"status", "volumes"})


def test_without_a_group_none_has_it() -> None:
    assert Rights(owner=ROOT).refusal("mask", peer(MEMBER, 0))


def test_the_user_of_a_daemon_that_root_started_has_no_rights() -> None:
    assert OURS.refusal("add", peer(DAEMON, DAEMON))


def test_a_refusal_names_the_verb_the_user_and_the_remedy() -> None:
    assert OURS.refusal("add", peer(MEMBER, GROUP)) == (
        "add is for the administrator alone, not for uid 1001; use sudo"
    )
    assert OURS.refusal("set", peer(MEMBER, GROUP), {"\x1bpath", "limit-iops"}) == (
        "set of more than limit-bandwidth, limit-burst, limit-client-bandwidth, limit-client-iops, "
        "limit-iops, mask is for the administrator alone, not for uid 1001; use sudo"
    )
    assert "join the control-group" in OURS.refusal("mask", peer(STRANGER))


def test_the_verbs_of_the_group_exist() -> None:
    assert set(STEPS) >= READING | SHARED


def test_the_admins_of_a_pool_may_do_all_with_its_volumes_and_no_more() -> None:
    rights = OURS._replace(admins={"fast": 600})
    assert not rights.refusal("volume", peer(MEMBER, 600), (), "fast")
    assert rights.refusal("volume", peer(MEMBER, 600), (), "slow") == (
        "volumes of pool slow are not for uid 1001; use sudo, or join its admins"
    )
    assert rights.refusal("volume", peer(MEMBER, GROUP), (), "fast")
    assert rights.refusal("apply", peer(MEMBER, 600), (), "fast")
    assert not rights.refusal("volumes", peer(MEMBER, 600), (), "slow")
    assert rights.refusal("volumes", peer(MEMBER, 601), (), "fast")
