"""A service that serves volumes of a pool, and does the verbs of that meanwhile."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aoe.control.client import Client as Control
from aoe.errors import ControlFailed
from aoe.pool.asked import Wish, facts_of
from aoe.pool.requests import Clone, Create, Cut, Delete, Rename, Resize, Rollback
from aoe.pool.work import Work
from aoe.wire.protocol import SECTOR
from tests.net.service import Service
from tests.pool.pools import MIB, SIZE, files, fresh, is_whole, working, write
from tests.support.labs.fault_disk import small_filesystem
from tests.support.labs.network import Lab
from tests.support.labs.raw_client import AtaFailed, Client, sectors_of, text_of
from tests.support.tools import need
from tests.support.waiting import PATIENCE_S, wait_for

INSTANCE = slice(2 * 134, 2 * 138)
AGE_S = 1.5
"""Of frames: longer than anything that is waited for without it."""


@pytest.fixture(scope="module")
def xfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with small_filesystem("xfs", tmp_path_factory.mktemp("xfs") / "srv", 400 * MIB) as store:
        yield store


@pytest.fixture
def pool(xfs: Path) -> Path:
    """With a template, and a clone of that."""
    directory = fresh(xfs)
    with working(directory) as work:
        work.do(Create("base", SIZE))
        write(work, "base", 1)
        work.do(Cut("base", "golden"))
        work.do(Clone("base", "golden", "web1"))
    return directory


def exports(pool: Path, *them: str, more: str = "") -> list[str]:
    """A file with the pool `fast`, and what it serves at e1.1, e1.2 and so on."""
    tables = [f'[[pool]]\nname = "fast"\npath = "{pool}"\n{more}']
    tables += [
        f'[[export]]\npath = "{path}"\nshelf = 1\nslot = {slot}\n' for slot, path in enumerate(them, 1)
    ]
    return tables


def volume(service: Service, words: str, status: int = 0) -> str:
    """What `aoe-target volume` says, asking the service. Its disks may be held 250 ms for a snapshot: where a
    busy machine takes longer, there is none, and it is asked for again."""
    verb, *rest = words.split()
    argv = [sys.executable, "-m", "aoe.cli.target", "volume", verb, "--socket", service.socket, *rest]

    def done() -> "subprocess.CompletedProcess[str] | None":
        one = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        return None if "took over 250 ms for a change" in one.stderr else one

    found = wait_for(done, what="its disk is never ready")
    assert found is not None
    assert found.returncode == status, (found.stdout, found.stderr, service.errors)
    return found.stdout + found.stderr


def ask(service: Service, request: Wish, *, plan: bool = False, force: bool = False) -> dict[str, Any]:
    """What comes of a verb of the pool, or would. ControlFailed."""
    with Control(service.socket) as control:
        return control.ask("volume", pool="fast", request=facts_of(request), plan=plan, force=force)


def client(lab: Lab, slot: int) -> Client:
    return Client(lab.port("client"), 1, slot)


def first(disk: Client) -> int:
    return disk.read(0)[0]


def test_a_clone_is_served_and_goes_on_by_another_name_with_another_size(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    with Service(lab, tmp_path, exports(pool, "fast/web1", "fast/base@golden")) as service:
        with client(lab, 1) as disk, client(lab, 2) as kept:
            assert (first(disk), first(kept)) == (1, 1)
            disk.write(0, bytes([2]) * SECTOR)
            with pytest.raises(AtaFailed):
                kept.write(0, bytes(SECTOR))
            serial = text_of(disk.identify(), 10, 10)
            assert volume(service, "create fast/new 1M") == "fast/new: 1048576 bytes, raw\n"
            said = volume(service, "rename fast/web1 fast/www")
            assert said.splitlines() == [
                "fast/web1: is fast/www now",
                "e1.1: serves it on as fast/www; aoe-target set e1.1 --save puts that into the file",
            ]
            volume(service, "rename fast/base fast/template")
            one, other = service.ask("status")["exports"]
            assert other["path"] == "fast/template@golden"
            assert (one["path"], one["state"], one["serial"]) == ("fast/www", "serving", serial)
            instance = disk.identify()[INSTANCE]
            assert "aoe sees the new size at once" in volume(service, f"resize fast/www {2 * SIZE}")
            identity = disk.identify()
            assert sectors_of(identity) == 2 * SIZE // SECTOR
            assert (identity[INSTANCE], text_of(identity, 10, 10)) == (instance, serial)
            disk.write(2 * SIZE // SECTOR - 1, bytes([3]) * SECTOR)
            assert (first(disk), first(kept)) == (2, 1)
            wait_for(lambda: [it["volumes"] for it in service.ask("status")["pools"]] == [3])
            assert f"pool fast: {pool}, " in service.command("status")
            head, *volumes = volume(service, "list fast").splitlines()
            assert head.startswith(f"fast: {pool}, ")
            assert [it.split(":")[0] for it in volumes] == ["fast/new", "fast/template", "fast/www"]
            assert volume(service, "show fast/www").splitlines()[0] == volumes[2]
            assert "there is no volume fast/none" in volume(service, "show fast/none", 2)
            assert "there is no pool slow in the file" in volume(service, "list slow", 2)
        service.restart()
        with client(lab, 1) as disk:
            assert (first(disk), text_of(disk.identify(), 10, 10)) == (2, serial)
            assert sectors_of(disk.identify()) == 2 * SIZE // SECTOR


def test_what_would_change_under_a_client_is_refused_unless_it_is_forced(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    with working(pool) as work:
        work.do(Cut("web1", "a"))
    with (
        Service(lab, tmp_path, exports(pool, "fast/web1", "fast/base", "fast/web1@a")) as service,
        client(lab, 1) as disk,
    ):
        disk.write(0, bytes([2]) * SECTOR)
        identity = disk.identify()
        for words, why in (
            (
                "delete fast/web1 --recursive",
                "fast/web1 is what e1.1 is to serve; take that out of the file, and apply it",
            ),
            (
                "delete fast/web1@a",
                "fast/web1@a is what e1.3 is to serve; take that out of the file, and apply it",
            ),
            (
                f"resize fast/web1 {SIZE // 2} --shrink",
                f"fast/web1 is served at e1.1, and {mac(disk)} used it",
            ),
        ):
            assert why in volume(service, words, 2)
        assert first(disk) == 2
        assert volume(service, "clone fast/base@golden fast/web2").startswith("fast/web2: a clone of")
        service.command("add", "1.4", "fast/web2")
        assert "fast/web2 is what e1.4 is to serve; take that out" in volume(service, "delete fast/web2", 2)
        for request in (
            Rollback("web1", "a"),
            Resize("web1", 2 * SIZE),
            Rename("web1", "www"),
            Clone("web1", "", "web3"),
            Cut("web1", "b"),
        ):
            (user,) = (it for it in ask(service, request, plan=True)["clients"] if it.startswith("e1.1: "))
            assert user.startswith(f"e1.1: {mac(disk)} used it "), request
        with pytest.raises(ControlFailed, match=f"at e1.1, and {mac(disk)} used it in the last minute; take"):
            ask(service, Delete("web1", recursive=True), plan=True)
        said = volume(service, f"resize fast/web1 {SIZE // 2} --shrink --plan")
        assert f"e1.1: {mac(disk)} used it" in said
        volume(service, f"resize fast/web1 {SIZE // 2} --shrink --force")
        now = disk.identify()
        assert sectors_of(now) == SIZE // 2 // SECTOR
        assert now[INSTANCE] != identity[INSTANCE]
        assert text_of(now, 10, 10) == text_of(identity, 10, 10)
        assert first(disk) == 2


def test_what_no_client_used_needs_no_force_and_waits_the_frame_age(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    """A client of another disk is none of it."""
    requests = Resize("base", SIZE // 2, shrink=True), Rollback("base", "golden")
    with (
        Service(lab, tmp_path, exports(pool, "fast/web1", "fast/base"), max_frame_age=AGE_S) as service,
        client(lab, 1) as other,
        client(lab, 2) as disk,
    ):
        for request in requests:
            assert first(other) == 1
            began = time.monotonic()
            done = ask(service, request)
            assert time.monotonic() - began >= AGE_S
            assert "e1.2: another instance is served" in done["notes"]
        assert (sectors_of(disk.identify()), first(disk)) == (SIZE // SECTOR, 1)


def mac(disk: Client) -> str:
    return disk.mac.hex(":")


def test_a_rollback_keeps_what_was_and_brings_back_what_was_kept(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    with working(pool) as work:
        work.do(Cut("web1", "fresh"))
    with Service(lab, tmp_path, exports(pool, "fast/web1")) as service, client(lab, 1) as disk:
        disk.write(0, bytes([2]) * SECTOR, fua=True)
        identity = disk.identify()
        assert "used it in the last minute" in volume(service, "rollback fast/web1@fresh", 2)
        assert first(disk) == 2
        assert "e1.1: another instance is served" in volume(service, "rollback fast/web1@fresh --force")
        assert first(disk) == 1
        assert disk.identify()[INSTANCE] != identity[INSTANCE]
        assert text_of(disk.identify(), 10, 10) == text_of(identity, 10, 10)
        (kept,) = (it for it in names(pool, "web1") if it.startswith("before-rollback"))
        volume(service, f"rollback fast/web1@{kept} --force")
        assert first(disk) == 2


def names(pool: Path, name: str) -> list[str]:
    """Of its snapshots."""
    work = Work(str(pool), locked=False)
    try:
        return [it.name for it in work.volumes[name].snapshots]
    finally:
        work.close()


def test_a_pool_is_the_services_and_waits_until_it_is_there(lab: Lab, pool: Path, tmp_path: Path) -> None:
    aside = pool.rename(pool.with_name(f"{pool.name}-aside"))
    pool.mkdir()
    image = tmp_path / "image"
    image.write_bytes(bytes(MIB))
    tables = exports(pool, "fast/web1", str(image))
    with Service(lab, tmp_path, tables) as service:
        waiting, served = service.ask("status")["exports"]
        assert (waiting["state"], served["state"]) == ("waiting", "serving")
        assert "is not marked as a pool; is its file system mounted?" in waiting["reason"]
        pool.rmdir()
        aside.rename(pool)
        with client(lab, 1) as disk:
            assert first(disk) == 1
            pool.rename(aside)
            pool.mkdir()
            gone = re.escape(f"pool fast ({pool}) is not marked as a pool; is its file system mounted?")
            for request in (Create("new", MIB), Cut("web1", "a"), Rename("web1", "www")):
                with pytest.raises(ControlFailed, match=gone):
                    ask(service, request)
            with pytest.raises(ControlFailed, match=gone):
                listed(service)
            assert first(disk) == 1, "its image is open"
            assert not list(pool.iterdir())
            pool.rmdir()
            aside.rename(pool)
            assert ask(service, Cut("web1", "a"))["done"] == "fast/web1@a: cut"
            assert "fast/web1" in listed(service)
        done = service.lab.popen(
            "target",
            *[sys.executable, "-m", "aoe.cli.target", "volume", "create", "--config", service.file],
            *["fast/other", "1M"],
            stderr=subprocess.PIPE,
        )
        _, errors = done.communicate(timeout=60)
        assert done.returncode != 0
        assert b"is in use by" in errors


def listed(service: Service) -> list[str]:
    """Volumes of the pool. ControlFailed."""
    with Control(service.socket) as control:
        return [it["volume"] for it in control.ask("volumes", pool="fast", after="")["volumes"]]


def test_a_first_write_that_finds_the_store_full_is_an_ata_error_until_there_is_room(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    """The clone shares all its blocks, so each first write needs a new one."""
    with Service(lab, tmp_path, exports(pool, "fast/web1")) as service, client(lab, 1) as disk:
        filler = pool.parent / "filler"
        try:
            fill(filler)
            with pytest.raises(AtaFailed):
                disk.write(0, bytes([2]) * SECTOR)
            assert first(disk) == 1, "what was there before is"
            (one,) = service.ask("status")["exports"]
            assert (one["state"], one["reason"]) == ("serving", "")
        finally:
            filler.unlink()
        wait_for(lambda: writes(disk), what="there is room again, without a restart")
        disk.flush()
        assert (first(disk), disk.read(1)[0]) == (2, 1)


def fill(file: Path) -> None:
    """Leave no block to anything else on its file system."""
    with file.open("wb", buffering=0) as filler:
        for size in (4 * MIB, 64 << 10, 4 << 10):
            with pytest.raises(OSError, match="No space left"):
                while True:
                    filler.write(bytes(size))
                    os.fsync(filler.fileno())


def writes(disk: Client, lba: int = 0) -> bool:
    try:
        disk.write(lba, bytes([2]) * SECTOR)
    except AtaFailed:
        return False
    return True


def test_a_schedule_of_the_file_makes_snapshots_of_what_is_served_and_what_is_not(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    keys = ('name = "auto"', 'volumes = ["fast/*"]', "keep-hourly = 2", 'timezone = "Asia/Kathmandu"')
    records = [pool / "volumes" / f"{it}.json" for it in ("web1", "base")]
    schedule = "\n".join(("[[schedule]]", *keys, ""))
    with Service(lab, tmp_path, [*exports(pool, "fast/web1"), schedule]) as service:
        for it in records:
            wait_for(lambda it=it: '"cause": "schedule auto"' in it.read_text(), what=lambda: service.errors)
            assert '"auto-2' in it.read_text()


_CTRL_C = "filling.Filled.name = lambda _: os.kill(os.getpid(), 2)"
"""When all is copied, and before the service is told of it."""


def test_an_image_is_imported_and_made_a_template_through_the_service(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    need("qemu-img")
    image = tmp_path / "disk.raw"
    image.write_bytes(b"\5" * MIB)
    with Service(lab, tmp_path, exports(pool, "fast/web1")) as service:
        file = tmp_path / "etc.toml"
        file.write_text("\n".join(exports(pool)))
        assert filled(service, file, "import", str(image), "fast/new").endswith(f"{MIB} bytes, raw\n")
        assert filled(service, file, "template", "fast/new").startswith("fast/new: is a template")
        assert volume(service, "clone fast/new fast/web2") == "fast/web2: a clone of fast/new@template\n"
        with client(lab, 1) as disk:
            assert first(disk) == 1
            said = filled(service, file, "template", "fast/web1", "--plan", status=2)
            assert f"served at e1.1, and {mac(disk)} used it in the last minute; take that out" in said
        assert "there is a volume new" in filled(service, file, "import", str(image), "fast/new", status=2)
        before = files(pool)
        said = filled(service, file, "import", str(image), "fast/more", status=130, then=_CTRL_C)
        assert said == "aoe-target: interrupted\n"
        assert files(pool) == before
    work = Work(str(pool), name="fast", patience_s=60)
    assert Path(work.path_of("web2")).read_bytes() == image.read_bytes()
    assert not work.leftovers
    work.close()


def filled(service: Service, file: Path, *words: str, status: int = 0, then: str = "pass") -> str:
    """What a command says that copies by itself, and asks the service for the rest."""
    code = (
        "import os, sys; from pathlib import Path; from aoe.cli import filling, target; "
        f"filling.CONFIG = Path({str(file)!r}); {then}; sys.exit(target.main(sys.argv[1:]))"
    )
    argv = [sys.executable, "-c", code, "volume", *words, "--socket", service.socket]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, (done.stdout, done.stderr, service.errors)
    return done.stdout + done.stderr


def test_verbs_on_one_volume_at_once_are_done_or_refused_each_in_a_line(
    lab: Lab, pool: Path, tmp_path: Path
) -> None:
    """In whichever order; what is served is served afterwards."""
    clone, delete = Clone("base", "golden", "web2"), Delete("web2")
    with Service(lab, tmp_path, exports(pool, "fast/web1")) as service, client(lab, 1) as disk:
        volume(service, "snapshot fast/web1@a")
        taken = "refused: there is a volume web2; choose another name, or delete it first"
        assert sorted(at_once(service, clone, clone, clone)) == [
            "fast/web2: a clone of fast/base@golden",
            taken,
            taken,
        ]
        *refused, done = sorted(at_once(service, delete, delete, Rename("web2", "web3")), key=said_first)
        assert refused == ["refused: there is no volume fast/web2"] * 2
        assert done in ("fast/web2: deleted", "fast/web2: is fast/web3 now")
        changes = Rollback("web1", "a"), Cut("web1", "b"), Resize("web1", 2 * SIZE), Rename("web1", "www")
        said = at_once(service, *changes)
        assert all(it.isprintable() for it in said)
        assert first(disk) == 1, said
    with working(pool, patience_s=PATIENCE_S) as work:
        assert is_whole(work)


def said_first(line: str) -> bool:
    return not line.startswith("refused: ")


def at_once(service: Service, *requests: Wish) -> list[str]:
    """What comes of each."""

    def asked(request: Wish) -> str:
        try:
            return str(ask(service, request, force=True)["done"])
        except ControlFailed as error:
            return f"refused: {error}"

    with ThreadPoolExecutor(len(requests)) as threads:
        return list(threads.map(asked, requests))


def test_what_a_deleted_snapshot_leaves_is_merged_in_the_background(lab: Lab, tmp_path: Path) -> None:
    need("qemu-img", "mkfs.ext4")
    with small_filesystem("ext4", tmp_path / "ext4", 64 * MIB) as store:
        directory = fresh(store)
        with working(directory) as work:
            work.do(Create("base", SIZE))
            work.do(Cut("base", "a"))
            work.do(Cut("base", "b"))
            work.do(Delete("base", "a"))
            assert len(list(work.volumes["base"].images)) == 3
        with Service(lab, tmp_path, exports(directory)) as service:
            images = directory / "images"
            wait_for(lambda: len(list(images.iterdir())) == 2, what=lambda: service.errors)
        work = Work(str(directory), name="fast", patience_s=60)
        assert not work.leftovers
        work.close()
