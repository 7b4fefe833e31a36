"""What a configuration means once it is read."""

import pytest

from aoe.config.values import Config, ExportConfig, TargetConfig


def export(path: str = "/a", **said: object) -> ExportConfig:
    return ExportConfig(**{"path": path, "shelf": 1, "slot": 2, **said})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/srv/a b.img", "/srv/a b.img"),
        ("/dev//disk/./by-id/x", "/dev/disk/by-id/x"),
        ("/a/../b", "/a/../b"),
        ("LABEL=root", "/dev/disk/by-label/root"),
        ("LABEL=my root/1", r"/dev/disk/by-label/my\x20root\x2f1"),
        ("LABEL=Bücher", "/dev/disk/by-label/Bücher"),
        ("UUID=ABCD-1234", "/dev/disk/by-uuid/ABCD-1234"),
        ("PARTUUID=a-01", "/dev/disk/by-partuuid/a-01"),
        ("PARTLABEL=EFI=1", "/dev/disk/by-partlabel/EFI=1"),
    ],
)
def test_a_path_leads_to_a_place(path: str, place: str) -> None:
    assert export(path).place == place


def test_an_address_is_written_as_everywhere() -> None:
    assert export().address == "e1.2"
    assert export().key == (1, 2)


def test_a_part_is_another_store() -> None:
    assert export().store != export(offset=1).store != export(offset=1, length=1).store
    assert export("/a/./b").store == export("/a//b").store


def test_all_interfaces_are_named_once_and_links_are_none() -> None:
    target = TargetConfig(interfaces=("eth1", "eth2"), links=("udp:127.0.0.1:7000",))
    own = export(interfaces=("eth3", "eth2", "udp:127.0.0.1:7000"))
    assert Config(target, (export(), own)).interfaces == ("eth1", "eth2", "eth3")


def test_exports_are_found_by_their_address() -> None:
    assert Config(exports=(export(),)).by_key == {(1, 2): export()}
