"""What the service manager holds of an interface that the file leaves."""

import subprocess
import sys
from pathlib import Path

from tests.node.manager import Manager
from tests.support.labs.network import Lab
from tests.support.labs.restarts import service, site
from tests.support.waiting import wait_for


def links(manager: Manager) -> list[str]:
    return [name for name in manager.names() if name.startswith("aoe1-link-")]


def apply(lab: Lab, work: Path) -> None:
    words = ("apply", "--socket", str(work / "control"))
    done = subprocess.run(
        lab.command("target", sys.executable, "-m", "aoe.cli.target", *words),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done


def test_sockets_of_an_interface_that_the_file_leaves_are_held_no_more(engine: str, tmp_path: Path) -> None:
    each = 1 if engine == "python" else 2
    with site() as lab, service(lab, tmp_path, engine, ["1.0"]) as manager:
        wait_for(lambda: len(links(manager)) == 2 * each, 20, "both interfaces are held")
        both = set(links(manager))
        file = tmp_path / "target.toml"
        text = file.read_text()
        file.write_text(text.replace('["v0", "v1"]', '["v0"]'))
        apply(lab, tmp_path)
        wait_for(lambda: len(links(manager)) == each, 20, "the store has sockets of v1")
        assert set(links(manager)) < both
        file.write_text(text)
        apply(lab, tmp_path)
        wait_for(lambda: set(links(manager)) == both, 20, "v1 is not held again")
        manager.kill()
        manager.start(ready_s=60)
        assert set(links(manager)) == both
