#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Types a large file at a real guest through pangea run, and compares what arrived there.

usage: typed.py LIMIT_S BYTES COMMAND...   the command is a pangea run whose guest gives a shell
"""

import hashlib
import os
import re
import select
import subprocess
import sys
import time


def main():
    limit_s, size, command = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    run = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    data = os.urandom(size)
    seen = b""

    def expect(pattern):
        nonlocal seen
        deadline = time.monotonic() + limit_s
        while not (match := re.search(pattern, seen)):
            if time.monotonic() > deadline:
                sys.exit(f"never seen: {pattern!r}; last: {seen[-600:]!r}")
            if select.select([run.stdout], [], [], 1)[0]:
                some = os.read(run.stdout.fileno(), 65536)
                if not some:
                    sys.exit(f"it ended before {pattern!r}; last: {seen[-600:]!r}")
                seen += some
        seen = seen[match.end():]
        return match

    def send(text):
        run.stdin.write(text)
        run.stdin.flush()

    expect(rb"[#$] ")
    # The line waits for the reader (crtscts); no byte of it means anything but itself (raw).
    send(b"stty raw -echo crtscts; echo rea''dy; head -c %d | md5sum; stty sane\r" % size)
    expect(rb"ready")
    began = time.monotonic()
    send(data)
    sums = expect(rb"([0-9a-f]{32})  -").group(1).decode()
    took = time.monotonic() - began
    if sums != hashlib.md5(data).hexdigest():
        sys.exit(f"{size} bytes did not arrive whole: {sums}")
    print(f"{size} bytes arrived whole, after {took:.1f} s")
    expect(rb"[#$] ")
    send(b"exit\r")
    run.stdin.close()
    while os.read(run.stdout.fileno(), 65536):
        pass
    sys.exit(run.wait(limit_s))


main()
