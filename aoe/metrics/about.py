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

ABOUT = (BUILD, STARTED, CPU, MEMORY, CHANGES, LINK_UP, LINK_MTU, INFO, STATE, FREE, SIZE)
"""All of them."""
