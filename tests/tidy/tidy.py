#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the tree's own rules: include directions, purity of the protocol, headers, lengths, format."""

import os
import re
import subprocess
import sys
import tempfile

FUNCTION_LINES_MAX = 70

# What a part may include from others. The longest matching prefix speaks for a file, and for a header.
ARROWS = {
    "base": set(),
    "host": {"base"},
    "confine": {"base"},
    "transport": {"base"},
    "dsm/protocol": {"transport", "base"},
    "dsm/pages": {"base"},
    "dsm/engine": {"dsm/protocol", "dsm/pages", "transport", "base"},
    # Headers that are interfaces, or the machine's constants, stand below the folder they lie in.
    "vmm/boot/layout.h": {"base"},
    "vmm/cpu/vcpu.h": {"base"},
    "vmm/cpu/msr.h": set(),
    "vmm/machine/bus.h": {"base"},
    "vmm/machine/shape.h": {"vmm/boot/layout.h", "base"},
    "vmm/machine/machine_msg.h": {"transport", "base"},
    "vmm/clock": {"base"},
    "vmm/cpu/soft": {"vmm/cpu/vcpu.h", "vmm/cpu/msr.h", "vmm/clock", "vmm/boot/layout.h", "base"},
    "vmm/cpu/kvm": {"vmm/cpu/vcpu.h", "vmm/cpu/msr.h", "vmm/clock", "vmm/boot/layout.h", "base"},
    "vmm/cpu": {"vmm/cpu/vcpu.h", "vmm/cpu/soft", "vmm/cpu/kvm", "vmm/boot/layout.h",
                "vmm/machine/shape.h", "host", "base"},
    "vmm/apic": {"vmm/boot/layout.h", "vmm/cpu/msr.h", "vmm/machine/machine_msg.h", "base"},
    "vmm/devices": {"vmm/boot/layout.h", "vmm/machine/bus.h", "base"},
    "vmm/pci": {"vmm/boot/layout.h", "vmm/machine/bus.h", "base"},
    "vmm/vhost": {"base"},
    "vmm/virtio": {"vmm/pci", "vmm/vhost", "vmm/boot/layout.h", "vmm/machine/bus.h", "vmm/machine/shape.h", "base"},
    "vmm/boot": {"vmm/boot/layout.h", "vmm/machine/shape.h", "vmm/cpu/vcpu.h", "base"},
    "vmm/machine": {"vmm/machine/bus.h", "vmm/machine/shape.h", "vmm/machine/machine_msg.h",
                    "vmm/boot/layout.h", "vmm/cpu/vcpu.h", "vmm/cpu/msr.h", "vmm/cpu", "vmm/apic",
                    "vmm/devices", "vmm/pci", "vmm/virtio", "vmm/clock", "dsm/engine", "transport", "base"},
    "vmm/main": {"vmm/machine", "vmm/machine/shape.h", "vmm/cpu", "vmm/cpu/kvm", "vmm/cpu/vcpu.h",
                 "vmm/boot", "vmm/boot/layout.h", "vmm/clock", "vmm/virtio", "dsm/engine", "transport", "control",
                 "confine", "host", "base"},
    "pki": {"base"},
    "control": {"pki", "host", "base"},
    "node": {"control", "confine", "pki", "host", "base"},
    "coordinator": {"control", "pki", "host", "base"},
    "cli": {"control", "pki", "host", "base"},
    "sim": {"coordinator", "control", "dsm/protocol", "transport", "base"},
    "guests": set(),
    "tests": None,  # None: everything
    "bench": None,
    "tools": {"dsm/protocol", "dsm/engine", "transport", "base"},
}

# The protocol core is a pure function: no sockets, clock, malloc, libuv, threads. Headers of types
# and of memory copies only; base/log.h for invariant().
PURE_PREFIX = "dsm/protocol"
PURE_HEADERS = {
    "<stdbool.h>", "<stddef.h>", "<stdint.h>", "<string.h>", "<limits.h>", "<stdalign.h>",
    "<assert.h>", "<errno.h>", '"base/log.h"', '"base/hash.h"', '"base/limits.h"', '"base/error.h"',
    '"transport/wire.h"',
}
# Calls that would be I/O, time or allocation even without their header's include.
PURE_CALLS = re.compile(
    r"\b(malloc|calloc|realloc|free|printf|fprintf|open|read|write|send|recv|socket|mmap|madvise|"
    r"ioctl|clock_gettime|time|gettimeofday|usleep|nanosleep|pthread_\w+|uv_\w+|log_line|log_error|"
    r"log_warn|log_info|log_debug|getenv|rand|random)\s*\(")

SKIPPED_FOLDERS = {"build", ".git", ".cache"}


def tree_files(top):
    """Every source file below top, relative to it, sorted."""
    found = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(f for f in folders if f not in SKIPPED_FOLDERS)
        found += [os.path.relpath(os.path.join(folder, n), top) for n in names]
    return sorted(found)


def text_of(top, path):
    with open(os.path.join(top, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def is_c(path):
    return path.endswith((".c", ".h"))


def is_script(top, path):
    if path.endswith((".sh", ".py")):
        return True
    if "." in os.path.basename(path) or not os.path.isfile(os.path.join(top, path)):
        return False
    with open(os.path.join(top, path), "rb") as file:
        return file.read(2) == b"#!"


def is_cmake(path):
    return os.path.basename(path) == "CMakeLists.txt" or path.endswith(".cmake")


def owner_of(path, table):
    """The longest key of table that is a folder above path, or None."""
    keys = [k for k in table if path == k or path.startswith(k + "/")]
    return max(keys, key=len) if keys else None


def includes_of(text):
    for number, line in enumerate(text.split("\n"), 1):
        match = re.match(r'\s*#\s*include\s+(<[^>]+>|"[^"]+")', line)
        if match:
            yield number, match.group(1)


def check_includes(top):
    for path in filter(is_c, tree_files(top)):
        folder = owner_of(path, ARROWS)
        allowed = ARROWS.get(folder, None)
        if folder is None or allowed is None:
            continue
        for number, header in includes_of(text_of(top, path)):
            target = owner_of(header.strip('"<>'), ARROWS)
            if target is None or not header.startswith('"'):
                continue
            if target != folder and target not in allowed:
                yield f"{path}:{number}: {folder}/ may not include {header}"


def check_pure(top):
    for path in filter(is_c, tree_files(top)):
        if not path.startswith(PURE_PREFIX):
            continue
        text = text_of(top, path)
        for number, header in includes_of(text):
            if header not in PURE_HEADERS and not header.startswith(f'"{PURE_PREFIX}'):
                yield f"{path}:{number}: the protocol core may not include {header}"
        for number, line in enumerate(code_only(text).split("\n"), 1):
            if PURE_CALLS.search(line):
                yield f"{path}:{number}: the protocol core does no I/O: {line.strip()}"


# A slice's real-time engine thread waits for the locks of these folders: see base/lock.h.
LOCK_FOLDERS = ("dsm/", "vmm/")
LOCK_CALLS = re.compile(r"\b(pthread_mutex_init|pthread_cond_init|PTHREAD_\w+_INITIALIZER)\b")


def check_locks(top):
    for path in filter(is_c, tree_files(top)):
        if not path.startswith(LOCK_FOLDERS):
            continue
        for number, line in enumerate(code_only(text_of(top, path)).split("\n"), 1):
            if LOCK_CALLS.search(line):
                yield f"{path}:{number}: locks are made by base/lock.h: {line.strip()}"


# Compilers' words for what C11 has its own for: see "Decisions" in docs/design.md. Atomics on memory that
# is no object of ours, guest memory and pages shared with the kernel, need the builtins.
ASSERT_WORD = re.compile(r"\b_Static_assert\b")
BUILTIN_ATOMICS = re.compile(r"\b__(atomic|sync)_\w+")
BUILTIN_ATOMICS_IN = re.compile(r"^(vmm/cpu/(soft|kvm)|vmm/virtio|guests/(micro|trials)|bench|tests|tools/tso)/")


def check_dialect(top):
    for path in filter(is_c, tree_files(top)):
        for number, line in enumerate(code_only(text_of(top, path)).split("\n"), 1):
            if ASSERT_WORD.search(line):
                yield f"{path}:{number}: static_assert is the word, with <assert.h>"
            if BUILTIN_ATOMICS.search(line) and not BUILTIN_ATOMICS_IN.match(path):
                yield f"{path}:{number}: an _Atomic object and <stdatomic.h> instead: {line.strip()}"


def header_problem(lines, comment):
    """What is wrong with a file's first lines, given the start of a comment; None if nothing."""
    if lines and lines[0].startswith("#!"):
        lines = lines[1:]
    if not lines or "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
        return "the first line must be the SPDX line"
    rest = [line for line in lines[1:4] if line.strip() not in ("", "/*")]
    job = rest[0].strip() if rest else ""
    if not job.startswith(comment) or len(job.strip("/*#\" .")) < 20:
        return "the second line must be a comment that says the file's job"
    return None


def check_headers(top):
    for path in tree_files(top):
        if is_c(path):
            comment = ("/*", "*", "//")
        elif is_script(top, path) or is_cmake(path):
            comment = ("#", '"""')
        else:
            continue
        problem = header_problem(text_of(top, path).split("\n")[:5], comment)
        if problem:
            yield f"{path}:1: {problem}"


def code_only(text):
    """The text with comments, strings and preprocessor lines blanked out; its lines stay."""
    def blank(match):
        return re.sub(r"[^\n]", " ", match.group(0))
    tokens = r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    text = re.sub(tokens, blank, text, flags=re.S)
    return re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", blank, text, flags=re.M)


def functions_of(text):
    """(name, first line, lines) of each function: from its opening brace to its closing one."""
    code, depth, start = code_only(text), 0, None
    for match in re.finditer(r"[{}]", code):
        if match.group() == "{":
            before = code[:match.start()].rstrip()
            if depth == 0 and before.endswith(")"):
                start = match.start()
            depth += 1
            continue
        depth -= 1
        if depth == 0 and start is not None:
            head = re.split(r"[;}]", code[:start])[-1]
            name = re.search(r"(\w+)\s*\(", head)
            first = code.count("\n", 0, start) + 1
            lines = code.count("\n", start, match.start()) + 1
            yield name.group(1) if name else "?", first, lines
            start = None


def check_length(top):
    for path in filter(is_c, tree_files(top)):
        for name, first, lines in functions_of(text_of(top, path)):
            if lines > FUNCTION_LINES_MAX:
                yield f"{path}:{first}: {name}() has {lines} lines, more than {FUNCTION_LINES_MAX}"


def check_format(top):
    files = list(filter(is_c, tree_files(top)))
    if not files:
        return
    done = subprocess.run(["clang-format-19", "--dry-run", "-Werror", "--ferror-limit=1", *files],
                          cwd=top, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=300, check=False)
    if done.returncode != 0:
        complaints = [line for line in done.stderr.split("\n") if ": error:" in line]
        yield from complaints or [done.stderr.strip() or "clang-format-19 failed"]


def check_scripts(top):
    for path in tree_files(top):
        if not is_script(top, path):
            continue
        if path.endswith(".py") or text_of(top, path).startswith("#!/usr/bin/env python3"):
            try:
                compile(text_of(top, path), path, "exec")
            except SyntaxError as error:
                yield f"{path}:{error.lineno}: {error.msg}"
            continue
        shell = "sh" if text_of(top, path).startswith("#!/bin/sh") else "bash"
        done = subprocess.run([shell, "-n", path], cwd=top, capture_output=True, text=True,
                              timeout=60, check=False)
        if done.returncode != 0:
            yield done.stderr.strip()


# Configurations of kernels for guests: words of Kconfig, and what may stand behind one.
CONFIG_WORD = re.compile(r"(CONFIG_[A-Z0-9_]+)=(y|n|\d+|0x[0-9a-f]+|\"[^\"]*\")$")
REASON_LENGTH_MIN = 15


def config_problems(lines):
    """(number, what is wrong): each word once, well formed, in a group that begins with its reason."""
    reason, seen = "", set()
    for number, line in enumerate(lines, 1):
        if line.startswith("#"):
            reason += line.strip("# ")
            continue
        if not line:
            reason = ""
            continue
        word = CONFIG_WORD.match(line)
        if not word:
            yield number, f"neither a word of Kconfig nor a comment: {line}"
            continue
        if word[1] in seen:
            yield number, f"{word[1]} stands here twice"
        seen.add(word[1])
        if len(reason) < REASON_LENGTH_MIN:
            yield number, f"{word[1]} has no reason"


def check_config(top):
    for path in tree_files(top):
        if not path.endswith(".config"):
            continue
        lines = text_of(top, path).split("\n")
        if "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
            yield f"{path}:1: the first line must be the SPDX line"
        # The file's own head is no reason of a word.
        if "" in lines:
            lines[:lines.index("")] = [""] * lines.index("")
        for number, problem in config_problems(lines):
            yield f"{path}:{number}: {problem}"


CHECKS = {
    "config": check_config,
    "includes": check_includes,
    "pure": check_pure,
    "locks": check_locks,
    "dialect": check_dialect,
    "headers": check_headers,
    "length": check_length,
    "format": check_format,
    "scripts": check_scripts,
}

GOOD = "/* SPDX-License-Identifier: Apache-2.0 */\n/* A file that keeps every rule there is. */\n"

CONFIG = "# SPDX-License-Identifier: Apache-2.0\n# What a guest's kernel is built of.\n\n"
REASON = "# A reason that is long enough.\n"

# Each seed is a tree that breaks one rule: (check, path, content, what the complaint says).
SEEDS = [
    ("includes", "base/a.c", GOOD + '#include "dsm/engine/engine.h"\n', "base/ may not include"),
    ("includes", "transport/a.c", GOOD + '#include "dsm/protocol/protocol.h"\n', "transport/ may not"),
    ("includes", "dsm/engine/a.h", GOOD + '#include "vmm/cpu/vcpu.h"\n', "dsm/engine/ may not include"),
    ("includes", "vmm/cpu/soft/a.c", GOOD + '#include "control/codec.h"\n', "vmm/cpu/soft/ may not include"),
    ("includes", "vmm/cpu/a.c", GOOD + '#include "vmm/machine/machine.h"\n', "vmm/cpu/ may not"),
    ("includes", "vmm/apic/a.c", GOOD + '#include "vmm/machine/machine.h"\n', "vmm/apic/ may not"),
    ("includes", "vmm/machine/shape.h", GOOD + '#include "vmm/machine/machine.h"\n', "may not"),
    ("includes", "vmm/vhost/a.c", GOOD + '#include "vmm/virtio/virtqueue.h"\n', "vmm/vhost/ may not"),
    ("includes", "vmm/virtio/a.c", GOOD + '#include "dsm/engine/engine.h"\n', "vmm/virtio/ may not"),
    ("includes", "pki/a.c", GOOD + '#include "control/control.h"\n', "pki/ may not include"),
    ("includes", "cli/a.c", GOOD + '#include "vmm/machine/shape.h"\n', "cli/ may not include"),
    ("includes", "guests/g/a.c", GOOD + '#include "base/log.h"\n', "guests/ may not include"),
    ("pure", "dsm/protocol/protocol_a.c", GOOD + "#include <stdlib.h>\n", "may not include <stdlib.h>"),
    ("pure", "dsm/protocol/protocol_a.h", GOOD + '#include "base/clock.h"\n', "may not include"),
    ("pure", "dsm/protocol/protocol_a.c", GOOD + "int f(void)\n{\n\treturn malloc(1);\n}\n", "does no I/O"),
    ("locks", "vmm/machine/a.c", GOOD + "int f(void)\n{\n\tpthread_mutex_init(m, NULL);\n}\n",
     "made by base/lock.h"),
    ("dialect", "base/a.c", GOOD + '_Static_assert(1, "");\n', "static_assert is the word"),
    ("dialect", "dsm/engine/a.c", GOOD + "int f(void)\n{\n\treturn __atomic_load_n(&a, 0);\n}\n", "_Atomic"),
    ("headers", "base/a.c", "int a;\n", "SPDX"),
    ("headers", "base/a.c", "/* SPDX-License-Identifier: Apache-2.0 */\nint a;\n", "job"),
    ("headers", "deploy/a", "#!/bin/sh\necho\n", "SPDX"),
    ("headers", "x/CMakeLists.txt", "project(x)\n", "SPDX"),
    ("length", "base/a.c", GOOD + "int f(void)\n{\n" + "\tg();\n" * 69 + "}\n", "f() has 71 lines"),
    ("length", "base/a.c", GOOD + "#define X {\nint f(int a,\n      int b)\n{\n"
     + "\tif (a) { /* } */ g('}', \"}\"); }\n" * 70 + "}\n", "f() has 72 lines"),
    ("format", "base/a.c", GOOD + "int   a;\n", "error"),
    ("config", "deploy/a.config", CONFIG + "CONFIG_A=y\n", "CONFIG_A has no reason"),
    ("config", "deploy/a.config", CONFIG + REASON + "CONFIG_A=y\n\nCONFIG_B=y\n", "CONFIG_B has no reason"),
    ("config", "deploy/a.config", CONFIG + REASON + "CONFIG_A=m\n", "neither a word"),
    ("config", "deploy/a.config", CONFIG + REASON + "CONFIG_A=y\nCONFIG_A=y\n", "stands here twice"),
    ("config", "deploy/a.config", "CONFIG_A=y\n", "SPDX"),
    ("scripts", "deploy/a", "#!/usr/bin/env bash\nif true\n", "syntax error"),
    ("scripts", "bench/a", "#!/usr/bin/env python3\ndef f(:\n", "bench/a:2"),
    ("scripts", "tests/a.py", "def f(:\n", "tests/a.py:1"),
]

# Trees that break nothing, though a careless check would say so.
CLEAN = [
    ("config", "deploy/a.config", CONFIG + REASON + "CONFIG_A=y\nCONFIG_B=512\n"),
    ("includes", "vmm/main/a.c", GOOD + '#include "control/codec.h"\n#include "vmm/cpu/vcpu.h"\n'),
    ("includes", "tests/unit/a.c", GOOD + '#include "vmm/cpu/soft/soft.h"\n'),
    ("pure", "dsm/engine/engine.c", GOOD + "#include <uv.h>\n"),
    ("pure", "dsm/protocol/protocol_a.c", GOOD + '#include "transport/wire.h"\n/* malloc( */\n'),
    ("locks", "base/lock.c", GOOD + "int f(void)\n{\n\tpthread_mutex_init(m, NULL);\n}\n"),
    ("dialect", "tools/tso/a.c", GOOD + "int f(void)\n{\n\treturn __atomic_load_n(&a, 0);\n}\n"),
    ("length", "base/a.c", GOOD + "int f(void)\n{\n" + "\tg();\n" * 68 + "}\n"),
    ("length", "base/a.c", GOOD + "int t[] = {\n" + "\t1,\n" * 100 + "};\n"),
]


def complaints_about(check, path, content):
    with tempfile.TemporaryDirectory() as top:
        os.makedirs(os.path.join(top, os.path.dirname(path)))
        with open(os.path.join(top, path), "w", encoding="utf-8") as file:
            file.write(content)
        return list(CHECKS[check](top))


def check_self(_top):
    """The checks see what is wrong, and only that."""
    for check, path, content, word in SEEDS:
        found = complaints_about(check, path, content)
        if not any(word in line for line in found):
            yield f"tidy.{check} does not see a seeded fault in {path} ({word}): {found}"
    for check, path, content in CLEAN:
        found = complaints_about(check, path, content)
        if found:
            yield f"tidy.{check} complains of a clean {path}: {found}"


def main():
    checks = dict(CHECKS, self=check_self)
    if len(sys.argv) != 3 or sys.argv[2] not in checks:
        sys.exit(f"usage: tidy.py TOP {'|'.join(checks)}")
    complaints = list(checks[sys.argv[2]](sys.argv[1]))
    for line in complaints:
        print(line)
    if sys.argv[2] != "self" and not any(map(is_c, tree_files(sys.argv[1]))):
        sys.exit("no sources found")
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
