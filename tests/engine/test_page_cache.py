"""A read that the page cache does not have costs one look, and then asks the disk, in either language."""

import subprocess
from pathlib import Path

import pytest

from aoe.disk.syscalls import is_memory
from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.tools import need, unavailable
from tests.support.waiting import PATIENCE_S

READS = 20
COUNTER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

/* The page cache never has anything here; each look and each read is a letter in a file, opened before the
 * target confines itself. */
static int counted;

__attribute__((constructor)) static void begin(void)
{
    counted = open(getenv("COUNTED"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static void note(char what)
{
    if (write(counted, &what, 1) != 1)
        abort();
}

ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    static ssize_t (*real)(int, const struct iovec *, int, off_t, int);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "preadv2");
    note(flags & RWF_NOWAIT ? 'l' : 'r');
    errno = EAGAIN;
    return flags & RWF_NOWAIT ? -1 : real(fd, parts, count, offset, flags);
}

ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return preadv2(fd, parts, count, offset, flags);
}
"""


@pytest.mark.parametrize(("engine", "each"), [("c", "l"), ("python", "lr")])
def test_one_look_for_each_read(engine: str, each: str, lab: Lab, tmp_path: Path) -> None:
    """What the engine gives to io_uring is no system call of its own."""
    need("gcc")
    library, counted = tmp_path / "counter.so", tmp_path / "counted"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=COUNTER, text=True, check=True)
    prefix = ("env", f"LD_PRELOAD={library}", f"COUNTED={counted}")
    disk = image(tmp_path / "disk", 2 * READS)
    with disk.open("rb") as file:
        if is_memory(file.fileno()):
            unavailable(f"{tmp_path} is in memory, which has no page cache to look at")
    with AoeTarget(lab, tmp_path, f"{disk}=1.1", "--engine", engine, prefix=prefix) as target:
        client = lab.client(timeout=PATIENCE_S)  # it asks for nothing twice
        client.identify()
        counted.write_text("")
        for turn in range(READS):
            assert client.read(2 * turn, 2) == bytes(1024)
        assert "Traceback" not in target.errors
    assert counted.read_text() == each * READS
