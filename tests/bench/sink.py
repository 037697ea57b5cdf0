# SPDX-License-Identifier: GPL-2.0-only
"""The far end of the bulk transfers: takes TCP streams and UDP datagrams, and keeps nothing.

Prints "ready" once it listens. A TCP stream is answered, at its end, by the
number of its bytes; so its sender knows that every packet has arrived.
"""

from __future__ import annotations

import socket
import sys
import threading


def main() -> None:
    address, port = sys.argv[1], int(sys.argv[2])
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
    datagrams.bind((address, port))
    threading.Thread(target=_drain, args=(datagrams,), daemon=True).start()
    listener = socket.create_server((address, port))
    print("ready", flush=True)
    while True:
        stream, _ = listener.accept()
        with stream:
            stream.sendall(b"%d\n" % _length(stream))


def _drain(datagrams: socket.socket) -> None:
    while True:
        data, sender = datagrams.recvfrom(65536)
        if data == b"end":
            datagrams.sendto(b"end", sender)


def _length(stream: socket.socket) -> int:
    length = 0
    while data := stream.recv(1 << 20):
        length += len(data)
    return length


if __name__ == "__main__":
    main()
