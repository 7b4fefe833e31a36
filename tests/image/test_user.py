"""Access control lists, as the kernel has them."""

from aoe.image.user import Entry, added, packed, unpacked

NOBODY = 0xFFFFFFFF
PRIVATE = [Entry(1, 6, NOBODY), Entry(4, 0, NOBODY), Entry(0x20, 0, NOBODY)]


def test_a_list_is_read_as_it_was_written() -> None:
    entries = added(PRIVATE, 1000, 6)
    assert list(unpacked(packed(entries))) == entries
    assert len(packed(entries)) == 4 + 8 * 5


def test_a_user_is_added_and_nobody_else_gets_more() -> None:
    entries = added(PRIVATE, 1000, 4)
    assert Entry(2, 4, 1000) in entries
    assert [it for it in entries if it.tag not in (2, 0x10)] == PRIVATE
    (mask,) = (it for it in entries if it.tag == 0x10)
    assert mask.allowed == 4


def test_a_wider_mask_lets_nobody_more_than_before() -> None:
    narrow = [*PRIVATE[:1], Entry(2, 7, 5), Entry(4, 6, NOBODY), Entry(0x10, 0, NOBODY), PRIVATE[2]]
    entries = added(narrow, 1000, 6)
    assert Entry(2, 0, 5) in entries
    assert Entry(4, 0, NOBODY) in entries
    assert Entry(2, 6, 1000) in entries


def test_an_entry_is_replaced() -> None:
    twice = added(added(PRIVATE, 1000, 4), 1000, 6)
    assert [it for it in twice if it.tag == 2] == [Entry(2, 6, 1000)]
    assert sorted(twice) == twice
