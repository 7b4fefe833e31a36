"""Config string, mask list and reservation: every verb, every refusal, every bound."""

import pytest

from aoe.target.state import AoeState
from tests.target.driver import (
    CLIENT,
    RIVAL,
    STRANGER,
    Driver,
    Reply,
    config,
    make_driver,
    mask,
    parse,
    reserve,
)

READ, TEST, PREFIX, SET, FORCE = range(5)
ADD, DELETE = 1, 2


def driver(state: AoeState = AoeState(), mtu: int = 9000, ports: int = 1, admin: bool = True) -> Driver:  # noqa: B008
    made = make_driver(mtu=mtu, ports=ports, remote_admin=admin)
    made.export.restore(state)
    return made


def stored(at: Driver) -> AoeState:
    return at.export.state


def macs(count: int) -> tuple[bytes, ...]:
    return tuple(b"\x02\xaa" + number.to_bytes(4, "big") for number in range(count))


def shows(reply: Reply, ccmd: int, text: bytes, error: int = 0) -> bool:
    verfl = 0x1C if error else 0x18
    return (reply.verfl, reply.error, reply.body[5], reply.text) == (verfl, error, 0x10 | ccmd, text)


# Config string


@pytest.mark.parametrize("text", [b"", b"rack 3", b"\x00\xff\x00", bytes(1024)])
def test_read_answers_always_and_with_junk_too(text: bytes) -> None:
    at = driver(AoeState(text))
    for request in (config(READ), config(READ, b"\xee" * 1024), config(READ, b"\xee" * 1024, 0xFFFF)):
        assert shows(at.ask(request), READ, text)
    assert stored(at) == AoeState(text)


def test_reply_describes_the_target() -> None:
    at = make_driver(mtu=1500, buffer_count=0x1234)
    reply = at.ask(config(READ, length=99))
    assert reply.body[:8] == bytes.fromhex("1234 0001 02 10 0000")


@pytest.mark.parametrize(
    ("text", "argument", "exact", "prefix"),
    [
        (b"", b"", True, True),
        (b"", b"a", False, False),
        (b"abc", b"", False, True),
        (b"abc", b"ab", False, True),
        (b"abc", b"abc", True, True),
        (b"abc", b"abcd", False, False),
        (b"abc", b"b", False, False),
        (b"abc", b"ABC", False, False),
        (b"a\0b", b"a\0", False, True),
    ],
)
def test_tests_answer_or_are_silent(text: bytes, argument: bytes, exact: bool, prefix: bool) -> None:
    at = driver(AoeState(text))
    for ccmd, matches in ((TEST, exact), (PREFIX, prefix)):
        sent = at.send(config(ccmd, argument))
        assert len(sent) == matches
        assert not sent or shows(parse(sent[0]), ccmd, text)
    assert at.counters.get("config_mismatch", 0) == 2 - exact - prefix


@pytest.mark.parametrize("text", [b"new", b"", bytes(1024)])
def test_set_where_there_is_none(text: bytes) -> None:
    at = driver()
    assert shows(at.ask(config(SET, text)), SET, text)
    assert stored(at) == AoeState(text)


def test_set_of_the_same_again_succeeds() -> None:
    at = driver(AoeState(b"same"))
    assert shows(at.ask(config(SET, b"same")), SET, b"same")


@pytest.mark.parametrize("text", [b"", b"sam", b"same ", b"other"])
def test_set_over_another_is_refused_with_the_current_string(text: bytes) -> None:
    at = driver(AoeState(b"same"))
    assert shows(at.ask(config(SET, text)), SET, b"same", error=4)
    assert stored(at) == AoeState(b"same")


@pytest.mark.parametrize("text", [b"new", b"", b"same"])
def test_forced_set_replaces_and_clears(text: bytes) -> None:
    at = driver(AoeState(b"same"))
    assert shows(at.ask(config(FORCE, text)), FORCE, text)
    assert stored(at) == AoeState(text)


@pytest.mark.parametrize("ccmd", range(5, 16))
def test_unknown_config_commands(ccmd: int) -> None:
    at = driver(AoeState(b"same"))
    assert shows(at.ask(config(ccmd, b"new")), ccmd, b"same", error=2)
    assert stored(at) == AoeState(b"same")


@pytest.mark.parametrize("nibble", range(16))
def test_the_version_nibble_of_a_query_is_ignored(nibble: int) -> None:
    assert shows(driver().ask(config(nibble << 4 | READ)), READ, b"")


@pytest.mark.parametrize("ccmd", [TEST, PREFIX, SET, FORCE])
@pytest.mark.parametrize(("there", "length"), [(9, 10), (0, 1), (1025, 1025), (1024, 0xFFFF)])
def test_lying_lengths(ccmd: int, there: int, length: int) -> None:
    at = driver(AoeState(b"same"))
    assert shows(at.ask(config(ccmd, bytes(there), length)), ccmd, b"same", error=2)
    assert stored(at) == AoeState(b"same")


@pytest.mark.parametrize(("mtu", "most"), [(534, 516), (1041, 1023), (1042, 1024), (9000, 1024)])
def test_longest_string_that_fits_the_smallest_mtu(mtu: int, most: int) -> None:
    at = driver(ports=2)
    at.responder.ports[1].change(at.responder.ports[1].mac, mtu)
    assert shows(at.ask(config(SET, b"x" * most)), SET, b"x" * most)
    if most < 1024:
        assert shows(at.ask(config(FORCE, b"x" * (most + 1))), FORCE, b"x" * most, error=2)


def test_a_string_too_long_for_an_interface_is_cut_there() -> None:
    at = driver(AoeState(bytes(range(256)) * 4), mtu=534)
    assert at.ask(config(READ)).text == (bytes(range(256)) * 4)[:516]


# Mask list


def test_mask_read() -> None:
    at = driver(AoeState(mask=(CLIENT, RIVAL)))
    reply = at.ask(mask(0))
    assert reply.body[:4] == bytes((0, 0, 0, 2))
    assert reply.listed == [CLIENT, RIVAL]
    assert [reply.body[4 + 8 * i : 6 + 8 * i] for i in range(2)] == [b"\0\0"] * 2


def test_mask_edits_in_their_order() -> None:
    at = driver()
    assert at.ask(mask(1, (ADD, CLIENT), (ADD, RIVAL), (ADD, STRANGER))).listed == [CLIENT, RIVAL, STRANGER]
    reply = at.ask(mask(1, (DELETE, RIVAL), (ADD, RIVAL), (0, STRANGER), (DELETE, STRANGER)))
    assert reply.body[:4] == bytes((0, 1, 0, 2))
    assert reply.listed == [CLIENT, RIVAL]
    assert stored(at) == AoeState(mask=(CLIENT, RIVAL))


def test_every_entry_can_be_deleted() -> None:
    """Deleting the first entry, and any beyond it, is what vblade fails at."""
    for gone in range(5):
        at = driver(AoeState(mask=(CLIENT, *macs(5))))
        left = [CLIENT, *(mac for number, mac in enumerate(macs(5)) if number != gone)]
        assert at.ask(mask(1, (DELETE, macs(5)[gone]))).listed == left


@pytest.mark.parametrize("directive", [(ADD, CLIENT), (DELETE, RIVAL), (0, RIVAL)])
def test_edits_that_change_nothing_succeed(directive: tuple[int, bytes]) -> None:
    at = driver(AoeState(mask=(CLIENT,)))
    reply = at.ask(mask(1, directive))
    assert (reply.verfl, reply.body[2], reply.listed) == (0x18, 0, [CLIENT])


@pytest.mark.parametrize("dcmd", [3, 4, 0x80, 0xFF])
def test_a_bad_directive_stops_but_what_went_before_stays(dcmd: int) -> None:
    at = driver()
    reply = at.ask(mask(1, (ADD, CLIENT), (dcmd, RIVAL), (ADD, STRANGER)))
    assert (reply.verfl, reply.error) == (0x18, 0)
    assert reply.body == bytes((0, 1, 2, 1)).ljust(36, b"\0")
    assert stored(at) == AoeState(mask=(CLIENT,))


def test_a_bad_first_directive_changes_nothing() -> None:
    at = driver()
    reply = at.ask(mask(1, (9, CLIENT), (ADD, CLIENT)))
    assert reply.body[:4] == bytes((0, 1, 2, 0))
    assert stored(at) == AoeState()


def test_list_full() -> None:
    full = (CLIENT, *macs(254))
    at = driver(AoeState(mask=full[:-1]))
    reply = at.ask(mask(1, (ADD, full[-1]), (ADD, full[0]), (ADD, STRANGER)))
    assert reply.body[:4] == bytes((0, 1, 3, 2))
    assert stored(at) == AoeState(mask=full)
    assert at.ask(mask(0)).listed == list(full)


@pytest.mark.parametrize(("mtu", "most"), [(534, 65), (1500, 185), (9000, 255)])
def test_list_full_on_a_small_mtu(mtu: int, most: int) -> None:
    at = driver(AoeState(mask=(CLIENT, *macs(most - 2))), mtu=mtu)
    assert len(at.ask(mask(1, (ADD, RIVAL))).listed) == most
    assert at.ask(mask(1, (ADD, STRANGER))).body[:4] == bytes((0, 1, 3, 0))
    assert len(at.ask(mask(0)).listed) == most


@pytest.mark.parametrize("mcmd", [2, 3, 0x80, 0xFF])
def test_unknown_mask_commands(mcmd: int) -> None:
    at = driver(AoeState(mask=(CLIENT,)))
    reply = at.ask(mask(mcmd, (ADD, RIVAL)))
    assert (reply.verfl, reply.error, reply.body[1]) == (0x1C, 2, mcmd)
    assert stored(at) == AoeState(mask=(CLIENT,))


@pytest.mark.parametrize("count", [2, 255])
def test_lying_directive_counts(count: int) -> None:
    at = driver()
    reply = at.ask(mask(1, (ADD, CLIENT), count=count))
    assert (reply.verfl, reply.error) == (0x1C, 2)
    assert stored(at) == AoeState()


@pytest.mark.parametrize("merror", [1, 2, 3, 0xFF])
def test_the_error_byte_of_an_edit_is_ignored(merror: int) -> None:
    """MError is a reply's field; an edit acknowledged must have been done."""
    at = driver()
    reply = at.ask(mask(1, (ADD, CLIENT), merror=merror))
    assert (reply.body[2], reply.listed) == (0, [CLIENT])
    assert stored(at) == AoeState(mask=(CLIENT,))


def test_one_may_lock_oneself_out_but_is_told() -> None:
    at = driver()
    assert at.ask(mask(1, (ADD, RIVAL))).listed == [RIVAL]
    assert not at.send(mask(0))
    assert not at.send(config(READ))
    assert at.ask(mask(0, src=RIVAL)).listed == [RIVAL]


GROUPS = [b"\xff" * 6, bytes.fromhex("01005e000001"), bytes.fromhex("333300000001")]


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_address_is_no_host_that_could_be_served(group: bytes) -> None:
    """A list of nothing else would keep everybody out, and a restart would not accept it."""
    at = driver()
    reply = at.ask(mask(1, (ADD, CLIENT), (ADD, group), (ADD, RIVAL)))
    assert reply.body[:4] == bytes((0, 1, 1, 1))
    assert stored(at) == AoeState(mask=(CLIENT,))


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("rcmd", [1, 2])
def test_a_group_address_holds_no_reservation(rcmd: int, group: bytes) -> None:
    at = driver(AoeState(reserve=(CLIENT,)))
    reply = at.ask(reserve(rcmd, CLIENT, group))
    assert (reply.verfl, reply.error, reply.listed) == (0x1C, 2, [CLIENT])
    assert stored(at) == AoeState(reserve=(CLIENT,))


# Reservation


def test_reserve_read() -> None:
    reply = driver(AoeState(reserve=(RIVAL, CLIENT))).ask(reserve(0))
    assert (reply.body[:2], reply.listed) == (b"\0\2", [RIVAL, CLIENT])


@pytest.mark.parametrize("rcmd", [1, 2])
def test_anyone_may_take_what_nobody_holds(rcmd: int) -> None:
    at = driver()
    reply = at.ask(reserve(rcmd, RIVAL, STRANGER))
    assert (reply.verfl, reply.body[0], reply.listed) == (0x18, rcmd, [RIVAL, STRANGER])
    assert stored(at) == AoeState(reserve=(RIVAL, STRANGER))


def test_a_holder_may_pass_it_on_and_release_it() -> None:
    at = driver(AoeState(reserve=(CLIENT, RIVAL)))
    assert at.ask(reserve(1, RIVAL)).listed == [RIVAL]
    assert at.ask(reserve(1, src=RIVAL)).listed == []
    assert stored(at) == AoeState()


@pytest.mark.parametrize("wanted", [(), (CLIENT,), (RIVAL,)])
def test_another_is_refused_with_the_current_list(wanted: tuple[bytes, ...]) -> None:
    at = driver(AoeState(reserve=(RIVAL,)))
    reply = at.ask(reserve(1, *wanted))
    assert (reply.verfl, reply.error, reply.body[0], reply.listed) == (0x1C, 6, 1, [RIVAL])
    assert stored(at) == AoeState(reserve=(RIVAL,))


@pytest.mark.parametrize("wanted", [(), (CLIENT,), (STRANGER, CLIENT)])
def test_force_always_works(wanted: tuple[bytes, ...]) -> None:
    at = driver(AoeState(reserve=(RIVAL,)))
    reply = at.ask(reserve(2, *wanted))
    assert (reply.verfl, reply.body[0], reply.listed) == (0x18, 2, list(wanted))
    assert stored(at) == AoeState(reserve=wanted)


def test_macs_named_twice_are_kept_once() -> None:
    at = driver()
    assert at.ask(reserve(1, CLIENT, RIVAL, CLIENT)).listed == [CLIENT, RIVAL]


@pytest.mark.parametrize("rcmd", [3, 4, 0x80, 0xFF])
def test_unknown_reserve_commands(rcmd: int) -> None:
    reply = driver(AoeState(reserve=(CLIENT,))).ask(reserve(rcmd))
    assert (reply.verfl, reply.error, reply.body[0], reply.listed) == (0x1C, 2, rcmd, [CLIENT])


@pytest.mark.parametrize("rcmd", [0, 1, 2])
def test_lying_mac_counts(rcmd: int) -> None:
    at = driver()
    reply = at.ask(reserve(rcmd, CLIENT, count=2))
    assert (reply.verfl, reply.error) == (0x1C, 2)
    assert stored(at) == AoeState()


@pytest.mark.parametrize(("mtu", "most"), [(534, 87), (1500, 248), (9000, 255)])
def test_longest_reservation(mtu: int, most: int) -> None:
    at = driver(mtu=mtu)
    assert len(at.ask(reserve(2, *macs(most))).listed) == most
    if most < 255:
        reply = at.ask(reserve(2, *macs(most + 1)))
        assert (reply.error, len(reply.listed)) == (2, most)


def test_a_reservation_leaves_the_other_commands_alone() -> None:
    at = driver(AoeState(b"same", reserve=(RIVAL,)))
    assert shows(at.ask(config(READ)), READ, b"same")
    assert shows(at.ask(config(FORCE, b"new")), FORCE, b"new")
    assert at.ask(mask(1, (ADD, CLIENT))).listed == [CLIENT]


# Bounds and permission


@pytest.mark.parametrize("small", [68, 500, 533])
def test_an_interface_too_small_to_serve_over_bounds_nothing(small: int) -> None:
    at = driver(ports=2)
    at.responder.ports[1].change(at.responder.ports[1].mac, small)
    assert shows(at.ask(config(SET, bytes(1024))), SET, bytes(1024))
    assert len(at.ask(reserve(1, CLIENT, *macs(254))).listed) == 255


@pytest.mark.parametrize("directive", [(ADD, RIVAL), (DELETE, CLIENT)])
def test_no_remote_masks_leaves_the_other_two_to_the_network(directive: tuple[int, bytes]) -> None:
    at = make_driver(remote_masks=False)
    at.export.restore(AoeState(mask=(CLIENT,)))
    assert at.ask(mask(1, directive)).body[2] == 1
    assert at.ask(mask(0)).listed == [CLIENT]
    assert shows(at.ask(config(SET, b"new")), SET, b"new")
    assert at.ask(reserve(1, CLIENT)).listed == [CLIENT]
    assert stored(at) == AoeState(b"new", (CLIENT,), (CLIENT,))


def test_no_remote_admin_is_no_remote_masks_too() -> None:
    at = make_driver(remote_admin=False, remote_masks=True)
    assert at.ask(mask(1, (ADD, RIVAL))).body[2] == 1
    assert stored(at) == AoeState()


@pytest.mark.parametrize("ccmd", [SET, FORCE])
def test_no_remote_admin_of_the_config_string(ccmd: int) -> None:
    at = driver(AoeState(b""), admin=False)
    assert shows(at.ask(config(ccmd, b"new")), ccmd, b"", error=2)
    assert stored(at) == AoeState()


def test_no_remote_admin_of_the_mask_list() -> None:
    at = driver(admin=False)
    reply = at.ask(mask(1, (ADD, CLIENT)))
    assert (reply.verfl, reply.body[:4]) == (0x18, bytes((0, 1, 1, 0)))
    assert stored(at) == AoeState()


@pytest.mark.parametrize("rcmd", [1, 2])
def test_no_remote_admin_of_the_reservation(rcmd: int) -> None:
    at = driver(AoeState(reserve=(CLIENT,)), admin=False)
    reply = at.ask(reserve(rcmd))
    assert (reply.error, reply.listed) == (2, [CLIENT])
    assert stored(at) == AoeState(reserve=(CLIENT,))


def test_without_remote_admin_all_can_still_be_read() -> None:
    at = driver(AoeState(b"text", (CLIENT,), (RIVAL,)), admin=False)
    for ccmd, text in ((READ, b"junk"), (TEST, b"text"), (PREFIX, b"te")):
        assert shows(at.ask(config(ccmd, text)), ccmd, b"text")
    assert at.ask(mask(0)).listed == [CLIENT]
    assert at.ask(reserve(0)).listed == [RIVAL]
    assert not at.send(config(TEST, b"other"))
    assert not at.changes
