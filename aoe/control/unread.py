"""A request that is still to be read from its connection: the opener reads it there itself, as there is no
other word for what a person wants than what that person wrote."""

import os
import socket


class Unread:
    """The next `length` bytes of a connection. `taken` is whether another process has read them; None while
    that is not known."""

    def __init__(self, connection: socket.socket, length: int) -> None:
        self._connection = connection
        self._length = length
        self.taken: bool | None = False

    def shown(self) -> int:
        """Another descriptor of the connection, for the process that is to read."""
        return os.dup(self._connection.fileno())

    def drop(self) -> None:
        """It is read, here unless another process has. OSError."""
        if self.taken is False:
            self._connection.recv(self._length)
