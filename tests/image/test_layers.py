"""What `qemu-img info` says of an image, and what of that is refused. Nothing is opened here."""

import json
from typing import Any

import pytest

from aoe.errors import ConfigurationError
from aoe.image.formats import check_key, format_of
from aoe.image.layers import Layer, check, data_of, parse, under_of
from aoe.image.nodes import Part, export_of, nodes

QCOW2: dict[str, Any] = {
    "virtual-size": 1 << 20,
    "filename": "/proc/self/fd/5",
    "format": "qcow2",
    "format-specific": {"type": "qcow2", "data": {"compat": "1.1", "corrupt": False}},
}


def said(*layers: dict[str, Any]) -> bytes:
    return json.dumps(layers if len(layers) > 1 else layers[0]).encode()


@pytest.mark.parametrize(
    ("path", "stated", "form"),
    [
        ("/d/disk.qcow2", "auto", "qcow2"),
        ("/d/disk.QCOW2", "auto", "qcow2"),
        ("disk.vmdk", "auto", "vmdk"),
        ("disk.vhdx", "auto", "vhdx"),
        ("disk.vdi", "auto", "vdi"),
        ("disk.luks", "auto", "luks"),
        ("disk", "auto", "raw"),
        ("disk.img", "auto", "raw"),
        ("/disk.qcow2/raw", "auto", "raw"),
        ("/d/.qcow2", "auto", "raw"),
        ("disk.qcow2", "raw", "raw"),
        ("/dev/vg/disk", "qcow2", "qcow2"),
    ],
)
def test_a_format_is_said_or_named(path: str, stated: str, form: str) -> None:
    assert format_of(path, stated) == form


def test_a_key_is_for_what_has_one() -> None:
    check_key("d", "luks", "/key")
    check_key("d", "qcow2", "/key")
    check_key("d", "qcow2", None)
    with pytest.raises(ConfigurationError, match="has a key"):
        check_key("d", "luks", None)
    with pytest.raises(ConfigurationError, match="has no key"):
        check_key("d", "raw", "/key")


def test_one_layer_and_the_first_of_a_chain_are_understood() -> None:
    top = {**QCOW2, "backing-filename": "base", "backing-filename-format": "raw", "dirty-flag": True}
    for text in (said(top), said(top, {**QCOW2, "format": "raw"})):
        layer = parse(text)
        assert layer == Layer(format="qcow2", size=1 << 20, under="base", under_format="raw", dirty=True)


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b"null", b"[1]", b"\xff", b"[" * 5000, said({**QCOW2, "virtual-size": "1"}),
     said({**QCOW2, "virtual-size": -1}), said({**QCOW2, "format": None})],
)  # fmt: skip
def test_what_is_no_answer_of_qemu_img_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigurationError, match="not understood"):
        parse(text)


def test_the_content_must_be_what_was_said() -> None:
    layer = parse(said(QCOW2))
    check(layer, "qcow2", "d")
    with pytest.raises(ConfigurationError, match="not in vhdx"):
        check(layer, "vhdx", "d")


def test_what_is_marked_corrupt_is_refused() -> None:
    data = {"data": {"corrupt": True}}
    with pytest.raises(ConfigurationError, match="qemu-img check"):
        check(parse(said({**QCOW2, "format-specific": data})), "qcow2", "d")


def test_a_vmdk_is_one_file() -> None:
    def vmdk(kind: str) -> Layer:
        return Layer(format="vmdk", size=512, kind=kind)

    check(vmdk("monolithicSparse"), "vmdk", "d")
    for kind in ("monolithicFlat", "twoGbMaxExtentSparse", "vmfs", ""):
        with pytest.raises(ConfigurationError, match="other files"):
            check(vmdk(kind), "vmdk", "d")


NO_FILES = [
    "json:{}",
    'json:{"driver":"file","filename":"/etc/shadow"}',
    "nbd://host/x",
    "nbd:unix:/run/x",
    "file:/etc/passwd",
    "https://host/x",
    "fat:/etc",
    "ssh://host/x",
    "a:b",
    "",
    "/",
    "x\0y",
]


@pytest.mark.parametrize("name", [it for it in NO_FILES if it])
def test_a_name_in_an_image_is_that_of_a_file(name: str) -> None:
    with pytest.raises(ConfigurationError, match="no file"):
        under_of(Layer(format="qcow2", size=512, under=name, under_format="raw"), "d")
    with pytest.raises(ConfigurationError, match="no file"):
        data_of(Layer(format="qcow2", size=512, data=name), "d")


def test_what_lies_below_says_its_format() -> None:
    assert under_of(Layer(format="qcow2", size=512), "d") is None
    assert under_of(Layer(format="qcow2", size=512, under="b", under_format="raw"), "d") == ("b", "raw")
    assert under_of(Layer(format="qcow2", size=512, under="./a:b", under_format="raw"), "d") == (
        "./a:b",
        "raw",
    )
    for form in ("", "nbd", "file"):
        with pytest.raises(ConfigurationError, match="rebase"):
            under_of(Layer(format="qcow2", size=512, under="b", under_format=form), "d")


def test_every_node_is_explicit() -> None:
    top = Part(fd=5, layer=Layer(format="qcow2", size=512, under="b", under_format="qcow2"))
    base = Part(fd=6, data=7, layer=Layer(format="qcow2", size=512, data="x"))
    found = {it["node-name"]: it for it in nodes((top, base), read_only=False, direct=True, keyed=False)}
    assert list(found) == ["file1", "data1", "image1", "file0", "image0"]
    assert found["image0"]["backing"] == "image1"
    assert found["image1"]["backing"] is None, "else QEMU opens what stands in the image"
    assert found["image1"]["data-file"] == "data1"
    assert {name for name, it in found.items() if not it["read-only"]} == {"file0", "image0"}
    assert all(it["filename"].startswith("/proc/self/fd/") for it in found.values() if "filename" in it)
    assert all(it["cache"] == {"direct": True} for it in found.values() if "filename" in it)
    assert all(it["aio"] == "io_uring" for it in found.values() if "filename" in it)


def test_what_is_served_read_only_is_opened_so() -> None:
    part = Part(fd=5, layer=Layer(format="vdi", size=512))
    assert all(it["read-only"] for it in nodes((part,), read_only=True, direct=False, keyed=False))
    assert "backing" not in list(nodes((part,), read_only=True, direct=False, keyed=False))[1]
    assert not export_of("image0", "/m", read_only=True)["writable"]
    assert export_of("image0", "/m", read_only=False)["writable"]


def test_a_key_goes_to_what_is_encrypted() -> None:
    luks = Part(fd=5, layer=Layer(format="luks", size=512, encrypted=True))
    assert list(nodes((luks,), read_only=False, direct=False, keyed=True))[-1]["key-secret"] == "key"
    top = Part(fd=5, layer=Layer(format="qcow2", size=512, encrypted=True))
    base = Part(fd=6, layer=Layer(format="raw", size=512))
    found = {it["node-name"]: it for it in nodes((top, base), read_only=False, direct=False, keyed=True)}
    assert found["image0"]["encrypt"] == {"format": "luks", "key-secret": "key"}
    assert "encrypt" not in found["image1"]
