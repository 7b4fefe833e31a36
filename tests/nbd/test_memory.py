"""Memory that the plugin cannot have is an error, with the word that was too much."""

import os
import subprocess
from pathlib import Path

import pytest

from aoe.nbd.nbdkit import PLUGIN
from tests.support.labs.nbdkit import need_nbdkit
from tests.support.tools import need

SHORT = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Whether the plugin asks, and not nbdkit, for one of those that it is not to have. */
static int is_short(void *caller, int wanted)
{
    Dl_info who;
    int is = wanted && dladdr(caller, &who) && strstr(who.dli_fname, "aoe_nbd_plugin");
    errno = is ? ENOMEM : errno;
    return is;
}

char *strdup(const char *text)
{
    if (is_short(__builtin_return_address(0), strstr(text, "large") != NULL))
        return NULL;
    size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

void *calloc(size_t count, size_t size)
{
    static void *(*real)(size_t, size_t);
    if (is_short(__builtin_return_address(0), getenv("SHORT_OF_ALL") != NULL))
        return NULL;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "calloc");
    return real(count, size);
}
"""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that is in the way when the plugin asks for memory."""
    need_nbdkit()
    need("gcc")
    library = tmp_path_factory.mktemp("short") / "short.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-fno-builtin", "-x", "c", "-", "-o", str(library), "-ldl"]
    subprocess.run(command, input=SHORT, text=True, check=True)
    return library


def said(short: Path, *words: str, **environment: str) -> str:
    """What nbdkit says as it ends; it never serves, and is not killed by a signal."""
    command = ["nbdkit", "-f", str(PLUGIN), *words]
    there = {**os.environ, "LD_PRELOAD": str(short), **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=there)
    assert done.returncode == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("key", ["interface", "link", "fence"])
def test_a_word_that_there_is_no_memory_for_is_named(key: str, short: Path) -> None:
    assert f"{key}=large: no memory" in said(short, f"{key}=large")


def test_the_first_that_fits_do_not_matter(short: Path) -> None:
    words = ["address=e1.1", "interface=lo", "fence=word", "fence=large", "fence=more"]
    assert "fence=large: no memory" in said(short, *words)


def test_a_disk_that_there_is_no_memory_for_is_an_error(short: Path) -> None:
    told = said(short, "address=e1.1", "interface=lo", SHORT_OF_ALL="1")
    assert "the interfaces cannot be used: Cannot allocate memory" in told


def test_with_memory_the_same_words_are_taken(short: Path) -> None:
    assert "address=eSHELF.SLOT and interface=NAME are needed" in said(short, "fence=word", "address=e1.1")
