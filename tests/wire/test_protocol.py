"""What fits into a frame, from the table of deployed MTUs."""

import pytest

from aoe.wire import protocol

ADVERTISED = {
    68: 0,
    533: 0,
    534: 1,
    548: 1,
    576: 1,
    1059: 1,
    1060: 2,
    1400: 2,
    1500: 2,
    2000: 3,
    4131: 7,
    4132: 8,
    4200: 8,
    9000: 16,
    16110: 24,
    65535: 120,
    65536: 120,
    200_000: 248,
}


@pytest.mark.parametrize(("mtu", "sectors"), ADVERTISED.items())
def test_sector_count(mtu: int, sectors: int) -> None:
    assert protocol.sectors_per_frame(mtu) == sectors


def test_what_is_advertised_fits_is_aligned_and_not_more_than_linux_would_take() -> None:
    for mtu in range(20_000):
        sectors = protocol.sectors_per_frame(mtu)
        assert sectors == 0 or 14 + mtu >= 36 + 512 * sectors
        assert sectors < 8 or sectors % 8 == 0
        assert sectors <= max(1, (mtu - 36) // 512)


@pytest.mark.parametrize("mtu", [534, 1041, 1042, 1500, 2053, 2054, 9000])
def test_the_longest_answers_fit(mtu: int) -> None:
    room = mtu + 14
    for header, each, most, found in [
        (32, 1, 1024, protocol.config_string_max(mtu)),
        (28, 8, 255, protocol.mask_max(mtu)),
        (26, 6, 255, protocol.reserve_max(mtu)),
    ]:
        assert found <= most
        assert header + each * found <= room
        assert found == most or header + each * (found + 1) > room
