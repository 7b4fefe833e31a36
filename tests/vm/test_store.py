"""What the tests of the service rest on: the stand-in for systemd's store, beside the real one."""

import pytest

from tests.vm import store
from tests.vm.conftest import Site

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1800)]


def test_the_stand_in_does_what_systemd_does(debian: Site) -> None:
    with debian.booted(store.STORING) as guest:
        store.check_against_the_stand_in(guest)
