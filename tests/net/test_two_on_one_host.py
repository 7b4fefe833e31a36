"""Two processes of one host and one address: the second is refused, as no packet tells one of the other."""

import json
import time
from pathlib import Path

from tests.support.labs.network import Lab
from tests.support.labs.peers import AoeTarget, image
from tests.support.waiting import wait_for


def target(
    lab: Lab, work: Path, name: str, *more: str, interface: str = "v0", side: str = "target"
) -> AoeTarget:
    """A server of an image and a state directory of its own."""
    disk = image(work / f"{name}.img")
    arguments = (f"{disk}=7.0,serial={name}", *more)
    return AoeTarget(lab, work, *arguments, interfaces=[interface], state_dir=work / name, side=side)


def serves(made: AoeTarget) -> bool:
    return "e7.0:" in made.output


def test_a_second_process_on_one_interface_is_refused(lab: Lab, tmp_path: Path) -> None:
    with target(lab, tmp_path, "one") as one:
        two = target(lab, tmp_path, "two").launch()
        assert two.wait(30) == 2
        (line,) = [line for line in two.errors.splitlines() if "7.0" in line]
        assert f"(process {one.pid})" in line
        assert "v0" in line
        other = target(lab, tmp_path, "other", interface="lo").launch()
        far = target(lab, tmp_path, "far", interface="lo", side="client").launch()
        for made in (other, far):
            wait_for(lambda made=made: serves(made))
            made.kill()


def test_it_is_waited_for_while_it_ends_and_its_death_frees_the_address(lab: Lab, tmp_path: Path) -> None:
    with target(lab, tmp_path, "one") as one:
        two = target(lab, tmp_path, "two").launch()
        time.sleep(1.5)  # it gives up after five
        assert two.alive
        assert not serves(two)
        one.kill()
        wait_for(lambda: serves(two), what=lambda: two.errors)
        two.kill()


def test_force_serves_beside_it_and_says_so(lab: Lab, tmp_path: Path) -> None:
    with target(lab, tmp_path, "one") as one:
        two = target(lab, tmp_path, "two", "--force", "--json").launch()
        wait_for(lambda: two.output, what=lambda: two.errors)
        assert json.loads(two.output.splitlines()[0])["address"] == "e7.0"
        two.says(f"(process {one.pid})")
        two.kill()
