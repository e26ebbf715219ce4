#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the documentation with what the tree has: options, exit codes, states, constants, paths."""

import os
import re
import runpy
import subprocess
import sys

# What each manual page speaks of: the command whose --help must name the same options.
MANUALS = {
    "pangea-check.1": ["pangea", "check"],
    "pangea-cluster.1": ["pangea", "cluster"],
    "pangea-console.1": ["pangea", "console"],
    "pangea-image.1": ["pangea", "image"],
    "pangea-inspect.1": ["pangea", "inspect"],
    "pangea-join.1": ["pangea", "join"],
    "pangea-kernels.1": ["pangea-kernels"],
    "pangea-logs.1": ["pangea", "logs"],
    "pangea-nodes.1": ["pangea", "nodes"],
    "pangea-pages.1": ["pangea", "pages"],
    "pangea-pki.1": ["pangea", "pki"],
    "pangea-ps.1": ["pangea", "ps"],
    "pangea-reset.1": ["pangea", "reset"],
    "pangea-rm.1": ["pangea", "rm"],
    "pangea-run.1": ["pangea", "run"],
    "pangea-search.1": ["pangea-search"],
    "pangea-sim.1": ["pangea-sim"],
    "pangea-spread.1": ["pangea-spread"],
    "pangea-stop.1": ["pangea", "stop"],
    "pangea-tso.1": ["pangea-tso"],
    "pangea-vm.1": ["pangea", "vm"],
    "pangea-vms.1": ["pangea", "vms"],
    "pangea-coordinator.8": ["pangea-coordinator"],
    "pangead.8": ["pangead"],
}

# Sentences with a number in them: (page, pattern with one group a number, file, what defines each,
# factor). A number written out as a word does not belong here. What defines a number is a macro, or
# the first number of the row of an X-macro table.
CLAIMS = [
    ("docs/man/pangea-coordinator.8", r"(\d+) nodes, (\d+) virtual machines, (\d+) connections",
     ["coordinator/coordinator_internal.h:NODES_MAX", "coordinator/coordinator_internal.h:VMS_MAX",
      "control/control.h:CONTROL_CONNS_MAX"], 1),
    ("docs/man/pangea-coordinator.8", r"connections; (\d+) slices, (\d+) CPUs",
     ["base/limits.h:SLICES_MAX", "base/limits.h:VCPUS_MAX"], 1),
    ("docs/man/pangea-coordinator.8", r"(\d+) seconds for the next piece of its kernel to arrive, "
     r"(\d+) for its slices to start, (\d+) to connect to each other, (\d+) to begin to run; "
     r"(\d+) to stop when asked, (\d+) more to be killed",
     [f"coordinator/coordinator_internal.h:VM_{s}" for s in
      ("PLACING", "STARTING", "CONNECTING", "BOOTING", "ENDING", "KILLING")], 1000),
    ("docs/man/pangea-coordinator.8", r"measured: (\d+) between the farthest slices, others in "
     r"proportion to their round trip in whole multiples of the least, at least (\d+)",
     ["base/limits.h:NUMA_DISTANCE_MAX", "coordinator/coordinator_distance.c:DISTANCE_LEAST"], 1),
    ("docs/man/pangea-run.1", r"More than (\d+) new starts within (\d+) seconds",
     ["cli/run.h:RUN_AGAIN_MAX", "cli/run.h:RUN_AGAIN_WINDOW_S"], 1),
    ("docs/man/pangea-stop.1", r"has not powered off within (\d+) seconds", ["cli/cmd_stop.c:TIMEOUT_S"], 1),
    ("docs/man/pangea-stop.1", r"at most (\d+) seconds more", ["cli/cmd_stop.c:STOP_MS"], 1000),
    ("docs/man/pangea-stop.1", r"from 1 to (\d+) seconds", ["cli/cmd_stop.c:TIMEOUT_S_MAX"], 1),
    ("docs/man/pangea-run.1", r"from (\d+) to (\d+)\. The default is measured",
     ["base/limits.h:NUMA_DISTANCE_MIN", "base/limits.h:NUMA_DISTANCE_MAX"], 1),
    ("docs/man/pangead.8", r"first after 0\.(\d) seconds",
     ["node/node.h:BACKOFF_FIRST_MS"], 100),
    ("docs/man/pangead.8", r"intervals up to (\d+) seconds", ["node/node.h:BACKOFF_LAST_MS"], 1000),
    ("docs/man/pangea-console.1", r"last (\d+) KiB",
     ["coordinator/coordinator_internal.h:CONSOLE_RING_BYTES"], 1024),
    ("docs/design.md", r"grace time \((\d+) s, `--grace`\)", ["control/control.h:CONTROL_GRACE_MS"], 1000),
    ("docs/design.md", r"it was silent for (\d+) s", ["coordinator/coordinator_internal.h:NODE_SILENCE_MS"],
     1000),
    ("docs/design.md", r"with waits of 0\.(\d) s", ["node/node.h:BACKOFF_FIRST_MS"], 100),
    ("docs/design.md", r"up to (\d+) s \((\d+) s if it has no slices\)",
     ["node/node.h:BACKOFF_SLICES_MS", "node/node.h:BACKOFF_LAST_MS"], 1000),
    ("docs/design.md", r"keeps the last (\d+) KiB", ["node/node.h:CONSOLE_KEPT_BYTES"], 1024),
    ("docs/design.md", r"first is not heard for (\d+) s", ["coordinator/coordinator_internal.h:RIVAL_WAIT_MS"],
     1000),
    ("docs/design.md", r"closed without a word, after (\d+) s",
     ["coordinator/coordinator_internal.h:OWNER_RETURN_MS"], 1000),
    ("docs/design.md", r"(\d+) s, a slice \(`--deadline`\)", ["control/control.h:CONTROL_DEADLINE_S"], 1),
    ("docs/design.md", r"below (\d+) pages for each thread", ["dsm/engine/engine_cache.c:PAGES_PER_FAULTER"],
     1),
    ("docs/design.md", r"at least (\d+) MiB, and", ["coordinator/coordinator_cache.c:FLOOR_MIN"], 1 << 20),
    ("docs/design.md", r"at least (\d+) KiB for each of its CPUs",
     ["coordinator/coordinator_cache.c:FLOOR_PER_VCPU"], 1024),
    ("docs/design.md", r"at most (\d+) in a turn of its loop, and only for slices with fewer than (\d+)",
     ["dsm/engine/engine_parts.h:NEXT_POSTS_BATCH", "dsm/engine/engine_parts.h:PEER_BACKLOG_MAX"], 1),
    ("docs/security.md", r"a stranger: (\d+) of them and (\d+) of one address are held",
     ["control/control.h:CONTROL_STRANGERS_MAX", "control/control.h:CONTROL_STRANGERS_SOURCE_MAX"], 1),
    ("docs/security.md", r"each for (\d+) seconds", ["control/control.h:CONTROL_HELLO_TIMEOUT_MS"], 1000),
    ("docs/security.md", r"a buffer of (\d+) KiB", ["control/uv_internal.h:STRANGER_READ_BYTES"], 1024),
    ("docs/security.md", r"chain of at most (\d+) KiB", ["control/tls_context.c:CHAIN_BYTES_MAX"], 1024),
    ("docs/security.md", r"a hello of at most (\d+) KiB", ["control/control.h:CONTROL_HELLO_MAX"], 1024),
    ("docs/pages.md", r"every (\d+) ms up to (\d+) holes of up to (\d+) pages",
     [f"dsm/engine/engine_stale.c:BATCH_{s}" for s in ("MS", "HOLES", "PAGES")], 1),
    ("docs/pages.md", r"The table is (\d+) sets of (\d+) ways",
     ["dsm/engine/page_counts.h:PAGE_COUNTS_SETS", "dsm/engine/page_counts.h:PAGE_COUNTS_WAYS"], 1),
    ("docs/pages.md", r"and at least (\d+)\.\*\*", ["dsm/engine/page_counts.h:PAGE_COUNTS_HOT_LEAST"], 1),
    ("docs/transport.md", r"(\d+) entries of a cache line, header and slot number, and (\d+)\s+slots of a page",
     ["transport/shm_ring.h:SHM_ENTRIES", "transport/shm_ring.h:SHM_SLOTS"], 1),
    ("docs/transport.md", r"for up to (\d+) us after the\s+last, (\d+) us at a time",
     ["dsm/engine/engine_spin.c:SPIN_NS", "dsm/engine/engine_spin.c:SPIN_ROUND_NS"], 1000),
    ("docs/transport.md", r"one in (\d+) is tried", ["dsm/engine/engine_spin.c:SPIN_TRY"], 1),
    ("docs/protocol.md", r"table of (\d+) entries", ["dsm/protocol/protocol_parts.h:PROTOCOL_HOLDS_MAX"], 1),
    ("docs/protocol.md", r"level from 0 to (\d+)", ["dsm/protocol/protocol_parts.h:HOLD_LEVEL_MAX"], 1),
    ("docs/protocol.md", r"page is held for (\d+) `hold_ns`", ["dsm/engine/engine_turns.c:LONG_HOLD_TIMES"], 1),
    ("docs/protocol.md", r"at least (\d+) times the quickest of the last (\d+) remote faults",
     ["dsm/engine/engine_turns.c:TURN_FAULTS", "dsm/engine/engine_turns.c:LEARN_FAULTS"], 1),
    ("docs/time.md", r"burst\* is (\d+) round trips", ["vmm/machine/machine_clock.c:BURST_PINGS"], 1),
    ("docs/time.md", r"offsets of the last (\d+) ", ["vmm/clock/clock_sync.h:CLOCK_SYNC_HISTORY"], 1),
    ("docs/time.md", r"answer for (\d+) s it gives up", ["vmm/main/slice_rtt.c:ALIGN_TIMEOUT_MS"], 1000),
    ("docs/time.md", r"new piece begins (\d+) us", ["vmm/clock/clock.h:GUEST_CLOCK_LEAD_NS"], 1000),
    ("docs/time.md", r"added at (\d+) ppm", ["vmm/clock/clock_sync.c:AWAY_PPM"], 1),
]

# Options of other programs that the pages name.
FOREIGN_OPTIONS = {"--filter", "--reuse-cmdline", "--verify"}


def text_of(top, path):
    with open(os.path.join(top, path), encoding="utf-8") as file:
        return file.read()


def plain(troff):
    """A manual page's words without its markup, on one line."""
    lines = [re.sub(r"^\.[A-Z]{1,2}\s?", "", line) for line in troff.split("\n")]
    return re.sub(r"\s+", " ", re.sub(r"\\f[A-Z]", "", " ".join(lines)).replace("\\-", "-"))


def options_of(text):
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", text))


def manual_options(troff):
    """The options that a manual page explains: those of its .TP heads."""
    text = re.sub(r"\\f[A-Z]", "", troff).replace("\\-", "-")
    heads = re.findall(r"^\.TP\n(.*)$", text, flags=re.M)
    return set().union(*(options_of(head) for head in heads)) if heads else set()


def check_options(top, bindir):
    pages = {n for n in os.listdir(os.path.join(top, "docs/man"))}
    for missing in sorted(pages - set(MANUALS) - {"pangea.1", "pangea-vmm.8"}):
        yield f"docs/man/{missing}: no command is known for it: add it to MANUALS"
    for page, command in MANUALS.items():
        done = subprocess.run([os.path.join(bindir, command[0]), *command[1:], "--help"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                              check=False)
        if done.returncode != 0:
            yield f"{' '.join(command)} --help ended with {done.returncode}"
        helped = options_of(done.stdout)
        explained = manual_options(text_of(top, f"docs/man/{page}"))
        for option in sorted(helped - explained):
            yield f"docs/man/{page} does not explain {option}, which --help names"
        for option in sorted(explained - helped):
            yield f"docs/man/{page} explains {option}, which --help does not name"


def exit_codes(top):
    table = text_of(top, "base/error.h").split("#define EXIT_TABLE")[1]
    return {int(n) for n in re.findall(r"X\(EXIT_\w+, (\d+),", table)}


def check_exits(top, _bindir):
    known = exit_codes(top) - {77}
    status = text_of(top, "docs/man/pangea-run.1").split(".SH EXIT STATUS")[1].split(".SH")[0]
    told = {int(n) for n in re.findall(r"^\.B (\d+)$", status, flags=re.M)}
    for code in sorted(known ^ told):
        yield f"docs/man/pangea-run.1 and EXIT_TABLE (base/error.h) differ in exit code {code}"


def check_states(top, _bindir):
    table = text_of(top, "coordinator/coordinator_internal.h").split("#define VM_STATES")[1]
    known = set(re.findall(r"X\(VM_\w+, \"(\w+)\"", table.split("#define X(")[0]))
    page = text_of(top, "docs/man/pangea-vms.1").split("The states:")[1].split(".PP")[0]
    heads = re.findall(r"^\.TP\n\.BR? (.*)$", page, flags=re.M)
    told = set(re.findall(r"[a-z]+", " ".join(heads)))
    for state in sorted(known ^ told):
        yield f"docs/man/pangea-vms.1 and VM_STATES differ in the state {state}"
    if not known:
        yield "VM_STATES has no states: the check reads it wrongly"


def constant(top, where):
    """The number behind FILE:NAME: of a macro (with shifts and suffixes) or of an X-macro's row."""
    path, name = where.split(":")
    text = text_of(top, path)
    macro = re.search(rf"^#define\s+{name}\s+(.*?)\s*(?:/\*.*)?$", text, flags=re.M)
    if macro:
        words = re.sub(r"UINT64_C\((\d+)\)", r"\1", macro.group(1))
        words = re.sub(r"\b(\d+)[uUlL]+\b", r"\1", words)
        return eval(words, {"__builtins__": {}}) if re.fullmatch(r"[\d()<>*+ -]+", words) else None
    row = re.search(rf"X\({name}, \"\w+\", (\d+)", text)
    return int(row.group(1)) if row else None


def check_constants(top, _bindir, claims=None):
    for page, pattern, names, factor in claims or CLAIMS:
        text = text_of(top, page)
        found = re.search(pattern, plain(text) if "/man/" in page else re.sub(r"\s+", " ", text))
        if not found:
            yield f"{page}: no sentence like '{pattern}': change CLAIMS with it"
            continue
        for said, where in zip(found.groups(), names, strict=True):
            value = constant(top, where)
            if value is None:
                yield f"{where} is not a number that this check can read"
            elif value != int(said) * factor:
                yield f"{page} says {said} in '{found.group(0)}', but {where} is {value}"


def pages_of(top):
    """The pages whose back-quoted words and links must lead to something."""
    return ["README.md"] + sorted(f"docs/{n}" for n in os.listdir(os.path.join(top, "docs"))
                                  if n.endswith(".md"))


def tree_files(top):
    """Every file of the tree that is no page."""
    for folder, folders, names in os.walk(top):
        folders[:] = [f for f in folders if f not in ("build", ".git", ".cache") and
                      os.path.join(folder, f) != os.path.join(top, "docs")]
        yield from (os.path.join(folder, n) for n in names if not n.endswith(".md"))


def is_path(word):
    return re.fullmatch(r"[a-z0-9_.-]+(/[A-Za-z0-9_.-]+)+/?", word) is not None


def is_file(word):
    return re.fullmatch(r"\w[\w-]*\.(c|h|md|py|sh|m)", word) is not None


def check_paths(top, _bindir):
    tops = {n for n in os.listdir(top) if os.path.isdir(os.path.join(top, n))} - {"build"}
    names = {os.path.basename(path) for path in tree_files(top)} | \
        {os.path.basename(page) for page in pages_of(top)}
    for page in pages_of(top):
        text = text_of(top, page)
        for word in re.findall(r"`([^`\s]+)`", text):
            if is_file(word) and word not in names:
                yield f"{page}: there is no file of the name {word}"
            if is_path(word) and word.split("/")[0] in tops and \
                    not os.path.exists(os.path.join(top, word)):
                yield f"{page}: there is no {word}"
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            if not os.path.exists(os.path.join(top, os.path.dirname(page), link)):
                yield f"{page}: the link {link} leads nowhere"


def code_of(top):
    """All text of the tree but its pages."""
    texts = []
    for path in tree_files(top):
        with open(path, encoding="utf-8", errors="replace") as file:
            texts.append(file.read())
    return "\n".join(texts)


def names_missing(page, text, code):
    """Options and unit tests that a page names and the code does not have."""
    for option in sorted(options_of(text) - options_of(code) - FOREIGN_OPTIONS):
        yield f"{page}: nothing in the tree knows {option}"
    for test in sorted(set(re.findall(r"`unit\.(\w+)`", text))):
        if not re.search(rf"pangea_unit_test\({test}\b|NAME unit\.{test}\b", code):
            yield f"{page}: there is no test unit.{test}"


def check_names(top, _bindir):
    code = code_of(top)
    for page in pages_of(top):
        yield from names_missing(page, text_of(top, page), code)


def arrows_told(cell, arrows):
    """The folders that a cell of the table says may be included."""
    return {word for word in re.findall(r"[\w/]+", cell) if word in arrows}


def check_folders(top, _bindir):
    """The table of folders in design.md has all of the tree's, and the arrows that tidy.py checks."""
    table = text_of(top, "docs/design.md").split("## Folders")[1].split("\n## ")[0]
    rows = [line.split("|")[1:4] for line in table.split("\n") if line.startswith("| `")]
    told = set(re.findall(r"`(\w+)/", "\n".join(row[0] for row in rows)))
    arrows = runpy.run_path(os.path.join(top, "tests/tidy/tidy.py"))["ARROWS"]
    for folders, _, cell in rows:
        for folder in re.findall(r"`([\w/]+)/`", folders):
            if folder.startswith("vmm") or arrows.get(folder) is None:
                continue  # those of vmm/ name headers, which the table sums up
            for other in sorted(arrows_told(cell, arrows) ^ arrows[folder]):
                yield f"docs/design.md and ARROWS (tests/tidy/tidy.py) differ in {folder}/ -> {other}"
    there = {n for n in os.listdir(top) if os.path.isdir(os.path.join(top, n))
             and not n.startswith(".") and n != "build"}
    for folder in sorted(told ^ there):
        yield f"docs/design.md's table of folders and the tree differ in {folder}/"


def guest_arguments(top, name):
    """The arguments that a micro-guest's own sources ask for."""
    text = text_of(top, f"guests/micro/programs/{name}.c")
    if '"guests/micro/programs/splash.h"' in text:
        text += text_of(top, "guests/micro/programs/splash.c")
    return set(re.findall(r"\barg_(?:number|text|flag)\(\"(\w+)\"", text))


def check_guests(top, _bindir):
    """The table of micro-guests has all of them, each with its arguments."""
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\|(.*)\|$", text_of(top, "docs/microguests.md"), flags=re.M))
    built = set(re.findall(r"^\s*micro_guest\((\w+)", text_of(top, "guests/micro/CMakeLists.txt"), flags=re.M))
    for name in sorted(set(rows) ^ built):
        yield f"docs/microguests.md and guests/micro/CMakeLists.txt differ in {name}"
    for name in sorted(set(rows) & built):
        for key in sorted(set(re.findall(r"`(\w+)=", rows[name])) ^ guest_arguments(top, name)):
            yield f"docs/microguests.md and {name}.c differ in the argument {key}="


def check_self(top, bindir):
    """Each check sees a seeded untruth."""
    wrong = [("docs/man/pangea-coordinator.8", r"(128) nodes", ["base/limits.h:SLICES_MAX"], 1),
             ("docs/man/pangea-coordinator.8", r"(\d+) lions", ["base/limits.h:SLICES_MAX"], 1)]
    for claim in wrong:
        if not list(check_constants(top, bindir, [claim])):
            yield f"docs.constants does not see a seeded untruth: {claim[1]}"
    if manual_options(".TP\n.BI \\-\\-json\nsee\n.B \\-\\-other\n") != {"--json"}:
        yield "docs.options reads manual pages wrongly"
    if options_of("  --stats-json FILE  and --help, --version; a -- b") != \
            {"--stats-json", "--help", "--version"}:
        yield "docs.options reads helps wrongly"
    if not is_path("dsm/no.c") or is_path("no") or is_path("a*b/c"):
        yield "docs.paths takes words wrongly for paths"
    if not is_file("no_such.c") or is_file("unit.cache") or is_file("e.g"):
        yield "docs.paths takes words wrongly for files"
    if len(list(names_missing("a page", "`--no-such` `unit.none` `unit.one` `--one`",
                              "pangea_unit_test(one SOURCES) --one"))) != 2:
        yield "docs.names does not see what is missing"


CHECKS = {
    "options": check_options,
    "exits": check_exits,
    "states": check_states,
    "constants": check_constants,
    "paths": check_paths,
    "names": check_names,
    "folders": check_folders,
    "guests": check_guests,
    "self": check_self,
}


def main():
    if len(sys.argv) != 4 or sys.argv[3] not in CHECKS:
        sys.exit(f"usage: docs.py TOP BINDIR {'|'.join(CHECKS)}")
    complaints = list(CHECKS[sys.argv[3]](sys.argv[1], sys.argv[2]))
    for line in complaints:
        print(line)
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
