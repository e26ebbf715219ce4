#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Types at a real guest's shell through pangea run and pangea console, as people at terminals would.

usage: console.py LIMIT_S PANGEA STATE_DIR KERNEL INITRD APPEND
"""

import sys

from terminal import Terminal


def main():
    limit_s, pangea, state, kernel, initrd, append = sys.argv[1:]
    limit_s = int(limit_s)
    run = Terminal(limit_s, pangea, "run", "--state-dir", state, "--name", "guest", "--kernel", kernel,
                   "--initrd", initrd, "--append", append, "--cpus", "1", "--mem", "162M")

    def attach():
        terminal = Terminal(limit_s, pangea, "console", "--state-dir", state, "guest")
        terminal.expect(rb"The machine is yours")  # the last of the console is shown again
        terminal.wait("raw mode", terminal.raw)
        return terminal

    def ask(typist, text, answer, *others):
        """The answer is not the echo of what is typed; all see both."""
        typist.type(text + b"\r")
        for terminal in (typist, *others):
            terminal.expect(answer)
            terminal.expect(rb"# ")

    run.expect(rb"The machine is yours")
    run.expect(rb"# ")
    run.wait("raw mode", run.raw)
    ask(run, b"echo sum $((40 + 2))", rb"sum 42\r\n")
    # A key that would end a program on this terminal ends one in the guest.
    # Once the program runs: before that the key would be the shell's.
    run.type(b"sh -c 'echo sl\"\"ept; exec sleep 1000'\r")
    run.expect(rb"\nslept\r\n")
    run.type(b"\x03")
    run.expect(rb"# ")
    ask(run, b"echo interrupted $?", rb"interrupted 130\r\n")

    second = attach()
    second.expect(rb"interrupted 130\r\n")
    second.expect(rb"# ")
    ask(second, b"kept=here; echo from the se''cond", rb"from the second\r\n", run)
    ask(run, b"echo from the fi''rst, $kept", rb"from the first, here\r\n", second)
    second.type(b"\x1dx")  # Ctrl-] and a key that means nothing
    second.expect(rb"d: detach, q: stop and quit")
    second.type(b"\x1dd")
    second.end(0, rb"detached; the VM goes on")

    run.type(b"\x1dd")
    run.end(0, rb"detached; VM guest goes on")

    third = attach()
    third.expect(rb"from the first, here\r\n")
    third.expect(rb"# ")
    ask(third, b"echo still $kept", rb"still here\r\n")
    third.kill()
    third.end(0, rb"detached; the VM goes on")

    fourth = attach()
    fourth.expect(rb"still here\r\n")
    fourth.expect(rb"# ")
    # The shell has asked for the cursor's place, and was answered: what is shown again does not ask again.
    fourth.type(b"read -r line; echo \"<$line>\"\r")
    fourth.expect(rb"<\$line>\"\r\n")
    fifth = attach()
    fifth.expect(rb"<\$line>\"\r\n")
    fifth.read_some(0.5)
    fifth.type(b"what was typed\r")
    fifth.expect(rb"<what was typed>\r\n")
    fifth.expect(rb"# ")
    if fifth.questions > 1:
        fifth.fail(f"the terminal was asked {fifth.questions} times by what had been answered before")
    fifth.type(b"\x1dd")
    fifth.end(0, rb"detached; the VM goes on")
    ask(fourth, b"echo and $((6 * 7)) more", rb"and 42 more\r\n")
    fourth.type(b"exit\r")
    fourth.end(0, rb"VM guest ended: the guest powered off")


main()
