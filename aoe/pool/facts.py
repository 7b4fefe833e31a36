"""Volumes of a pool as objects, for what shows them."""

import json
from typing import Any

from aoe import limits
from aoe.errors import PoolError
from aoe.pool.work import Work

Facts = dict[str, Any]


def facts_of(work: Work, volume: str) -> Facts:
    """A volume as an object. `own` bytes are those that nothing else refers to."""
    tree, found = work.tree, work.tree.volume(volume)
    head, kept = work.usage(volume)
    parent, clones = tree.parent(found), tree.clones(found)
    return {
        "volume": tree.said(volume),
        "uuid": found.uuid,
        "bytes": found.size,
        "format": found.head.format,
        "made": found.made,
        "path": work.path_of(volume),
        "allocated_bytes": head.allocated,
        "own_bytes": head.own,
        "snapshot_bytes": kept.own,
        "parent": tree.said(parent[0], parent[1].name) if parent else None,
        "clone_count": len(clones),
        "clones": [tree.said(it) for it in clones],
        "snapshot_count": len(found.snapshots),
        "snapshots": [
            {"name": it.name, "made": it.made, "bytes": it.image.size, "cause": it.cause}
            for it in found.snapshots
        ],
    }


def listed(work: Work, after: str = "") -> Facts:
    """Volumes behind one in the order of their names, as many as an answer has room for: `volumes`,
    `problems` of those that cannot be measured, the name of the `last`, and whether there are `more`. Of many
    snapshots or clones the last are told, and how many there are. With the last portion comes, under
    `leftovers`, what in the pool does not fit."""
    names = [it for it in sorted(work.volumes) if it > after]
    room, volumes, problems, last = limits.LISTED_BYTES, list[Facts](), list[str](), after
    for name in names:
        if room < 0:
            break
        try:
            volumes.append(_short(facts_of(work, name)))
            room -= len(json.dumps(volumes[-1]))
        except PoolError as error:
            problems.append(f"{work.tree.said(name)}: {error}")
            room -= len(problems[-1])
        last = name
    more = bool(names) and last != names[-1]
    left = [] if more else [it.sentence for it in work.leftovers[: limits.LISTED_LEFTOVERS_MAX]]
    return {"volumes": volumes, "problems": problems, "last": last, "more": more, "leftovers": left}


def _short(facts: Facts) -> Facts:
    most = limits.LISTED_STATES_MAX
    return {**facts, **{name: facts[name][-most:] for name in ("clones", "snapshots")}}
