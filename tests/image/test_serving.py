"""Images served by a real qemu-storage-daemon: whole ones, crafted ones, and what is left of a killed one."""

import errno
import os
import resource
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from aoe.disk.image import ENDED
from aoe.disk.syscalls import close_all, punch_hole
from aoe.errors import ConfigurationError
from aoe.image import mounts
from aoe.image.checking import Check
from aoe.image.messages import Checking, Wanted
from aoe.image.qmp import Qmp
from aoe.image.serving import Images, _key
from aoe.image.user import reader
from tests.image.daemons import daemon_of, kill_daemon
from tests.image.vhdx import interrupt
from tests.support.tools import need, need_users, tool
from tests.support.waiting import statuses, wait_for, wait_for_end

SIZE = 4 << 20
DATA = b"some bytes " * 100
CRYPT_METHOD_AT = 32
"""In the header of a qcow2."""
SELECT_MAX = 1024
"""Where the numbers of descriptors end that select(2) takes."""


pytestmark = pytest.mark.usefixtures("programs")


def create(path: Path, *words: str | Path, form: str = "qcow2", size: int = SIZE) -> Path:
    tool("qemu-img", "create", "-q", "-f", form, *words, path, str(size))
    return path


def wanted(path: Path, form: str = "qcow2", **how: object) -> Wanted:
    return Wanted(path=str(path), format=form, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["qcow2", "vdi", "vhdx", "vmdk"])
def test_what_is_written_is_in_the_image(images: Images, tmp_path: Path, form: str) -> None:
    path = create(tmp_path / f"d.{form}", form=form, size=64 << 20)
    told, fd = images.open(wanted(path, form))
    assert os.lseek(fd, 0, os.SEEK_END) == 64 << 20
    os.pwrite(fd, DATA, 1 << 20)
    os.fdatasync(fd)
    assert os.pread(fd, len(DATA), 1 << 20) == DATA
    images.release(told.image.rpartition(":")[0])
    raw = tmp_path / "raw"
    tool("qemu-img", "convert", "-f", form, "-O", "raw", path, raw)
    assert raw.read_bytes()[1 << 20 :].startswith(DATA)
    assert f"{mounts.PREFIX}{os.getpid()}-" not in Path("/proc/self/mountinfo").read_text()


def test_an_image_may_be_one_of_many(images: Images, tmp_path: Path) -> None:
    """This process has more descriptors than select(2) takes, and waits for the check of an image."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    path = create(tmp_path / "d.qcow2")
    others = [os.dup(0) for _ in range(SELECT_MAX)]
    try:
        told, fd = images.open(wanted(path))
        assert fd > SELECT_MAX
        assert os.pread(fd, 4, 0) == bytes(4)
        images.release(told.image.rpartition(":")[0])
    finally:
        close_all(others)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_loss_is_told_also_once_the_image_is_checked(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was killed is checked first, which takes its time."""
    path = create(tmp_path / "d.qcow2")
    images.open(wanted(path))
    kill_daemon(path)
    images.part()
    images.opener += 1
    with monkeypatch.context() as patch, pytest.raises(Checking):
        patch.setattr(Check, "is_over", lambda *_: False)
        images.open(wanted(path))
    assert images.open(wanted(path))[0].lost
    assert not images.open(wanted(path))[0].lost


def faults(process: int) -> int:
    """Pages of its memory that it was given so far."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[7])


def test_memory_of_a_request_is_kept_for_the_next(images: Images, tmp_path: Path) -> None:
    """To be given it anew takes longer than what is done with it."""
    size = 64 << 20
    path = create(tmp_path / "d.qcow2", size=size)
    told, fd = images.open(wanted(path))
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    before = faults(daemon_of(path))
    assert all(os.pread(fd, 1 << 20, at) == bytes(1 << 20) for at in range(0, size, 1 << 20))
    assert faults(daemon_of(path)) - before < size // 4096 // 4
    images.release(told.image.rpartition(":")[0])


def test_io_uring_may_be_refused(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a kernel, or by a QEMU that was built without it."""
    real, refused = Qmp.do, []

    def do(self: Qmp, verb: str, **arguments: object) -> object:
        if "aio" in arguments:
            refused.append(verb)
            raise ConfigurationError("Unable to use io_uring: failed to init linux io_uring ring")
        return real(self, verb, **arguments)

    monkeypatch.setattr(Qmp, "do", do)
    _, fd = images.open(wanted(create(tmp_path / "d.qcow2")))
    os.pwrite(fd, DATA, 0)
    os.fdatasync(fd)
    assert os.pread(fd, len(DATA), 0) == DATA
    assert refused == ["blockdev-add"]


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOENT, "modprobe fuse"), (errno.EACCES, "let this user use it")]
)
def test_without_fuse_it_says_what_to_do(
    number: int, remedy: str, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(mounts, "let_mount", refused)
    with pytest.raises(ConfigurationError, match=f"^/dev/fuse: .*; .*{remedy}"):
        images.open(wanted(create(tmp_path / "d.qcow2")))


def test_trim_gives_back(images: Images, tmp_path: Path) -> None:
    path = create(tmp_path / "d.qcow2")
    _, fd = images.open(wanted(path))
    os.pwrite(fd, b"x" * (1 << 20), 0)
    os.fdatasync(fd)
    before = path.stat().st_blocks
    punch_hole(fd, 0, 1 << 20)
    os.fdatasync(fd)
    assert path.stat().st_blocks < before
    assert os.pread(fd, 512, 0) == bytes(512)


def test_a_chain_is_read_and_only_its_top_is_written(images: Images, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.write_bytes(DATA.ljust(SIZE, b"\0"))
    middle = create(tmp_path / "middle.qcow2", "-b", "base", "-F", "raw")
    top = create(tmp_path / "top.qcow2", "-b", "./middle.qcow2", "-F", "qcow2")
    before = middle.read_bytes()
    _, fd = images.open(wanted(top))
    assert os.pread(fd, len(DATA), 0) == DATA
    os.pwrite(fd, b"top", 0)
    os.fdatasync(fd)
    assert os.pread(fd, 3, 0) == b"top"
    assert (base.read_bytes()[:4], middle.read_bytes()) == (DATA[:4], before)


def test_a_file_of_its_data_lies_beside_it(images: Images, tmp_path: Path) -> None:
    path = create(tmp_path / "d.qcow2", "-o", f"data_file={tmp_path}/data,data_file_raw=on")
    _, fd = images.open(wanted(path))
    os.pwrite(fd, DATA, 0)
    os.fdatasync(fd)
    assert (tmp_path / "data").read_bytes().startswith(DATA)


def rebased(tmp_path: Path, name: str, form: str = "raw") -> Path:
    """An image that says it lies over something."""
    path = create(tmp_path / "crafted.qcow2")
    tool("qemu-img", "rebase", "-u", "-b", name, "-F", form, path)
    return path


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../../../../../etc/passwd", "link", "sub/base", "none", "nbd:127.0.0.1:9",
     "directory", "json:{\"driver\":\"null-co\"}"],
)  # fmt: skip
def test_no_image_leads_out_of_its_directory(images: Images, tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "sub").mkdir()
    (tmp_path / "directory").mkdir()
    (tmp_path / "sub/base").write_bytes(bytes(SIZE))
    with pytest.raises(ConfigurationError) as refused:
        images.open(wanted(rebased(tmp_path, name)))
    assert "\n" not in str(refused.value)
    assert "crafted" in str(refused.value) or Path(name).name in str(refused.value)


def test_no_file_of_its_data_is_elsewhere(images: Images, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    path = create(tmp_path / "d.qcow2", "-o", f"data_file={tmp_path}/sub/data,data_file_raw=on")
    with pytest.raises(ConfigurationError, match="not in its directory"):
        images.open(wanted(path))


def test_a_loop_is_refused(images: Images, tmp_path: Path) -> None:
    one, other = create(tmp_path / "one.qcow2"), create(tmp_path / "other.qcow2")
    tool("qemu-img", "rebase", "-u", "-b", "other.qcow2", "-F", "qcow2", one)
    tool("qemu-img", "rebase", "-u", "-b", "one.qcow2", "-F", "qcow2", other)
    with pytest.raises(ConfigurationError, match="over itself"):
        images.open(wanted(one))


def test_a_chain_is_not_too_long(images: Images, tmp_path: Path) -> None:
    create(tmp_path / "0.qcow2")
    for number in range(1, 17):
        create(tmp_path / f"{number}.qcow2", "-u", "-b", f"{number - 1}.qcow2", "-F", "qcow2")
    with pytest.raises(ConfigurationError, match="more than 15"):
        images.open(wanted(tmp_path / "16.qcow2"))
    images.open(wanted(tmp_path / "15.qcow2"))


def test_a_header_that_a_guest_wrote_is_not_believed(images: Images, tmp_path: Path) -> None:
    """Below an image in raw, too."""
    rebased(tmp_path, "/etc/passwd").rename(tmp_path / "forged")
    forged = (tmp_path / "forged").read_bytes()
    top = create(tmp_path / "top.qcow2", "-u", "-b", "forged", "-F", "raw")
    _, fd = images.open(wanted(top))
    assert os.pread(fd, 512, 0) == forged[:512]


def test_what_is_said_must_be_so(images: Images, tmp_path: Path) -> None:
    raw = tmp_path / "d.qcow2"
    raw.write_bytes(bytes(SIZE))
    with pytest.raises(ConfigurationError, match="not in qcow2"):
        images.open(wanted(raw))
    with pytest.raises(ConfigurationError, match="not in vmdk"):
        images.open(wanted(create(tmp_path / "e.vmdk"), "vmdk"))


def test_a_truncated_image_is_never_served(images: Images, tmp_path: Path) -> None:
    path = create(tmp_path / "d.qcow2")
    told, fd = images.open(wanted(path))
    os.pwrite(fd, os.urandom(2 << 20), 0)
    os.fdatasync(fd)
    images.release(told.image.rpartition(":")[0])
    os.truncate(path, path.stat().st_size - (1 << 20))
    with pytest.raises(ConfigurationError, match="qemu-img check"):
        images.open(wanted(path))
    top = create(tmp_path / "top.qcow2", "-u", "-b", "d.qcow2", "-F", "qcow2")
    with pytest.raises(ConfigurationError, match=r"d\.qcow2 is damaged"):
        images.open(wanted(top))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ConfigurationError, match=r"d\.qcow2"):
        images.open(wanted(path))


@pytest.mark.parametrize("form", ["vdi", "vhdx", "vmdk", "qcow2"])
def test_what_is_cut_off_at_its_end_is_not_served(images: Images, tmp_path: Path, form: str) -> None:
    path = create(tmp_path / f"d.{form}", form=form)
    tool("qemu-io", "-f", form, "-c", "write -P 1 0 2M", path)
    os.truncate(path, path.stat().st_size - (1 << 20) if form != "vhdx" else 9 << 20)
    with pytest.raises(ConfigurationError, match=rf"d\.{form}"):
        images.open(wanted(path, form))
    assert not daemon_of(path)


def test_another_program_has_it(images: Images, tmp_path: Path) -> None:
    path = create(tmp_path / "d.qcow2")
    with subprocess.Popen(
        ["qemu-io", "-f", "qcow2", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        other.stdin.write("read 0 512\n")
        other.stdin.flush()
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ConfigurationError, match=rf"in use by qemu-io \(process {other.pid}\)"):
            images.open(wanted(path))
        other.stdin.close()
    images.open(wanted(path))


@pytest.fixture(scope="module")
def luks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty image, and its key beside it."""
    need("qemu-img")
    directory = tmp_path_factory.mktemp("luks")
    path, key = directory / "d.luks", directory / "key"
    key.write_text("secret")
    create_luks(path, key)
    return path


def create_luks(path: Path, key: Path, size: int = SIZE) -> None:
    """On a busy machine QEMU may not be able to tell how fast a key is derived."""
    words = ("--object", f"secret,id=k,file={key}", "-o", "key-secret=k,iter-time=10")

    def made() -> bool:
        with suppress(subprocess.CalledProcessError):
            create(path, *words, form="luks", size=size)
            return True
        return False

    wait_for(made)


def test_a_key_opens_it(images: Images, luks: Path) -> None:
    _, fd = images.open(wanted(luks, "luks", key_file=str(luks.with_name("key"))))
    os.pwrite(fd, DATA, 0)
    os.fdatasync(fd)
    assert os.lseek(fd, 0, os.SEEK_END) == SIZE
    assert DATA not in luks.read_bytes()


def test_a_newline_behind_a_key_is_said(images: Images, luks: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    with pytest.raises(ConfigurationError, match="ends with a newline, which counts"):
        images.open(wanted(luks, "luks", key_file=str(key)))


def test_a_key_is_of_what_is_encrypted(images: Images, luks: Path, tmp_path: Path) -> None:
    """Who says one must not be left to believe that it keeps something secret."""
    plain = create(tmp_path / "plain.qcow2")
    with pytest.raises(ConfigurationError, match=r"plain\.qcow2 is not encrypted, and needs no key; leave"):
        images.open(wanted(plain, key_file=str(luks.with_name("key"))))
    with plain.open("r+b") as file:
        file.seek(CRYPT_METHOD_AT)
        file.write(b"\0\0\0\1")
    with pytest.raises(ConfigurationError, match=r"plain\.qcow2 is encrypted; name the file with its key"):
        images.open(wanted(plain))


def test_a_vmdk_that_can_only_be_read_is_not_served_to_be_written(images: Images, tmp_path: Path) -> None:
    raw, path = tmp_path / "raw", tmp_path / "d.vmdk"
    raw.write_bytes(DATA.ljust(SIZE, b"\0"))
    tool("qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, path)
    with pytest.raises(ConfigurationError, match=r"can only be read \(streamOptimized\); say read-only"):
        images.open(wanted(path, "vmdk"))
    _, fd = images.open(wanted(path, "vmdk", read_only=True))
    assert os.pread(fd, len(DATA), 0) == DATA


def test_a_vhdx_whose_writes_were_interrupted_is_put_right_first(images: Images, tmp_path: Path) -> None:
    """As after a power cut, if it may be written to."""
    path = create(tmp_path / "d.vhdx", form="vhdx")
    tool("qemu-io", "-f", "vhdx", "-c", "write -P 122 0 8192", path)
    interrupt(path, path.read_bytes().index(b"z" * 8192))
    with pytest.raises(ConfigurationError, match=r"cannot be read as an image \(.* a log that needs"):
        images.open(wanted(path, "vhdx", read_only=True))
    _, fd = images.open(wanted(path, "vhdx"))
    assert os.pread(fd, 8192, 0) == bytes(4096) + b"z" * 4096


def test_what_a_killed_daemon_had_is_served_again(images: Images, tmp_path: Path) -> None:
    path = create(tmp_path / "d.qcow2")
    told, fd = images.open(wanted(path))
    os.pwrite(fd, DATA, 0)
    os.fdatasync(fd)
    for _ in range(2):
        dead = os.dup(fd)
        kill_daemon(path)
        wait_for(partial(_is_dead, dead))
        told, fd = images.again(told.image)
        assert os.pread(fd, len(DATA), 0) == DATA
        assert images.again(told.image.rpartition(":")[0] + ":0")[0] == told, "there is one already"
        with pytest.raises(OSError, match="not connected"):
            os.close(dead)


def _is_dead(fd: int) -> bool:
    try:
        os.fdatasync(fd)
    except OSError as error:
        return error.errno in ENDED
    return False


def test_one_that_is_killed_while_it_is_opened_is_started_again(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before each thing that it is asked for, and before its file is opened; a second time it is an error."""
    path = create(tmp_path / "d.qcow2")
    asking, opening = Qmp.do, mounts.opened_as
    calls, kills = 0, {0}

    def before(call: Callable[..., Any], *words: Any, **arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls in kills:
            wait_for_end(kill_daemon(path))
        return call(*words, **arguments)

    monkeypatch.setattr(Qmp, "do", lambda *words, **arguments: before(asking, *words, **arguments))
    monkeypatch.setattr(mounts, "opened_as", partial(before, opening))
    key = _key(path)
    while max(kills) <= calls:
        kills, calls = {max(kills) + 1}, 0
        _, fd = images.open(wanted(path))
        os.pwrite(fd, DATA, 0)
        images.release(key)
    assert max(kills) > 4
    assert "has not answered" not in caplog.text, "its end is seen"
    kills, calls = {1, 2}, 0
    with pytest.raises(ConfigurationError, match=r"it has ended|cannot be asked"):
        images.open(wanted(path))


def test_what_serves_it_is_another_user_without_a_network(images: Images, tmp_path: Path) -> None:
    need_users()
    path = create(tmp_path / "d.qcow2")
    images.open(wanted(path))
    process, other = daemon_of(path), reader()
    assert other.uid
    for status in statuses(process):
        assert (set(status["Uid"].split()), status["Groups"]) == ({str(other.uid)}, "")
        assert set(status["Gid"].split()) == {str(other.gid)}
        assert {int(status[it], 16) for it in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {0}
    assert Path(f"/proc/{process}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def test_two_users_have_one_daemon(images: Images, tmp_path: Path) -> None:
    path = create(tmp_path / "d.qcow2")
    told, _ = images.open(wanted(path))
    assert images.open(wanted(path))[0] == told
    with pytest.raises(ConfigurationError, match="another way"):
        images.open(wanted(path, read_only=True))
    key = told.image.rpartition(":")[0]
    images.release(key)
    assert daemon_of(path)
    images.release(key)
    assert not daemon_of(path)
    images.release(key)


def test_what_a_killed_process_left_is_unmounted(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Also what is mounted there, and whose daemon has died: nobody can ask that for anything."""
    left = tmp_path / f"{mounts.PREFIX}1-77"
    left.mkdir()
    (left / "disk").touch()
    request.addfinalizer(lambda: mounts.detach(left / "disk"))
    dead_mount(left / "disk")
    other = tmp_path / f"{mounts.PREFIX}x"
    other.mkdir()
    own = tmp_path / f"{mounts.PREFIX}{os.getpid()}-{mounts.started(os.getpid())}"
    own.mkdir()
    assert mounts.clean(tmp_path) == [left.name, other.name]
    assert list(tmp_path.iterdir()) == [own]
    assert str(left) not in Path("/proc/self/mountinfo").read_text()


def dead_mount(at: Path) -> None:
    """What a daemon leaves that is killed once it has mounted its file there."""
    disk = "driver=null-co,node-name=n,size=4096"
    served = f"type=fuse,id=e,node-name=n,mountpoint={at}"
    with subprocess.Popen(["qemu-storage-daemon", "--blockdev", disk, "--export", served]) as process:
        try:
            wait_for(lambda: at.stat().st_size == 4096, what="it is not mounted")
        finally:
            process.kill()
    with pytest.raises(OSError, match="not connected"):
        at.read_bytes()
