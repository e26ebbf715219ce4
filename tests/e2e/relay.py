#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A TCP relay whose connections can be cut, for tests of links that are made again.

usage: relay.py FILE HOST:PORT   listens on a free port of 127.0.0.1, writes its HOST:PORT to FILE, and
                                 connects each peer to the target. SIGUSR1 resets all connections;
                                 a target that cannot be reached resets the peer. It ends with its parent.
"""

import os
import selectors
import signal
import socket
import struct
import sys

LIMIT = 1 << 20
cut_asked = False


def cut(*_):
    global cut_asked
    cut_asked = True


def reset(sock):
    """Ends a connection so that the other side sees a reset, no end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Relay:
    def __init__(self, target):
        self.target = target
        self.selector = selectors.DefaultSelector()
        self.other = {}
        self.waiting = {}

    def watch(self, sock):
        """Reads from it while the other side keeps up; writes while something waits for it."""
        events = 0
        if len(self.waiting[self.other[sock]]) < LIMIT:
            events |= selectors.EVENT_READ
        if self.waiting[sock]:
            events |= selectors.EVENT_WRITE
        try:
            self.selector.unregister(sock)
        except KeyError:
            pass
        if events:
            self.selector.register(sock, events)

    def open(self, peer):
        try:
            target = socket.create_connection(self.target, timeout=5)
        except OSError:
            reset(peer)
            return
        self.other[peer], self.other[target] = target, peer
        self.waiting[peer], self.waiting[target] = b"", b""
        for sock in (peer, target):
            sock.setblocking(False)
            self.watch(sock)

    def close(self, sock, end):
        pair = (sock, self.other[sock])
        for one in pair:
            try:
                self.selector.unregister(one)
            except KeyError:
                pass
            del self.other[one], self.waiting[one]
            end(one)

    def serve(self, sock, events):
        other = self.other.get(sock)
        if other is None:
            return
        try:
            if events & selectors.EVENT_READ:
                data = sock.recv(65536)
                if not data:
                    if self.waiting[other]:
                        other.setblocking(True)
                        other.sendall(self.waiting[other])
                    self.close(sock, lambda one: one.close())
                    return
                self.waiting[other] += data
            for one in (sock, other):
                if self.waiting[one]:
                    try:
                        self.waiting[one] = self.waiting[one][one.send(self.waiting[one]):]
                    except BlockingIOError:
                        pass
            self.watch(sock)
            self.watch(other)
        except OSError:
            self.close(sock, reset)


def main():
    global cut_asked
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    host, port = sys.argv[2].rsplit(":", 1)
    relay = Relay((host, int(port)))
    server = socket.create_server(("127.0.0.1", 0))
    relay.selector.register(server, selectors.EVENT_READ)
    signal.signal(signal.SIGUSR1, cut)
    with open(sys.argv[1] + ".new", "w", encoding="ascii") as file:
        file.write("127.0.0.1:%d\n" % server.getsockname()[1])
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    parent = os.getppid()
    while os.getppid() == parent:
        for key, events in relay.selector.select(0.1):
            if key.fileobj is server:
                relay.open(server.accept()[0])
            else:
                relay.serve(key.fileobj, events)
        if cut_asked:
            cut_asked = False
            for sock in list(relay.other):
                if sock in relay.other:
                    relay.close(sock, reset)


if __name__ == "__main__":
    main()
