"""The layers of an image as a process of QEMU's has them open, and how one of them takes what it needs of
those below it, which then go, while clients use the image."""

import time
from typing import Any, Protocol

from aoe import limits, timing
from aoe.errors import ConfigurationError
from aoe.image.nodes import FASTEST, Node, overlay, without_uring
from aoe.image.qmp import Gone

_COPIED, _OVER = "pending", "concluded"
"""What a job is that waits for the change of its image, and one that has ended."""
_MOST = 0.99
"""Done, where that change is to come."""


class Do(Protocol):
    """Has the process do something. ConfigurationError, Gone."""

    def __call__(self, verb: str, **arguments: Any) -> Any: ...


class Graph:
    """Those of one process. ConfigurationError for what that refuses, Gone."""

    def __init__(self, do: Do) -> None:
        self._do = do
        self._nodes: dict[str, Node] = {}
        """As each was added, by name."""
        self._layers: list[str] = []
        """Names, the top first."""
        self._overlays = 0

    @property
    def top(self) -> str:
        """The name of what is served."""
        return self._layers[0]

    def carried(self) -> dict[str, Any]:
        """What the next program of this process goes on with (`go_on_with`)."""
        return {"nodes": self._nodes, "layers": self._layers, "overlays": self._overlays}

    def go_on_with(self, facts: dict[str, Any]) -> None:
        """What the last one had."""
        self._nodes, self._layers, self._overlays = facts["nodes"], facts["layers"], facts["overlays"]

    def add(self, node: Node) -> None:
        """Open a file, or the layer that is in files which were added; each layer before the one above it."""
        try:
            self._do("blockdev-add", **node)
        except ConfigurationError as error:
            if FASTEST not in str(error):
                raise
            node = without_uring(node)
            self._do("blockdev-add", **node)
        self._nodes[node["node-name"]] = node
        if isinstance(node.get("file"), str):
            self._layers.insert(0, node["node-name"])

    def go_on(self, directory: int, file: str) -> None:
        """In an empty overlay from now on. What was the top is not written any more."""
        self._give_up()
        self._overlays += 1
        below = self._layers[0]
        for node in overlay(self._overlays, directory, file):
            self.add(node)
        self._do("blockdev-snapshot", node=below, overlay=self._layers[0])

    def grow(self, size: int) -> None:
        """Let the disk have so many bytes."""
        top = self._layers[0]
        is_fixed = bool(self._nodes[top].get("read-only"))
        if is_fixed:
            self._reopen(0, is_fixed=False)
        self._do("block_resize", **{"node-name": top, "size": size})
        if is_fixed:
            self._reopen(0)

    def merge(self, at: int, end: int, base: str) -> float:
        """Let the layer number `at`, which is only read, take what it needs of those down to the number
        `end`, whose file is called `base`, or of all below it. That takes its time: how much is done, 0 to 1.
        It is called again until it is 1: then the others are not open any more, and what has changed is on
        stable storage."""
        name, job = f"merge-{self._layers[at]}-{end}", self._job()
        if job is None or job["id"] != name:
            self._give_up()
            self._begin(name, at, end, base)
            return 0.0
        if job["status"] == _COPIED:
            self._reopen(at, is_fixed=False)  # what was copied is stable before the image says that it was
            self._do("job-finalize", id=name)
            job = self._ended(name)
        if job["status"] != _OVER:
            return _MOST * float(job["current-progress"] / max(job["total-progress"], 1))
        self._do("job-dismiss", id=name)
        if "error" not in job:
            self._forget(at, end)
        self._reopen(at)
        if "error" in job:
            raise ConfigurationError(str(job["error"]))
        return 1.0

    def _begin(self, name: str, at: int, end: int, base: str) -> None:
        below = {"base-node": self._layers[end], "backing-file": base} if end < len(self._layers) else {}
        how = {"job-id": name, "auto-finalize": False, "auto-dismiss": False}
        self._reopen(at, is_fixed=False)
        self._do(
            "block-stream", device=self._layers[at], speed=limits.IMAGE_MERGED_BYTES_PER_S, **how, **below
        )

    def _reopen(self, at: int, *, is_fixed: bool | None = None) -> None:
        """As it is, to be written or not, or (None) as it was added; but what is below the top is only read.
        What was written to it is on stable storage then."""
        image = self._nodes[self._layers[at]]
        if is_fixed is None:
            is_fixed = at > 0 or bool(image.get("read-only"))
        file = self._nodes[image["file"]]
        under = self._layers[at + 1] if at + 1 < len(self._layers) else None
        own = {"read-only": is_fixed}
        self._do("blockdev-reopen", options=[file | own, image | own | {"backing": under}])

    def _forget(self, at: int, end: int) -> None:
        for name in self._layers[at + 1 : end]:
            self._do("blockdev-del", **{"node-name": name})
            self._do("blockdev-del", **{"node-name": self._nodes.pop(name)["file"]})
        del self._layers[at + 1 : end]

    def _job(self) -> dict[str, Any] | None:
        return next(iter(self._do("query-jobs")), None)

    def _ended(self, job: str) -> dict[str, Any]:
        until_s = time.monotonic() + timing.IMAGE_ANSWER_S
        while (found := self._job()) is None or found["status"] != _OVER:
            if found is None or time.monotonic() > until_s:
                raise Gone(f"{job} does not end")
            time.sleep(timing.IMAGE_LOOK_S)
        return found

    def _give_up(self) -> None:
        """What is under way; what it has copied is of use to the next one."""
        job = self._job()
        if job is None:
            return
        if job["status"] != _OVER:
            self._do("job-cancel", id=job["id"])
            self._ended(job["id"])
        self._do("job-dismiss", id=job["id"])
