"""mmdebstrap without a network: a program of that name, which makes a small tree."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.tools import need, need_root

FAKE = """\
#!/bin/sh
# Its last word is the root, unless sources follow. What differs each time is what differs in Debian's.
set -e
for word; do case $word in */root) root=$word ;; esac; done
[ -z "$AOE_TEST_FAIL" ] || {{ echo "E: Unable to locate package $AOE_TEST_FAIL" >&2; exit 100; }}
mkdir -p "$root"
cd "$root"
mkdir -p boot etc/ssh usr/lib/modules/6.1.0-1 usr/bin var/log run tmp
printf 'I: installing essential packages...\\n' >&2
printf kernel >boot/vmlinuz-6.1.0-1
printf initramfs >boot/initrd.img-6.1.0-1
ln -s boot/vmlinuz-6.1.0-1 vmlinuz
for name in etc/ssh/ssh_host_rsa_key etc/machine-id var/log/dpkg.log; do
    cat /proc/sys/kernel/random/uuid >$name
done
printf ping >usr/bin/ping
ln usr/bin/ping usr/bin/ping6
for word; do
    case $word in --include=/*) at=$root${{word#*=}}; mkdir -p "${{at%/*}}"; touch "$at" ;; esac
done
rm -rf run/*
[ -z "$AOE_TEST_MORE" ] || printf "$AOE_TEST_MORE" >etc/more
if [ -n "$AOE_TEST_HANG" ]; then sleep 3600 & echo $$ >"$AOE_TEST_HANG"; wait; fi
"""


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Starts `aoe-cloud image` with words, and variables for the fake."""
    need_root()
    need("mke2fs", "unshare", "setpriv", "dpkg")
    programs = tmp_path / "programs"
    programs.mkdir()
    fake = programs / "mmdebstrap"
    fake.write_text(FAKE.replace("{{", "{").replace("}}", "}"))
    fake.chmod(0o755)

    def start(*words: str | Path, umask: int = -1, **variables: str) -> "subprocess.Popen[str]":
        path = f"{programs}:{os.environ['PATH']}"
        return subprocess.Popen(
            [sys.executable, "-m", "aoe.cli.cloud", "image", *map(str, words)],
            env={**os.environ, "PATH": path, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            umask=umask,
        )

    return start
