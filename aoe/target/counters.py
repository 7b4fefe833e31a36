"""What each counter of a target means. The manual is made of this; a test compares it with the code."""

COUNTERS = {
    # What was asked for
    "reads": "READ commands that were given to a disk.",
    "writes": "WRITE commands that were given to a disk.",
    "flushes": "FLUSH commands that were given to a disk.",
    "trims": "TRIM commands that were given to a disk.",
    "verifies": "READ VERIFY commands that were given to a disk.",
    "identify": "IDENTIFY commands that were answered.",
    "no_data_commands": "Other ATA commands that move no data.",
    "cache_on": "Times that a client switched the write cache on.",
    "cache_off": "Times that a client switched the write cache off.",
    "queries": "Config, mask and reserve messages that were answered and changed nothing.",
    "changes": "Config, mask and reserve messages that changed something.",
    "engine_reads": "READ commands that the compiled engine did alone.",
    "engine_writes": "WRITE commands that the compiled engine did alone.",
    "engine_flushes": "FLUSH commands that the compiled engine did alone.",
    "engine_handed_up": "Frames that the compiled engine left to Python.",
    # What failed or was refused
    "refused_ata": "ATA commands that were answered with an error: past the end of the disk, not "
    "supported, or a write to a read-only disk.",
    "refused_admin": "Config, mask and reserve messages that were refused.",
    "disk_errors": "Requests that a disk failed.",
    "engine_disk_errors": "Transfers that failed in the compiled engine. Python then tries them again.",
    "state_not_saved": "Changes that could not be kept in the state directory, and were refused.",
    "address_claimed": "Answers of another target for one of our addresses.",
    "clock_stepped": "Times that the clock of the system jumped. Writes that waited then are expired.",
    "engine_clock_stepped": "The same, as seen by the compiled engine.",
    "send_lost": "Replies of the compiled engine that an interface did not take.",
    # What was dropped without an answer
    "masked": "Frames of hosts that are not in the mask list.",
    "reserved": "Commands that were refused because another host holds the reservation.",
    "expired": "Writes that waited longer than --max-frame-age.",
    "stale": "Copies of requests that our initiator has finished with, or that it sent to an earlier run of "
    "the target.",
    "limited": "Requests over a limit of their disk or host (--limit-iops and the like) that it would have "
    "delayed for too long. The client asks again.",
    "queue_full": "Frames that found the queue of their disk full. The client asks again; a smaller "
    "--buffer-count helps.",
    "ring_full": "Frames that the kernel dropped because the receive ring was full. The client asks again; a "
    "smaller --buffer-count helps.",
    "paced_queue_full": "Answers to broadcasts that found too many others waiting to be sent.",
    "no_thread": "Requests for which no thread could be started. The client asks again.",
    "config_mismatch": "Tests of a config string that is another one.",
    "wildcard": "Messages to all shelves or slots that are answered for one only.",
    "other_address": "Frames for another shelf or slot.",
    "other_host": "Frames for another MAC, which an interface in promiscuous mode sees.",
    "foreign_destination": "Frames for another MAC that the interface let through.",
    "group_source": "Frames whose source address is not that of a host.",
    "response": "Frames that are answers, not requests.",
    "runt": "Frames that are too short to be AoE.",
    "truncated": "Frames that are shorter than the message that they claim to be.",
    "wrong_ethertype": "Frames that are not AoE.",
    "lying_length": "Messages whose string or list is longer than the frame.",
    "bad_version": "Frames of another AoE version. They are answered with an AoE error.",
    "unknown_command": "AoE commands that do not exist. They are answered with an AoE error.",
    "mtu_too_small": "Requests that came over an interface whose MTU has no room for one sector.",
    "reply_too_long": "Questions for a list that does not fit the MTU.",
}

WORK = frozenset(list(COUNTERS)[: list(COUNTERS).index("engine_handed_up") + 1])
"""Those of what was asked for and done; the others count what went wrong, or was refused or dropped."""

LINK_COUNTERS = {
    "receive_error": "Errors of the socket.",
    "receive_too_long": "Frames that are longer than the MTU.",
    "other_host": "Frames for other hosts.",
    "queue_full": "Datagrams that came faster than they were read.",
    "not_a_peer": "Datagrams of hosts that are not named as a peer.",
    "rebound": "Times that the interface was lost and came back.",
    "send_queue_full": "Replies of Python that found the send queue full.",
    "send_too_late": "Replies of Python that waited too long for room in the send queue.",
    "send_no_buffer": "Replies of Python for which the kernel had no memory.",
    "send_link_down": "Replies of Python while the link was down.",
    "send_too_long": "Replies of Python that were longer than the MTU.",
}
"""Counters of an interface or link: they are printed as NAME.COUNTER."""
