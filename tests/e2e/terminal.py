#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A person at a terminal: programs on pseudo-terminals of their own, what they show, what is typed."""

import os
import pty
import re
import select
import signal
import sys
import termios
import time


class Terminal:
    """A program on a terminal that controls it, and that answers the one question that shells ask."""

    def __init__(self, limit_s, *command):
        self.limit_s = limit_s
        self.command = command
        self.seen = b""
        self.tail = b""
        self.questions = 0
        self.code = None
        self.fd, self.keep = pty.openpty()
        self.before = termios.tcgetattr(self.keep)
        self.pid = os.fork()
        if self.pid == 0:
            # Without a controlling terminal pangea would take this one for another job's.
            os.login_tty(os.dup(self.keep))
            os.execv(command[0], command)

    def read_some(self, wait_s):
        if not select.select([self.fd], [], [], wait_s)[0]:
            return
        some = os.read(self.fd, 65536)
        self.seen += some
        asked = (self.tail + some).count(b"\x1b[6n")
        self.tail = (self.tail + some)[-3:]
        for _ in range(asked):  # where the cursor is
            self.questions += 1
            os.write(self.fd, b"\x1b[24;80R")

    def fail(self, text):
        sys.exit(f"{' '.join(self.command[:2])}: {text}; last: {self.seen[-600:]!r}")

    def wait(self, what, true):
        deadline = time.monotonic() + self.limit_s
        while not (result := true()):
            if time.monotonic() > deadline:
                self.fail(f"not within {self.limit_s} s: {what}")
            self.read_some(0.1)
        return result

    def expect(self, pattern):
        """Waits for the pattern; what came until its end is forgotten."""
        match = self.wait(pattern, lambda: re.search(pattern, self.seen))
        self.seen = self.seen[match.end():]
        return match

    def type(self, text):
        while text:
            text = text[os.write(self.fd, text[:512]):]
            self.read_some(0)

    def raw(self):
        return not termios.tcgetattr(self.keep)[3] & termios.ICANON

    def ended(self):
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is not None

    def end(self, code, pattern):
        """It ends with the code and this sentence, and the terminal is as it was."""
        self.wait("the end", self.ended)
        self.expect(pattern)
        if self.code != code:
            self.fail(f"ended with {self.code}, not {code}")
        if termios.tcgetattr(self.keep) != self.before:
            self.fail("the terminal's modes are not those from before")
        os.close(self.fd)
        os.close(self.keep)

    def kill(self, number=signal.SIGTERM):
        os.kill(self.pid, number)
