#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the models of the coherence protocol with rumur and spin; prints states and times."""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

HERE = os.path.dirname(os.path.realpath(__file__))
MISSING = 77  # as ctest's skipped tests
MEMORY_BYTES_MAX = 3 << 30  # a checker that needs more than this fails

# Of a model unless a configuration says otherwise. A channel's depth is far above what is ever used: one message more
# than fits is an error.
MURPHI = {"NODES": 2, "PAGES": 1, "REQUESTS": 2, "CHANNEL_DEPTH": 8, "HOLDS": 2, "ARRIVALS": 1, "LOSSES": 0,
          "EVICTIONS": 1}
SPIN = {"NODES": 2, "WATCHED": 1, "CHANNEL_DEPTH": 6, "HOLDS": 1, "EVICTIONS": 1}

UNEXPECTED = "an unexpected message"
ONE_WRITER = "one writer or many readers"
LAST_WRITE = "a read returns the last write"
WAITS = "nobody waits at rest"
ENDS = "every transaction ends"
AGREE = "directory and caches agree at rest"
IN_FLIGHT = "a frame changes while it is in flight"
NEVER = "an access waits for ever"


class Config:
    """One run of a checker: the model's defines, and what must come out (None: everything holds)."""

    def __init__(self, name, what, model, defines, quick=False, expect=None):
        self.name, self.what, self.model, self.quick, self.expect = name, what, model, quick, expect
        self.defines = {**(MURPHI if model == "coherence.m" else SPIN), **defines}


def murphi(name, what, quick=False, **defines):
    return Config(name, what, "coherence.m", defines, quick)


def spin(name, what, quick=False, **defines):
    return Config(name, what, "coherence.pml", defines, quick)


CONFIGS = [
    murphi("2x1", "2 nodes, 1 page", True),
    murphi("3x1", "3 nodes, 1 page", True, NODES=3),
    murphi("2x2", "2 nodes, 2 pages, a home each", PAGES=2, HOLDS=0, ARRIVALS=0, quick=True),
    murphi("2x2-holds", "2x2, hold times, pages arrive in two steps", PAGES=2),
    murphi("2x2-one-request", "2x2, one request a node at a time", PAGES=2, REQUESTS=1, HOLDS=0, ARRIVALS=0),
    murphi("2x1-loss", "2x1, each lost or told of a loss at any time", LOSSES=1),
    murphi("3x1-loss", "3x1, the same", True, NODES=3, LOSSES=1),
    murphi("2x2-loss", "2x2, the same", PAGES=2, LOSSES=1),
    spin("live-2-home", "2 nodes, faults of the home", WATCHED=0),
    spin("live-2", "2 nodes, faults of node 1", True),
    spin("live-3-home", "3 nodes, faults of the home", NODES=3, WATCHED=0),
    spin("live-3-1", "3 nodes, faults of node 1", NODES=3, WATCHED=1),
    spin("live-3-2", "3 nodes, faults of node 2", True, NODES=3, WATCHED=2),
]


def seed(name, what, expect, model="coherence.m", **defines):
    defines[f"SEED_{name.upper().replace('-', '_')}"] = 1
    if model == "coherence.m":
        defines = {"HOLDS": 0, "ARRIVALS": 0, **defines}
    return Config(name, what, model, defines, expect=expect)


# Each is the model with one fault, and what the checker must say of it.
SEEDS = [
    seed("ack-dropped", "a sharer obeys INV and sends no ACK", ENDS, NODES=3),
    seed("grant-early", "a write begins before all ACKs are here", IN_FLIGHT, NODES=3),
    seed("sharer-forgotten", "the home does not note a reader", AGREE),
    seed("wb-not-awaited", "DONE ends a read before the WB is here (race 7)", UNEXPECTED, NODES=3),
    seed("inv-keeps-upgrade", "INV leaves the copy of an upgrade (race 2)", ONE_WRITER, NODES=3),
    seed("late-put-taken", "the home takes an earlier owner's PUT_M (race 4)", LAST_WRITE, NODES=3),
    seed("put-ack-early", "PUT_ACK does not wait for the transaction", IN_FLIGHT, NODES=3),
    seed("eviction-uncounted", "a sharer that evicts is not asked for its ACK (race 3)", UNEXPECTED, NODES=3, HOLDS=2),
    seed("done-not-awaited", "the home serves the next without DONE", UNEXPECTED, NODES=3),
    seed("unordered", "a channel that does not keep order", UNEXPECTED),
    seed("evicted-deaf", "a page being evicted does not answer FWD", ENDS),
    seed("hold-forgotten", "what was set aside is never obeyed", ENDS, HOLDS=2),
    seed("queue-dropped", "who waits at the home is not served", ENDS, NODES=3),
    seed("unmap-forgotten", "a page given up stays mapped", IN_FLIGHT),
    seed("protect-forgotten", "a page that is read elsewhere stays writable", IN_FLIGHT),
    seed("wake-forgotten", "the end of an eviction wakes nobody", WAITS),
    seed("put-m-into-frame", "PUT_M is received into the home's frame", LAST_WRITE, NODES=3, ARRIVALS=1),
    seed("lost-not-asked", "the home goes on without a node that was cut off", ONE_WRITER, LOSSES=1),
    seed("frozen-acknowledges", "a node that was told of a loss acknowledges INVs", ONE_WRITER, LOSSES=1),
    seed("loss-outlived", "a node goes on after a loss, during which it dropped messages", WAITS, LOSSES=1),
    seed("ack-dropped", "the same, seen as a fault never answered", NEVER, "coherence.pml", NODES=3),
    seed("turn-unfair", "the home serves the highest node first", NEVER, "coherence.pml", NODES=3, WATCHED=0),
]
for config in SEEDS:
    config.name = ("live-" if config.model == "coherence.pml" else "") + config.name


class Failed(Exception):
    """A tool did not do its work: the text says which and why."""


def limits_set():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))


def run(command, folder, limit_s):
    """The output of a command, or Failed; its exit code is the caller's matter only where it says so."""
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=limit_s, preexec_fn=limits_set, check=False)
    except subprocess.TimeoutExpired:
        raise Failed(f"{command[0]} took longer than {limit_s} s") from None
    return done.returncode, done.stdout + done.stderr


def run_well(command, folder, limit_s):
    code, output = run(command, folder, limit_s)
    if code != 0:
        raise Failed(f"{command[0]} failed: {output.strip()[-2000:]}")
    return output


def expand(model, defines, top=HERE):
    """The model as its checker gets it, all macros expanded."""
    flags = [f"-D{name}={value}" for name, value in sorted(defines.items())]
    return run_well(["cpp", "-x", "c", "-P", "-undef", "-nostdinc", "-w", *flags, model], top, 60)


def compiler(optimise):
    wide = ["-mcx16"] if platform.machine() == "x86_64" else []
    return ["gcc", "-O1" if optimise else "-O0", "-w", *wide]


def rumur_check(config, folder, limit_s):
    with open(os.path.join(folder, "model.m"), "w", encoding="utf-8") as file:
        file.write(expand(config.model, config.defines))
    run_well(["rumur", "--threads", "1", "--deadlock-detection", "off", "--output", "model.c", "model.m"], folder, limit_s)
    run_well([*compiler(not config.expect), "model.c", "-o", "checker", "-lpthread"], folder, limit_s)
    start = time.monotonic()
    _, output = run(["./checker"], folder, limit_s)
    took = time.monotonic() - start
    states = re.search(r"(\d+) states, (\d+) rules fired", output)
    error = re.search(r"error trace for the error:\s*(.*?)\n\n", output, re.S)
    if not states or bool(error) == ("No error found" in output):
        raise Failed(f"the checker ended without a result: {output.strip()[-500:]}")
    found = re.sub(r'^invariant "?|"? failed$', "", error.group(1).strip()) if error else None
    return found, int(states.group(1)), took, output


def spin_check(config, folder, limit_s):
    with open(os.path.join(folder, "model.pml"), "w", encoding="utf-8") as file:
        file.write(expand(config.model, config.defines))
    run_well(["spin", "-a", "model.pml"], folder, limit_s)
    options = [f"-DMEMLIM={MEMORY_BYTES_MAX >> 21}", "-DNFAIR=5", "-DCOLLAPSE"]
    run_well([*compiler(not config.expect), *options, "pan.c", "-o", "checker"], folder, limit_s)
    start = time.monotonic()
    _, output = run(["./checker", "-a", "-f", "-n", "-m2000000"], folder, limit_s)
    took = time.monotonic() - start
    states = re.search(r"(\d+) states, stored", output)
    errors = re.search(r"errors: (\d+)", output)
    if not states or not errors or "too small" in output or "max search depth" in output:
        raise Failed(f"the checker ended without a result: {output.strip()[-500:]}")
    found = None
    if errors.group(1) != "0":
        found = NEVER if "acceptance cycle" in output else UNEXPECTED
        _, trail = run(["spin", "-t", "-g", "-p", "model.pml"], folder, limit_s)
        output += trail
    elif "not completed" in output:
        raise Failed(f"the search was not completed: {output.strip()[-500:]}")
    return found, int(states.group(1)), took, output


def check(config, limit_s, keep):
    folder = os.path.join(keep, config.name) if keep else tempfile.mkdtemp(prefix="pangea-models-")
    os.makedirs(folder, exist_ok=True)
    try:
        checker = rumur_check if config.model == "coherence.m" else spin_check
        found, states, took, output = checker(config, folder, limit_s)
        # A seeded fault need not show where one looks first: what is said of it must be what was expected.
        ok = found is None if config.expect is None else found is not None and config.expect in found
        return {"name": config.name, "model": config.model, "what": config.what, "ok": ok, "found": found,
                "expected": config.expect, "states": states, "seconds": round(took, 2), "output": output}
    except Failed as why:
        return {"name": config.name, "model": config.model, "what": config.what, "ok": False, "found": str(why),
                "expected": config.expect, "states": 0, "seconds": 0, "output": ""}
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def result_text(result):
    if result["ok"]:
        return f"found: {result['found']}" if result["expected"] else "all holds"
    if result["expected"]:
        return f"NOT AS EXPECTED ({result['expected']}): {result['found'] or 'nothing found'}"
    return f"FAILED: {result['found']}"


def arguments():
    parser = argparse.ArgumentParser(
        prog="models/check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="exit status: 0 all came out as they must, 1 some did not, 2 wrong usage,\n"
               "77 rumur, spin or gcc is not installed (deploy/setup --tests installs them)")
    parser.add_argument("names", nargs="*", metavar="NAME", help="configurations to run; default: all")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="only the short ones, as CI does")
    which.add_argument("--seeds", action="store_true", help="models with a seeded fault, each of which must be found")
    parser.add_argument("--list", action="store_true", help="list the configurations and run none")
    parser.add_argument("--json", action="store_true", help="print JSON, with --list too")
    parser.add_argument("--trace", action="store_true", help="print the counterexamples")
    parser.add_argument("--limit", type=int, default=300, metavar="SECONDS",
                        help="of each build and each run (default 300)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="configurations at a time (default 1)")
    parser.add_argument("--keep", metavar="FOLDER", help="leave expanded models and checkers there")
    parser.add_argument("--expand", metavar="MODEL", choices=["coherence.m", "coherence.pml"],
                        help="print the model as its checker gets it, and run nothing")
    options = parser.parse_args()
    chosen = SEEDS if options.seeds else CONFIGS
    if options.quick:
        chosen = [c for c in CONFIGS if c.quick]
    unknown = set(options.names) - {c.name for c in chosen}
    if unknown:
        parser.error(f"no such configuration: {' '.join(sorted(unknown))}")
    return options, [c for c in chosen if not options.names or c.name in options.names]


def list_print(configs, as_json):
    if as_json:
        print(json.dumps([{"name": c.name, "model": c.model, "what": c.what, "expected": c.expect,
                           "defines": c.defines} for c in configs], indent=2))
        return
    for config in configs:
        print(f"{config.name:20} {config.model:14} {config.what}")


def tools_missing(configs):
    tools = {"gcc", "cpp"} | {"rumur" if c.model == "coherence.m" else "spin" for c in configs}
    return sorted(tool for tool in tools if not shutil.which(tool))


def result_print(result, options):
    output = result.pop("output")
    if not options.json:
        print(f"{result['name']:20} {result['model']:14} {result['states']:>9} {result['seconds']:>8.2f}  "
              f"{result_text(result)}  [{result['what']}]", flush=True)
    if options.trace and result["found"]:
        print(re.sub(r"\n[^\n]*(Undefined|page:0)", "", output), file=sys.stderr)


def main():
    options, configs = arguments()
    if options.list:
        list_print(configs, options.json)
        return 0
    if options.expand:
        print(expand(options.expand, MURPHI if options.expand == "coherence.m" else SPIN), end="")
        return 0
    missing = tools_missing(configs)
    if missing:
        print(f"skipped: not installed: {' '.join(missing)} (deploy/setup --tests installs them)")
        return MISSING
    os.nice(19 - os.nice(0))
    results = []
    if not options.json:
        print(f"{'configuration':20} {'model':14} {'states':>9} {'seconds':>8}  result")
    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        for result in pool.map(lambda config: check(config, options.limit, options.keep), configs):
            results.append(result)
            result_print(result, options)
    if options.json:
        print(json.dumps(results, indent=2))
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
