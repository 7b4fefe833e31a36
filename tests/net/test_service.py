"""A service whose file is changed and applied while clients use it."""

import os
from pathlib import Path

import pytest

from aoe.disk.open import open_disk
from bench.image import write_image
from tests.net.service import Service, export
from tests.support.labs import applies
from tests.support.labs.load import SECTORS
from tests.support.labs.network import Lab
from tests.support.labs.peers import image
from tests.support.waiting import wait_for

MTU = applies.MTU
APPLIES = 50


def addresses(service: Service) -> list[str]:
    """What is served."""
    return [it["address"] for it in service.ask("status")["exports"] if it["state"] == "serving"]


@pytest.mark.parametrize("rw", ["randread", "randrw"])
def test_no_frame_is_lost_while_others_come_change_and_go(
    rw: str, engine: str, load: Path, lab: Lab, tmp_path: Path
) -> None:
    """`tools/soak` does it 1,000 times."""
    found = applies.run(lab, tmp_path, load, rw, seed=1, times=APPLIES)
    print(found)
    assert not found["faults"]


def test_what_a_client_uses_is_not_taken_away(engine: str, load: Path, lab: Lab, tmp_path: Path) -> None:
    used, idle = (
        export(write_image(tmp_path / "used", SECTORS), "1.1"),
        export(tmp_path / "idle", "1.2"),
    )
    with Service(lab, tmp_path, [used, idle]) as service:
        lab.run(
            "client", load, "v0", "1", "1", "--rw", "randread", "--sectors", "8", "--seconds", "1", timeout=30
        )
        service.write([])
        said = service.apply(exit_status=1)
        assert said.splitlines() == [
            f"e1.2: remove {tmp_path}/idle",
            "stays: e1.1: a client used it in the last minute; apply --remove does it now",
        ]
        assert addresses(service) == []
        (kept,) = service.ask("status")["exports"]
        assert (kept["address"], kept["state"]) == ("e1.1", "kept")
        assert kept["unused_s"] < 30
        service.apply("--remove")
        assert service.ask("status")["exports"] == []


def test_a_file_is_put_in_its_place_and_a_wrong_one_is_not(engine: str, lab: Lab, tmp_path: Path) -> None:
    first, second = export(tmp_path / "a", "1.1"), export(tmp_path / "b", "1.2")
    with Service(lab, tmp_path, [first]) as service:
        before = service.file.read_text()
        service.file.chmod(0o640)
        new = tmp_path / "new.toml"
        new.write_text(before + second)
        before_number = service.ask("status")["number"]
        assert "name it with --config" in service.apply(new, exit_status=2), "the daemon's word is not enough"
        assert (service.file.read_text(), service.ask("status")["number"]) == (before, before_number)
        words = ("--config", service.file, new)
        assert service.apply("--plan", *words) == f"e1.2: serve {tmp_path}/b\n"
        assert (service.file.read_text(), addresses(service)) == (before, ["e1.1"])
        number = service.ask("status")["number"]
        assert "is number" in service.apply(*words, "--expect", str(number + 7), exit_status=2)
        assert service.file.read_text() == before, "nothing is changed"
        service.apply(*words, "--expect", str(number))
        assert (service.file.read_text(), addresses(service)) == (before + second, ["e1.1", "e1.2"])
        assert service.file.stat().st_mode & 0o777 == 0o640
        assert service.file.with_name("target.toml.old").read_text() == before
        taken = image(tmp_path / "taken")
        other = open_disk(taken)
        for wrong, why in (
            ("x = [", "new.toml:1: not TOML"),
            (before + export(tmp_path / "b", "1.1"), "new.toml"),
            (before + export(taken, "1.3"), "e1.3"),
        ):
            new.write_text(wrong)
            assert why in service.apply(*words, exit_status=2)
            assert (service.file.read_text(), addresses(service)) == (before + second, ["e1.1", "e1.2"])
        other.close()


def test_the_signal_applies_the_file_and_looks_at_sizes(engine: str, lab: Lab, tmp_path: Path) -> None:
    with Service(lab, tmp_path, [export(tmp_path / "a", "1.1")]) as service:
        os.truncate(tmp_path / "a", 4 << 20)
        service.write([export(tmp_path / "a", "1.1"), export(tmp_path / "b", "1.2")])
        service.reload()
        wait_for(lambda: f"e1.1: now {4 << 20} bytes" in service.output, what=lambda: service.output)
        assert addresses(service) == ["e1.1", "e1.2"]
        service.file.write_text("not a file")
        service.reload()
        service.says("target.toml:1: not TOML")
        assert addresses(service) == ["e1.1", "e1.2"]


def test_two_daemons_on_one_file_or_state_are_refused(engine: str, lab: Lab, tmp_path: Path) -> None:
    with Service(lab, tmp_path, [export(tmp_path / "a", "1.1")]) as service:
        other = Service(lab, tmp_path, [export(tmp_path / "a", "1.1")])
        other.socket = tmp_path / "other"
        other.argv[-1] = other.socket
        assert other.launch().wait() == 2
        assert "target.toml is used by " in other.errors
        assert f"(process {service.pid})" in other.errors
        elsewhere = tmp_path / "elsewhere.toml"
        elsewhere.write_text(service.file.read_text())
        other.argv[other.argv.index("--config") + 1] = elsewhere
        assert other.launch().wait() == 2
        assert f"{tmp_path}/state is used by" in other.errors


def test_an_interface_that_comes_later_is_served(engine: str, lab: Lab, tmp_path: Path) -> None:
    with Service(lab, tmp_path, [export(tmp_path / "a", "1.1")], interfaces=("v0", "v1")) as service:
        found = {it["name"]: it["up"] for it in service.ask("status")["interfaces"]}
        assert found == {"v0": True, "v1": False}
        lab.cable("target", "client")
        client = lab.client(1, 1, interface="v1")
        wait_for(lambda: client.identify() is not None, what="nothing is served on v1")
        assert addresses(service) == ["e1.1"]
