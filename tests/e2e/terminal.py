#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Drives pangea run and pangea console through pseudo-terminals, as a person would."""

import os
import pty
import re
import select
import subprocess
import sys
import time


class Terminal:
    """A program on a pseudo-terminal of its own."""

    def __init__(self, limit_s, *command):
        self.limit_s = limit_s
        self.seen = b""
        master, slave = pty.openpty()
        self.fd = master
        self.child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave,
                                      start_new_session=True)
        os.close(slave)

    def read_some(self, wait_s):
        if select.select([self.fd], [], [], wait_s)[0]:
            try:
                self.seen += os.read(self.fd, 65536)
            except OSError:  # the other side is closed
                return False
        return True

    def expect(self, pattern):
        """Waits for the pattern; what came until its end is forgotten. Returns the match."""
        deadline = time.monotonic() + self.limit_s
        while not (match := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            if left <= 0 or not self.read_some(min(left, 1.0)):
                sys.exit(f"never seen: {pattern!r}; last: {self.seen[-600:]!r}")
        self.seen = self.seen[match.end():]
        return match

    def type(self, text):
        while text:
            text = text[os.write(self.fd, text[:512]):]
            self.read_some(0)

    def command(self, text, pattern):
        """Types a command at a shell; its answer, not the echo of it, must match."""
        self.type(text + b"\r")
        return self.expect(pattern)

    def end(self, code):
        deadline = time.monotonic() + self.limit_s
        while self.child.poll() is None:
            if time.monotonic() > deadline:
                sys.exit(f"{self.child.args[1]} did not end")
            self.read_some(0.1)
        if self.child.returncode != code:
            sys.exit(f"{self.child.args[1]} ended with {self.child.returncode}, not {code}")
        os.close(self.fd)


def main():
    pangea, state, kernel, initrd, append, limit_s = sys.argv[1:]
    limit_s = int(limit_s)
    run = Terminal(limit_s, pangea, "run", "--state-dir", state, "--name", "guest", "--kernel", kernel,
                   "--initrd", initrd, "--append", append, "--cpus", "2", "--mem", "320M", "--nodes", "2")
    run.expect(rb"The machine is yours")
    run.command(b"echo sum $((40 + 2))", rb"sum 42\r")
    run.command(b"kept=here", rb"# ")
    run.type(b"\x1dd")  # Ctrl-] d
    run.end(0)
    attach = (pangea, "console", "--state-dir", state, "guest")
    first = Terminal(limit_s, *attach)
    first.expect(rb"sum 42")  # the last of the console is shown again
    second = Terminal(limit_s, *attach)
    second.expect(rb"sum 42")
    first.command(b"echo still $kept", rb"still here\r")
    second.expect(rb"still here\r")  # who looks on sees it too
    second.command(b"echo and $((6 * 7)) more", rb"and 42 more\r")
    first.expect(rb"and 42 more\r")
    second.type(b"\x1dd")
    second.end(0)
    first.command(b"exit", rb"Power down")
    first.end(0)


if __name__ == "__main__":
    main()
