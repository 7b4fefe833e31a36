"""What is said of a key of the file, and of the option of `serve` that means the same."""

ENGINE = (
    "which code moves the sectors: auto takes the compiled engine on Ethernet interfaces, and Python, with a "
    "line that says why, where the engine cannot run"
)
MAX_FRAME_AGE = "drop a write that waited longer than this before the disk got it (1)"
BUFFER_COUNT = (
    "messages that a client may have outstanding; by default what the receive buffer holds, up to 64"
)
STATE_DIR = "where config string, mask list, reservation and serial of each disk are kept"
LENGTH = "serve only so many sectors (all)"
DURABILITY = (
    "what a write reply means: the data is on stable storage (write-through, the default), or will be after "
    "the next FLUSH reply (write-back)"
)
COPY_OF = (
    "id of the image that the disk is a copy of, which makes it read-only. Servers that show one id and one "
    "serial are one disk to our initiator, although each has a copy of its own"
)
LIMIT_CLIENT_BANDWIDTH = "bytes a second that each host may read and write (0: no limit)"
LIMIT_BURST = "after a pause, as much as a limit lets pass in so many seconds may come at once (0.1)"
