"""A lab for each test, with frames that carry a page."""

from collections.abc import Iterator

import pytest

from tests.support.labs.network import Lab
from tests.support.tools import need_namespaces


@pytest.fixture
def lab() -> Iterator[Lab]:
    need_namespaces()
    with Lab(mtu=9000) as made:
        yield made
