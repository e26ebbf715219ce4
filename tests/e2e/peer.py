#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Ill-behaved peers for the end-to-end tests: they occupy a port, or talk nonsense to a process's ports.

usage: peer.py occupy FILE SECONDS   listens on a free port, writes its number to FILE
       peer.py listens PID           succeeds when PID listens on a TCP port
       peer.py talk PID KIND         connects to every TCP port PID listens on and sends nonsense;
                                     succeeds when the process hangs up (or refuses) and lives on
"""

import os
import re
import socket
import sys
import time

# A peer that is silent or stops half-way is hung up on after the programs' own handshake limit.
HANG_UP_LIMIT_S = 30
# Enough to overrun any one header, and a length no limit allows.
NONSENSE = {
    "garbage": bytes((i * 73 + 41) & 0xFF for i in range(4096)),
    "magic": b"GET / HTTP/1.1\r\nHost: example\r\n\r\n",
    "length": b"\xff" * 64,
    "half": b"\x50\x47",
    "silent": b"",
}


def occupy(path, seconds):
    with socket.create_server(("127.0.0.1", 0)) as server:
        with open(path + ".new", "w", encoding="ascii") as file:
            file.write(str(server.getsockname()[1]))
        os.rename(path + ".new", path)
        time.sleep(float(seconds))


def ports_of(pid):
    """The TCP ports that a process listens on, from its socket inodes."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            match = re.match(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
        if match:
            inodes.add(match.group(1))
    ports = []
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as table:
        for line in list(table)[1:]:
            field = line.split()
            if field[3] == "0A" and field[9] in inodes:
                ports.append(int(field[1].split(":")[1], 16))
    return ports


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def hangs_up(port, data, half_close):
    """Whether the other side ends the connection in time, whatever it answers first."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=HANG_UP_LIMIT_S) as peer:
            peer.sendall(data)
            print("sent", flush=True)
            if half_close:
                peer.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + HANG_UP_LIMIT_S
            while time.monotonic() < deadline:
                if not peer.recv(4096):
                    return True
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def talk(pid, kind):
    ports = ports_of(pid)
    if not ports:
        sys.exit(f"process {pid} listens on no port")
    print(f"process {pid} listens on {ports}; sending {kind}")
    for port in ports:
        if not hangs_up(port, NONSENSE[kind], kind == "half"):
            sys.exit(f"port {port} holds on to a peer that sends {kind}")
    if not alive(pid):
        sys.exit(f"process {pid} did not survive a peer that sends {kind}")


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "occupy":
        occupy(sys.argv[2], sys.argv[3])
    elif len(sys.argv) == 3 and sys.argv[1] == "listens":
        sys.exit(0 if ports_of(sys.argv[2]) else 1)
    elif len(sys.argv) == 4 and sys.argv[1] == "talk" and sys.argv[3] in NONSENSE:
        talk(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
