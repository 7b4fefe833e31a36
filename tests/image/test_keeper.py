"""The process that has images served, asked by a target of another release."""

import json
from typing import Any

import pytest

from aoe.image.keeper import Answering
from aoe.image.serving import Images


@pytest.mark.parametrize(
    "asked",
    [
        {"verb": "later", "path": "/image"},
        {"verb": "open", "wanted": {"path": "/image", "format": "qcow2", "later": 1}},
        {"verb": "merge", "path": "/image"},
    ],
)
def test_what_it_does_not_know_is_said_with_the_remedy(images: Images, asked: dict[str, Any]) -> None:
    said, descriptors = Answering(images).answered(json.dumps(asked).encode())
    assert "is of another release than what asks it" in said["error"]
    assert said["error"].endswith("stop the target, and start it again")
    assert descriptors == []
