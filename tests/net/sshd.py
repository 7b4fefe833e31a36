"""A real sshd in a lab, and a client that logs in as this user."""

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.labs.network import Lab
from tests.support.tools import need, need_root, tool, unavailable, which
from tests.support.waiting import wait_for

SERVER, CLIENT = "10.77.0.1", "10.77.0.2"
PORT = 2222
_CONFIG = """
Port {port}
ListenAddress {server}
HostKey {work}/host
AuthorizedKeysFile {work}/key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
"""


@contextmanager
def sshd(lab: Lab, work: Path) -> Iterator[list[str | Path]]:
    """The words of `ssh` on the client's side, behind which a command for the target's side follows."""
    need_sshd()
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it changes its root to
    for name in ("host", "key"):
        tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / name)
    (work / "config").write_text(_CONFIG.format(port=PORT, server=SERVER, work=work))
    for side, address in (("target", SERVER), ("client", CLIENT)):
        lab.run(side, "ip", "address", "add", f"{address}/24", "dev", "v0", check=True)
    program = which("sshd")
    assert program is not None
    with (work / "log").open("w") as log:
        server = lab.popen("target", program, "-D", "-e", "-f", work / "config", stderr=log)
    words = ["ssh", "-F", "/dev/null", "-p", str(PORT), "-i", work / "key", "-o", "LogLevel=ERROR"]
    words += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
    words.append(f"{getpass.getuser()}@{SERVER}")
    try:
        wait_for(lambda: lab.run("client", *words, "true").returncode == 0, what="ssh lets no one in")
        yield words
    finally:
        server.terminate()
        server.wait(30)


def need_sshd() -> None:
    """Skip where there is none, or where it cannot change the user."""
    need("sshd", "ssh", "ssh-keygen")
    need_root()
    mapped = Path("/proc/self/uid_map").read_text().split()
    if mapped[2] == "1":
        unavailable("sshd needs more users than this namespace has; run the tests as root")
