"""Send pickled values and file descriptors over a Unix socket."""

import pickle
import socket
import struct
from collections.abc import Sequence
from typing import Any

_LENGTH = struct.Struct("!I")
MAX_FDS = 8


def send(to: socket.socket, value: object, fds: Sequence[int] = ()) -> None:
    """Send a message: a value and file descriptors. Raises OSError if the other end is closed."""
    data = pickle.dumps(value)
    head = _LENGTH.pack(len(data))
    if fds:
        socket.send_fds(to, [head], fds)
    else:
        to.sendall(head)
    to.sendall(data)


def receive(connection: socket.socket) -> tuple[Any, list[int]]:
    """Wait for a message, and return its value and file descriptors.

    Raises EOFError if the other end is closed, and OSError if the connection is broken.
    """
    head, fds, _, _ = socket.recv_fds(connection, _LENGTH.size, MAX_FDS)
    if not head:
        raise EOFError
    head += _exactly(connection, _LENGTH.size - len(head))
    return pickle.loads(_exactly(connection, _LENGTH.unpack(head)[0])), fds


def _exactly(connection: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = connection.recv(count)
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
