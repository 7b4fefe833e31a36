"""The words for limits of a disk."""

from aoe.config import meanings

LIMITS = (
    (
        "limit-iops",
        "N",
        "requests a second that all hosts together may make of a disk (0: no limit). What is over a limit is "
        "delayed by up to 0.25 s, and what would wait longer is dropped, and the client asks again",
    ),
    (
        "limit-bandwidth",
        "N",
        "bytes a second that all hosts together may read and write, such as 100M (0: no limit)",
    ),
    ("limit-client-iops", "N", "requests a second that each host may make of a disk (0: no limit)"),
    ("limit-client-bandwidth", "N", meanings.LIMIT_CLIENT_BANDWIDTH),
    (
        "limit-burst",
        "S",
        meanings.LIMIT_BURST,
    ),
)
"""Key of the file and name of the option, its value, and what it means."""
