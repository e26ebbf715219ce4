#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the transitions of docs/protocol.md, of the C core and of both models; --self seeds differences."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

MODELS = ("coherence.m", "coherence.pml")


def run(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
                          check=True).stdout


class Core:
    """Names and rows as table_dump prints them. A row: (side, state, event) -> (next, actions)."""

    def __init__(self, text):
        self.rows, self.events, self.actions = {}, {}, {}
        for line in text.splitlines():
            kind, side, *rest = line.split(" ")
            if kind == "row":
                self.rows[side, rest[0], rest[1]] = (rest[2], frozenset(rest[3:]))
            elif kind == "event":
                self.events[side, " ".join(rest[1:])] = rest[0]
            elif kind == "action":
                self.actions[side, " ".join(rest[1:])] = rest[0]


def rows_of_document(text, core):
    """The five-column tables under the two headings; labels become names by the core's lists."""
    rows = {}
    for side, heading in (("slice", "### The slice side"), ("home", "### The home side")):
        part = text.split(heading, 1)[1].split("<!-- end of tables -->")[0].split("\n### ")[0]
        for line in part.splitlines():
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if len(cells) != 5 or cells[0] in ("state", "---"):
                continue
            state, event, after, actions, _ = cells
            names = [] if actions == "-" else actions.split("; ")
            rows[side, state, core.events.get((side, event), f"?{event}")] = (
                after, frozenset(core.actions.get((side, name), f"?{name}") for name in names))
    return rows


# What a row has become in the text that the checker gets: its guard, its next state, its actions.
MURPHI_ROWS = {
    "slice": (r"if state = P_(\w+) & e = E_(\w+) then slice\[n\]\[p\]\.state := P_(\w+);",
              r"todo\[A_(\w+)\] := true;"),
    "home": (r"if state = H_(\w+) & e = G_(\w+) then dir\[p\]\.state := H_(\w+);",
             r"todo\[D_(\w+)\] := true;"),
}
SPIN_ROWS = {
    "slice": r":: before == P_(\w+) && ev == E_(\w+) -> state\[me\] = P_(\w+);",
    "home": r":: before == H_(\w+) && ev == G_(\w+) -> home = H_(\w+);",
}


def rest_of_row(text, start):
    """From the end of a row's assignment to what begins the next branch."""
    end = re.compile(r"\bendif\b|\belse\b|::").search(text, start)
    return text[start:end.start() if end else len(text)]


def rows_of_murphi(text):
    rows = {}
    for side, (guard, action) in MURPHI_ROWS.items():
        for match in re.finditer(guard, text):
            names = re.findall(action, rest_of_row(text, match.end()))
            rows[side, match[1], match[2]] = (match[3], frozenset(names))
    return rows


def spin_bits(expanded):
    """The actions' bits, from the very statements that obey them: "todo & (BIT)" has a name in the source only."""
    return {side: dict((value, name) for name, value in re.findall(
        rf"^#define {side.upper()}_(\w+) (\d+)$", expanded, re.M)) for side in ("slice", "home")}


def rows_of_spin(text, source):
    rows, bits = {}, spin_bits(source)
    for side, guard in SPIN_ROWS.items():
        for match in re.finditer(guard, text):
            values = re.findall(r"todo = todo \| (\d+);", rest_of_row(text, match.end()))
            rows[side, match[1], match[2]] = (match[3], frozenset(bits[side].get(v, f"?{v}") for v in values))
    return rows


def row_text(row):
    return "no row" if row is None else f"{row[0]}; {' '.join(sorted(row[1])) or '-'}"


def differences(core_rows, other, name):
    for key in sorted(core_rows.keys() | other.keys()):
        ours, theirs = core_rows.get(key), other.get(key)
        if ours != theirs:
            yield f"{' '.join(key)}: the core has {row_text(ours)}, {name} has {row_text(theirs)}"


def model_rows(top):
    """The rows of both models, by the expansion that their checkers get."""
    with open(os.path.join(top, "models/coherence.pml"), encoding="utf-8") as file:
        source = file.read()
    check = os.path.join(top, "models/check")
    return {"coherence.m": rows_of_murphi(run(check, "--expand", "coherence.m")),
            "coherence.pml": rows_of_spin(run(check, "--expand", "coherence.pml"), source)}


def compare(top, core):
    with open(os.path.join(top, "docs/protocol.md"), encoding="utf-8") as file:
        others = {"docs/protocol.md": rows_of_document(file.read(), core), **model_rows(top)}
    return [line for name, rows in others.items() for line in differences(core.rows, rows, name)]


# Each changes one source by a text that is there, and names the row that must be told of.
SEEDS = [
    ("docs/protocol.md", "| S | INV | I | unmap; ACK to the requester |", "| S | INV | I | unmap |", "slice S INV"),
    ("docs/protocol.md", "| SW | DONE | SB |", "| SW | DONE | S |", "home SW DONE"),
    ("docs/protocol.md", "| M | FWD_M | I |", "| M | FWD_X | I |", "slice M FWD_M"),
    ("models/rows.inc", "SLICE_ROW(SM, INV, IM, DO(UNMAP) DO(ACK))", "SLICE_ROW(SM, INV, SM, DO(UNMAP) DO(ACK))",
     "slice SM INV"),
    ("models/rows.inc", "SLICE_ROW(M, FWD_S, S, DO(PROTECT) DO(DATA_S) DO(WB))",
     "SLICE_ROW(M, FWD_S, S, DO(PROTECT) DO(DATA_S))", "slice M FWD_S"),
    ("models/rows.inc", "HOME_ROW(SB, PUT_S_LATE, SB, DO(PUT_ACK))", "", "home SB PUT_S_LATE"),
    ("models/rows.inc", "HOME_ROW(O, GET_M, OD, DO(FWD_M))", "HOME_ROW(O, GET_M, O, DO(FWD_M))", "home O GET_M"),
    ("models/slice.m", "slice[n][p].state := P_##next; actions", "slice[n][p].state := P_##state_; actions",
     "slice I FAULT_READ"),
    ("models/coherence.pml", "home = H_##next; actions", "home = H_##next;", "home S GET_M"),
]


def seed_problem(top, core, path, old, new, row):
    """None if the comparison tells of a seeded difference, and nothing before it."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(os.path.join(top, "models"), os.path.join(copy, "models"))
        os.mkdir(os.path.join(copy, "docs"))
        shutil.copy(os.path.join(top, "docs/protocol.md"), os.path.join(copy, "docs"))
        with open(os.path.join(copy, path), encoding="utf-8") as file:
            text = file.read()
        if old not in text:
            return f"{path} no longer has: {old}"
        with open(os.path.join(copy, path), "w", encoding="utf-8") as file:
            file.write(text.replace(old, new))
        if not any(line.startswith(row + ":") for line in compare(copy, core)):
            return f"a difference in {path} is not seen: {old} -> {new}"
    return None


def dump_problem(top, text):
    """None if a row that the core alone has is told of."""
    core = Core(text + "row home U WB S TAKE\n")
    if not any(line.startswith("home U WB:") for line in compare(top, core)):
        return "a row that only the core has is not seen"
    return None


def main():
    if len(sys.argv) not in (3, 4) or sys.argv[3:] not in ([], ["--self"]):
        sys.exit("usage: agree.py TOP TABLE_DUMP [--self]")
    top, text = sys.argv[1], run(sys.argv[2])
    core = Core(text)
    if sys.argv[3:]:
        problems = [seed_problem(top, core, *seed) for seed in SEEDS] + [dump_problem(top, text)]
        problems = [problem for problem in problems if problem]
    else:
        problems = compare(top, core)
        print(f"{len(core.rows)} rows in the core; docs/protocol.md and {' and '.join(MODELS)} "
              f"{'differ' if problems else 'have the same'}")
    for problem in problems:
        print(problem)
    sys.exit(1 if problems or not core.rows else 0)


if __name__ == "__main__":
    main()
