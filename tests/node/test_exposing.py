"""A node tells Prometheus what it is, how it stands, and what it did."""

import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aoe.cli import loop
from aoe.config.values import Config, ExportConfig
from aoe.disk.device import Device
from aoe.errors import ConfigurationError
from aoe.node import spaces as spaces_module
from aoe.node.exposed import Exposed
from aoe.node.exposing import Exposing
from aoe.node.process import Process
from aoe.node.spaces import Spaces
from aoe.node.status import PoolStatus
from tests.disk.helpers import opened, sparse
from tests.node.scene import TARGETED, Scene, image

Found = dict[str, float]


def export(work: Path, slot: int, **how: object) -> ExportConfig:
    return ExportConfig(path=image(work, f"disk{slot}"), shelf=1, slot=slot, **how)  # type: ignore[arg-type]


async def told(exposed: Exposed) -> Found:
    """By the name and labels as they are written."""
    text = b"".join([piece async for piece in exposed.slices()]).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def run(
    work: Path, test: Callable[[Scene, Exposed], Coroutine[None, None, None]], *exports: ExportConfig
) -> None:
    async def whole() -> None:
        scene = Scene(work, Config(TARGETED, exports))
        await scene.start()
        exposed = Exposed(scene.node, Process(), "1.2.3")
        try:
            await test(scene, exposed)
        finally:
            exposed.close()
            await scene.node.stop()

    loop.run(whole())


def test_how_full_pools_are_is_told_of_those_that_are_there(tmp_path: Path) -> None:
    async def test(scene: Scene, exposed: Exposed) -> None:
        assert not [it for it in await told(exposed) if it.startswith("aoe_pool")]
        scene.node.rooms.pools = (
            PoolStatus("fast", "/srv", 10, "", 1000, 50, 3, 5000, 2, 70, 4200),
            PoolStatus("none", "/none", 10, "it is not there"),
        )
        found = {name: it for name, it in (await told(exposed)).items() if name.startswith("aoe_pool")}
        assert found == {
            "aoe_pool_up{pool=fast}": 1,
            "aoe_pool_up{pool=none}": 0,
            "aoe_pool_size_bytes{pool=fast}": 1000,
            "aoe_pool_free_bytes{pool=fast}": 50,
            "aoe_pool_reserve_bytes{pool=fast}": 100,
            "aoe_pool_promised_bytes{pool=fast}": 5000,
            "aoe_pool_snapshot_bytes{pool=fast}": 70,
            "aoe_pool_growth_bytes{pool=fast}": 4200,
            "aoe_pool_volumes{pool=fast}": 3,
        }

    run(tmp_path, test, export(tmp_path, 0))


def test_what_it_is_and_how_it_stands(tmp_path: Path) -> None:
    absent = ExportConfig(path=str(tmp_path / "absent"), shelf=1, slot=7)

    async def test(scene: Scene, exposed: Exposed) -> None:
        found = await told(exposed)
        assert found["aoe_build_info{engine=python,version=1.2.3}"] == 1
        serial = scene.node.target.exports[0].identity.serial
        info = f"durability=write-through,export=e1.0,path={tmp_path / 'disk0'},serial={serial}"
        assert found[f"aoe_export_info{{{info}}}"] == 1
        assert found["aoe_export_state{export=e1.0,state=serving}"] == 1
        assert found["aoe_export_state{export=e1.7,state=waiting}"] == 1
        assert found["aoe_export_size_bytes{export=e1.0}"] == 64 * 512
        assert found["aoe_export_failed{export=e1.0}"] == 0
        assert "aoe_export_size_bytes{export=e1.7}" not in found
        assert [it for it in found if "disk0" in it] == [f"aoe_export_info{{{info}}}"], "one label joins"
        (up,) = [value for name, value in found.items() if name.startswith("aoe_link_up{")]
        assert up == 1

    run(tmp_path, test, export(tmp_path, 0), absent)


def test_what_it_did_is_what_a_client_asked(tmp_path: Path) -> None:
    async def test(scene: Scene, exposed: Exposed) -> None:
        writer, reader = scene.host(), scene.host()
        for _ in range(3):
            await writer.write(0, b"a" * 1024)
        for _ in range(5):
            await reader.read(0, 1)
        found = await told(exposed)
        writes, reads = (
            found[f"aoe_export_requests_total{{export=e1.0,kind={it}s}}"] for it in ("write", "read")
        )
        assert 3 <= writes <= writer.sent
        assert 5 <= reads <= reader.sent
        assert found["aoe_export_written_bytes_total{export=e1.0}"] == writes * 1024
        assert found["aoe_export_read_bytes_total{export=e1.0}"] == reads * 512
        assert found["aoe_export_reply_seconds_count{export=e1.0}"] == writes + reads
        assert not [it for it in found if it.startswith("aoe_client_")]

    run(tmp_path, test, export(tmp_path, 0))


def test_clients_are_told_of_from_an_apply_on_and_until_the_next(tmp_path: Path) -> None:
    async def test(scene: Scene, exposed: Exposed) -> None:
        await scene.host().read(0, 1)
        wanted = (export(tmp_path, 0),)
        for clients in (True, False):
            settings = replace(TARGETED, metrics_clients=clients)
            done = await scene.node.apply(Config(settings, wanted), "a test")
            assert f"metrics-clients to {str(clients).lower()}" in done.sentences[0]
            found = await told(exposed)
            assert [
                value for name, value in found.items() if name.startswith("aoe_client_requests_total")
            ] == ([1, 0] if clients else [])

    run(tmp_path, test, export(tmp_path, 0))


def test_series_follow_the_exports(tmp_path: Path) -> None:
    async def test(scene: Scene, exposed: Exposed) -> None:
        for slots in ((0,), (0, 1), (1, 2), ()):
            await scene.apply(*(export(tmp_path, slot) for slot in slots), remove=True)
            found = await told(exposed)
            states = sorted(it for it in found if it.startswith("aoe_export_state"))
            assert states == [f"aoe_export_state{{export=e1.{slot},state=serving}}" for slot in slots]
            assert len([it for it in found if it.startswith("aoe_export_queue")]) == len(slots)

    run(tmp_path, test, export(tmp_path, 0))


# The process


def test_the_process_tells_what_it_uses() -> None:
    process = Process()
    first = process.use()
    assert first.resident is not None
    assert 1 << 20 < first.resident <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 * 2
    assert 0 <= time.time() - first.started_s < 7 * 86400
    ballast = bytearray(os.urandom(1 << 20) * 64)
    second = process.use()
    assert second.resident is not None
    assert second.resident - first.resident > len(ballast) // 2
    assert second.cpu_s >= first.cpu_s > 0
    process.close()
    assert process.use().resident is None


# Filesystems


def test_files_have_the_room_of_their_filesystem(tmp_path: Path) -> None:
    async def test() -> None:
        with opened(sparse(tmp_path / "a", 8)) as one, opened(sparse(tmp_path / "b", 8)) as other:
            spaces = Spaces()
            found = await spaces.look([one, other], 10)
            meant = os.statvfs(tmp_path)
            assert found[one] == found[other]
            assert found[one].size == meant.f_blocks * meant.f_frsize
            assert found[one].free == pytest.approx(meant.f_bavail * meant.f_frsize, rel=0.2)

    loop.run(test())


def test_a_filesystem_that_hangs_keeps_only_itself_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    asked: list[int] = []

    async def test() -> None:
        with opened(sparse(tmp_path / "a", 8)) as well, opened(sparse(tmp_path / "b", 8)) as hung:
            hung.device = Device(1)
            really = os.fstat

            def fstat(fd: int) -> os.stat_result:
                if fd == hung.store.fd:
                    asked.append(fd)
                    release.wait(60)
                return really(fd)

            monkeypatch.setattr(spaces_module.os, "fstat", fstat)
            spaces = Spaces()
            for _ in range(3):
                while (found := set(await spaces.look([well, hung], 0.2))) != {well}:
                    assert not found, "a thread without a processor"
            assert len(asked) == 1, "it is not asked again before it has answered"
            release.set()
            assert set(await spaces.look([well, hung], 30)) == {well, hung}
            monkeypatch.undo()
            spaces.close()

    loop.run(test())


def test_a_block_device_has_no_filesystem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        with opened(sparse(tmp_path / "a", 8)) as disk:
            monkeypatch.setattr(spaces_module.stat, "S_ISREG", lambda _: False)
            assert await Spaces().look([disk], 10) == {}

    loop.run(test())


# Where it is asked


def test_what_a_manager_gives_is_used_and_the_same_address_is_not_opened_twice() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    exposing = Exposing([listener.detach()])
    exposing.open(address)
    exposing.close()


def test_an_address_in_use_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        exposing = Exposing([])
        with pytest.raises(ConfigurationError, match="in use; name another address"):
            exposing.open(address)
        exposing.close()


def test_what_does_not_listen_is_refused() -> None:
    one, other = socket.socketpair()
    file = os.open("/dev/null", os.O_RDONLY)
    with other:
        for fd in (one.detach(), file):
            with pytest.raises(ConfigurationError, match=r"ListenStream=127\.0\.0\.1:9882"):
                Exposing([fd])
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(fd)
