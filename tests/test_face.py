"""What a program that says `import aoe` sees: names, types, and how it is told of its mistakes."""

import asyncio
import inspect
import pydoc
import threading
from collections.abc import Awaitable, Callable
from importlib import metadata
from typing import Any

import pytest

import aoe
from aoe.disk.memory import MemoryDisk
from aoe.link.memory import Network
from aoe.link.udp import UdpLink, UdpSpec
from aoe.testing import Lab

SIZE = 1 << 20


def used(call: Callable[[aoe.Disk], Awaitable[Any]], engine: str = "python") -> Any:
    """What a call with an attached disk returns."""

    async def run() -> Any:
        lab = Lab()
        async with lab.serve(MemoryDisk(SIZE), "e1.0"), lab.attach("e1.0", engine=engine) as disk:
            return await call(disk)

    return asyncio.run(run())


# Names


def test_help_names_all_there_is() -> None:
    said = pydoc.plain(pydoc.render_doc(aoe))
    assert all(name in said for name in aoe.__all__)
    assert "VERSION" in said
    for name in aoe.__all__:
        assert inspect.getdoc(getattr(aoe, name)), name


def test_every_public_method_and_option_is_typed_and_told_of() -> None:
    for owner in (aoe.Disk, aoe.BlockingDisk):
        for name, method in inspect.getmembers(owner, inspect.isfunction):
            if not name.startswith("_"):
                assert inspect.getdoc(method), name
                assert "return" in method.__annotations__, name
    for function in (aoe.attach, aoe.open, aoe.serve, aoe.discover):
        for parameter in inspect.signature(function).parameters.values():
            assert parameter.annotation is not parameter.empty, (function, parameter)
            assert parameter.annotation is not Any, (function, parameter)


def test_what_attach_and_discover_give_has_the_names_that_are_exported() -> None:
    async def call(disk: aoe.Disk) -> None:
        assert isinstance(disk, aoe.Disk)
        assert all(isinstance(path, aoe.PathStatus) for path in disk.paths)

    used(call)


def test_the_blocking_twin_takes_the_same_options() -> None:
    one, other = (list(inspect.signature(it).parameters.values()) for it in (aoe.attach, aoe.open))
    assert one == other


def test_the_version_is_that_of_the_package() -> None:
    assert aoe.__version__ == metadata.version("aoe-target")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        aoe.nothing  # noqa: B018


def test_each_word_of_a_path_is_explained() -> None:
    said = inspect.getdoc(aoe.PathStatus) or ""
    words = [*aoe.PathStatus._fields, "quiesce", "hold", "fencing", "usable", "refused"]
    assert [word for word in words if f"`{word}`" not in said] == []


# Words that a function does not take


@pytest.mark.parametrize("name", ["attach", "open", "serve", "discover"])
def test_an_unknown_option_is_an_error_of_the_function_that_was_called(name: str) -> None:
    function: Callable[..., Any] = getattr(aoe, name)
    arguments = (MemoryDisk(SIZE),) if name == "serve" else ()
    with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected keyword argument 'nonsense'"):
        function(*arguments, nonsense=1)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("aoe ")]


BAD_OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"timeout_s": -1}, aoe.OutOfRangeError, "timeout_s is 0 to"),
    ({"timeout_s": float("nan")}, aoe.OutOfRangeError, "timeout_s is 0 to"),
    ({"timeout_s": "30"}, TypeError, "timeout_s is a number of seconds, not '30'"),
    ({"find_s": -0.1}, aoe.OutOfRangeError, "find_s is 0 to"),
    ({"find_s": None}, TypeError, "find_s is a number"),
    ({"failback_s": float("inf")}, aoe.OutOfRangeError, "failback_s is 0 to"),
    ({"failback_s": True}, TypeError, "failback_s is a number"),
    ({"spread": "yes"}, TypeError, "spread is True or False, not 'yes'"),
    ({"hold": None}, TypeError, "hold is True or False"),
    ({"fence": "stonith --off"}, TypeError, r"write it as \['stonith', '--off'\]"),
    ({"engine": "rust"}, aoe.ConfigurationError, "'rust' is not one of auto, c, python"),
    ({"link": "eth0"}, TypeError, "say interface=name"),
    ({"interface": [1]}, TypeError, "1 is not an interface"),
]


@pytest.mark.parametrize(("options", "error", "words"), BAD_OPTIONS, ids=str)
def test_an_option_that_cannot_be_is_said_at_once(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    async def run() -> None:
        link = Network().attach(b"\2\0\0\0\0\1")
        async with aoe.attach("e1.0", **{"link": link, "find_s": 0, **options}):
            pass

    with pytest.raises(error, match=words):
        asyncio.run(run())
    link = UdpLink(UdpSpec.parse("udp:127.0.0.1:0"))
    with pytest.raises(error, match=words):
        aoe.open("e1.0", **{"link": link, "find_s": 0, **options})
    link.close()


@pytest.mark.parametrize(
    "addresses", [(), ("e1",), ("e1.255",), ("1,0",), (b"e1.0",), ("e\u0661.0",)], ids=str
)
def test_what_is_no_address_is_said(addresses: tuple[Any, ...]) -> None:
    async def run() -> None:
        async with aoe.attach(*addresses, link=Network().attach(b"\2\0\0\0\0\1")):
            pass

    with pytest.raises(aoe.ConfigurationError, match="address"):
        asyncio.run(run())


# Numbers and bytes

ENGINES = ("python", "c")
OUTSIDE: list[Callable[[aoe.Disk], Awaitable[Any]]] = [
    lambda disk: disk.read(SIZE, 1),
    lambda disk: disk.read(-1, 1),
    lambda disk: disk.read(0, -1),
    lambda disk: disk.read_into(SIZE - 1, bytearray(2)),
    lambda disk: disk.write(SIZE - 1, b"xx"),
    lambda disk: disk.trim(0, SIZE + 1),
    lambda disk: disk.write_zeroes(SIZE, 512),
    lambda disk: disk.admin.set_config(bytes(1025)),
    lambda disk: disk.admin.edit_mask(add=[bytes(5)]),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", range(len(OUTSIDE)))
def test_out_of_range_is_a_value_error_of_ours(number: int, engine: str) -> None:
    with pytest.raises(aoe.OutOfRangeError) as caught:
        used(OUTSIDE[number], engine)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, aoe.AoeError)
    assert not isinstance(caught.value, aoe.DiskError)


NO_BYTES: list[tuple[Callable[[Any], Awaitable[Any]], str]] = [
    (lambda disk: disk.write(0, "text"), r"data is bytes, not str; encode it, as text.encode\(\)"),
    (lambda disk: disk.write(0, 512), "data is bytes, not int"),
    (lambda disk: disk.write(0, [1, 2]), "data is bytes, not list"),
    (lambda disk: disk.read_into(0, b"\xff" * 512), "cannot be written to; give a bytearray"),
    (lambda disk: disk.read_into(0, "text"), "buffer is a bytearray, not str"),
    (lambda disk: disk.admin.set_config("web"), "a config string is bytes, not str"),
    (lambda disk: disk.admin.test_config("web"), "a config string is bytes, not str"),
    (lambda disk: disk.admin.edit_mask(add=["02:00:00:00:00:01"]), r"parse_mac\('02:00:00:00:00:01'\)"),
    (lambda disk: disk.admin.reserve(more=["02:00:00:00:00:01"]), "a MAC is 6 bytes, not str"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", range(len(NO_BYTES)))
def test_what_is_no_bytes_is_said_with_the_remedy(number: int, engine: str) -> None:
    call, words = NO_BYTES[number]
    with pytest.raises(TypeError, match=words):
        used(call, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_that_has_bytes_can_be_written_and_filled(engine: str) -> None:
    async def call(disk: aoe.Disk) -> None:
        wide = memoryview(bytearray(range(16))).cast("I")
        for offset, data in enumerate((b"bytes", bytearray(b"array"), memoryview(b"view!"), wide)):
            await disk.write(100 * offset, data)  # type: ignore[arg-type]
        assert await disk.read(0, 5) + await disk.read(100, 5) + await disk.read(200, 5) == b"bytesarrayview!"
        assert await disk.read(300, 17) == bytes(range(16)) + b"\0"
        room = bytearray(8)
        await disk.read_into(0, memoryview(room)[2:7])  # type: ignore[arg-type]
        assert room == b"\0\0bytes\0"
        await disk.read_into(300, memoryview(room).cast("I"))  # type: ignore[arg-type]
        assert room == bytes(range(8))

    used(call, engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_buffer_is_the_callers_again_when_the_read_is_given_up(engine: str) -> None:
    async def run() -> None:
        lab, room = Lab(), bytearray(b"\xff" * 512)
        async with lab.serve(MemoryDisk(SIZE), "e1.0") as primary, lab.attach("e1.0", engine=engine) as disk:
            primary.disk.hang.clear()
            reading = asyncio.ensure_future(disk.read_into(0, room))
            await asyncio.sleep(0.05)
            reading.cancel()
            primary.disk.hang.set()
            await disk.read(512, 512)
            assert room == b"\xff" * 512
            await disk.read_into(0, room)
            assert room == bytes(512)

    asyncio.run(run())


# Addresses and discovery


@pytest.fixture
def wires() -> Network:
    return Network()


def test_serve_takes_the_address_that_attach_takes(wires: Network) -> None:
    async def run() -> None:
        ends = [wires.attach(bytes((2, 0, 0, 0, 0, n))) for n in range(1, 7)]
        disks = [MemoryDisk(SIZE) for _ in range(3)]
        async with (
            aoe.serve(disks[0], ends[0], address="e1.0", check=False),
            aoe.serve(disks[1], ends[1], shelf=2, slot=3, check=False),
            aoe.serve(disks[2], ends[2], check=False),
        ):
            found = await aoe.discover(ends[3], 0.1)
            assert [it.address for it in found] == ["e0.0", "e1.0", "e2.3"]
            assert {it.interface for it in found} == {ends[3].name}
            assert all(isinstance(it, aoe.Found) for it in found)
            for it, end in zip(found[:2], ends[4:], strict=True):
                async with aoe.attach(it.address, link=end) as disk:
                    assert disk.size == SIZE

    asyncio.run(run())


@pytest.mark.parametrize(
    ("where", "words"),
    [({"address": "e1"}, "write it as e0.0"), ({"address": "e1.0", "slot": 1}, "one of them")],
)
def test_what_is_no_address_to_serve_is_said(where: dict[str, Any], words: str, wires: Network) -> None:
    async def run() -> None:
        async with aoe.serve(MemoryDisk(SIZE), wires.attach(b"\2\0\0\0\0\1"), **where):
            pass

    with pytest.raises(aoe.ConfigurationError, match=words):
        asyncio.run(run())


def test_discover_says_what_it_cannot_use() -> None:
    with pytest.raises(aoe.ConfigurationError, match="there is no network interface nothing0"):
        asyncio.run(aoe.discover(interface="nothing0"))
    with pytest.raises(aoe.OutOfRangeError, match="seconds is 0 to"):
        asyncio.run(aoe.discover(seconds=-1))
