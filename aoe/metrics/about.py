"""What Prometheus is told besides what was counted: what a target is made of, and how that stands."""

from aoe.metrics.exposition import Family

BUILD = Family("aoe_build_info", "gauge", "Always 1; the version, and the engine that serves: c or python.")
STARTED = Family("process_start_time_seconds", "gauge", "When the process began, in seconds since 1970.")
CPU = Family("process_cpu_seconds_total", "counter", "CPU time of the process, of all its threads.")
MEMORY = Family("process_resident_memory_bytes", "gauge", "Memory that the process has in RAM.")
CHANGES = Family("aoe_target_change_number", "gauge", "That of the last change, as status tells it.")
LINK_UP = Family("aoe_link_up", "gauge", "1: the interface is there and has a carrier.")
LINK_MTU = Family("aoe_link_mtu_bytes", "gauge", "MTU of an interface or UDP link.")
INFO = Family(
    "aoe_export_info",
    "gauge",
    "Always 1; what is served at an address. Its label export is that of the others.",
)
STATE = Family(
    "aoe_export_state",
    "gauge",
    "Always 1; the label tells how an address stands: serving, waiting, kept, failed or draining.",
)
FREE = Family(
    "aoe_export_filesystem_free_bytes",
    "gauge",
    "What is left for writing on the filesystem of an export that is a file.",
)
SIZE = Family("aoe_export_filesystem_size_bytes", "gauge", "Size of that filesystem.")
POOL_UP = Family("aoe_pool_up", "gauge", "1: the pool is there, and this service works on it.")
POOL_SIZE = Family("aoe_pool_size_bytes", "gauge", "Size of the store of a pool.")
POOL_FREE = Family("aoe_pool_free_bytes", "gauge", "What of that is free.")
POOL_RESERVE = Family(
    "aoe_pool_reserve_bytes",
    "gauge",
    "With less free than this no volume, clone or snapshot is made; writes go on until nothing is left.",
)
POOL_PROMISED = Family(
    "aoe_pool_promised_bytes", "gauge", "Sizes of all disks of a pool, which may be more than its store has."
)
POOL_KEPT = Family(
    "aoe_pool_snapshot_bytes",
    "gauge",
    "What only snapshots refer to, or less: what several of them share is not in it.",
)
POOL_GROWTH = Family(
    "aoe_pool_growth_bytes",
    "gauge",
    "What writes may come to take of that store besides, or less: the sizes of the disks without what each "
    "has alone already.",
)
POOL_VOLUMES = Family("aoe_pool_volumes", "gauge", "Volumes of a pool.")
POOL = (POOL_UP, POOL_SIZE, POOL_FREE, POOL_RESERVE, POOL_PROMISED, POOL_KEPT, POOL_GROWTH, POOL_VOLUMES)

ABOUT = (BUILD, STARTED, CPU, MEMORY, CHANGES, LINK_UP, LINK_MTU, INFO, STATE, FREE, SIZE, *POOL)
"""All of them."""
