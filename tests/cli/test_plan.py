"""What the command line means, before anything is opened."""

import pytest

from aoe.cli.target import FRAME_AGE_MIN_S, main, parser, plan
from aoe.errors import ConfigurationError


def addresses(*arguments: str) -> list[tuple[int, int]]:
    return [(one.shelf, one.slot) for one in plan(parser().parse_args(["serve", *arguments]))]


def test_default_address_and_consecutive_slots() -> None:
    assert addresses("a") == [(0, 0)]
    assert addresses("a", "b", "c") == [(0, 0), (0, 1), (0, 2)]
    assert addresses("a", "b", "--shelf", "7", "--slot", "3") == [(7, 3), (7, 4)]


def test_after_slot_254_comes_the_next_shelf() -> None:
    assert addresses("a", "b", "c", "--slot", "253") == [(0, 253), (0, 254), (1, 0)]


def test_the_shelf_that_linux_refuses_is_left_out() -> None:
    assert addresses("a", "b", "--shelf", "4094", "--slot", "254") == [(4094, 254), (4096, 0)]


def test_a_path_may_name_its_address_and_others_go_on_from_there() -> None:
    assert addresses("a=3.7", "b", "c=1.0") == [(3, 7), (3, 8), (1, 0)]


def test_path_with_equal_signs_address_and_serial() -> None:
    options = parser().parse_args(["serve", "/x/a=b=1.2,serial=S 1", "/x/c=d"])
    first, second = plan(options)
    assert (str(first.path), first.shelf, first.slot, first.serial) == ("/x/a=b", 1, 2, "S 1")
    assert (str(second.path), second.shelf, second.slot, second.serial) == ("/x/c=d", 1, 3, None)


def test_serial_without_address() -> None:
    (only,) = plan(parser().parse_args(["serve", "a,serial=X"]))
    assert (str(only.path), only.serial) == ("a", "X")


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["a", "--shelf", "4095"], "shelf 4095"),
        (["a", "--shelf", "65535"], "shelf 65535"),
        (["a=65535.0"], "shelf 65535"),
        (["a", "--slot", "255"], "slot 255"),
        (["a=0.255"], "slot 255"),
        (["a=1.1", "b=1.1"], "address 1.1"),
        (["a", "b", "--serial", "X"], "--serial"),
        (["a", "--serial", "x" * 21], "serial"),
        (["a", "--serial", "ä"], "serial"),
    ],
)
def test_refused_plans(arguments: list[str], names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        addresses(*arguments)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--direct", "--buffered"], "--direct and --buffered"),
        (["--shared", "--buffered"], "--shared"),
        (["--buffer-count", "1"], "--buffer-count 1"),
        (["--buffer-count", "65536"], "--buffer-count 65536"),
        (["--max-frame-age", "0.1"], f"{FRAME_AGE_MIN_S} to 3600"),
        (["--max-frame-age", "nan"], "--max-frame-age"),
        (["--offset", "-1"], "--offset"),
        (["--length", "0"], "--length"),
        (["--engine", "c"], "--engine c"),
        (["--mask", "02:00"], "02:00"),
        (["--mask", "01:00:00:00:00:00"], "group address"),
        (["--link", "udp:0.0.0.0:0"], "open to everyone"),
        (["--link", "udp:127.0.0.1:0", "--link", "udp:127.0.0.1:0"], "given twice"),
    ],
)
def test_refused_options_are_one_line_and_status_2(
    arguments: list[str], names: str, tmp_path, capsys
) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4096))
    state = tmp_path / "state"
    link = [] if "--link" in arguments else ["--link", "udp:127.0.0.1:0"]
    assert main(["serve", str(disk), "--state-dir", str(state), *link, *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert names in line
    assert not state.exists()
