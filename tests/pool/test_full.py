"""Verbs of a pool of images in qcow2 whose store is full, or fails, at any of their calls: nothing is
half-made, and each disk is whole. Here some of the calls; `tools/soak` does them all."""

from collections.abc import Iterator

import pytest

from aoe.pool import settling
from tests.pool.full_store import VERBS, FullStore
from tests.support.labs.fault_disk import small_filesystem
from tests.support.tools import need

EVERY = 5
STORE_BYTES = 32 << 20


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FullStore]:
    need("qemu-img", "qemu-io")
    directory = tmp_path_factory.mktemp("full") / "store"
    with small_filesystem("ext4", directory, STORE_BYTES, "loop", "-m", "0") as store:
        yield FullStore(store)


@pytest.mark.parametrize("verb", VERBS)
def test_a_call_that_fails_leaves_nothing_half_made(verb: str, full: FullStore) -> None:
    assert full.faults(verb, seed=[*VERBS].index(verb), every=EVERY) == []


@pytest.mark.parametrize("verb", ["import", "template"])
def test_an_image_that_is_to_be_filled_is_made_by_a_program_that_may_fail(verb: str, full: FullStore) -> None:
    """That is call number 1."""
    assert full.faults(verb, seed=1, every=50) == []


@pytest.mark.parametrize(
    ("verb", "blocks"), [("snapshot", 2), ("clone-volume", 80), ("save", 0), ("merge", 1)]
)
def test_a_store_that_is_full_leaves_nothing_half_made(verb: str, blocks: int, full: FullStore) -> None:
    assert full.faults_of_room(verb, blocks) == []


def test_what_is_half_made_is_found(full: FullStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as the snapshot for a clone that did not come about."""
    monkeypatch.setattr(settling, "_of_clones", lambda _: ())
    assert full.faults("clone-volume", seed=2, every=EVERY)
