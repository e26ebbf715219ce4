#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lists what skipped itself in a run of ctest, and judges it by the list of what may.

usage: skips.py RESULTS.xml ALLOWED    (ctest --output-junit; tests/skips.allowed)
       skips.py --self                 tries itself
Exit code: 0 all that skipped itself may on this kind of machine; 1 something may not, or an allowed
expression is wrong.
"""
import os
import re
import sys
import tempfile
import xml.etree.ElementTree as tree


def kinds_here():
    """The kinds of machine that this one is."""
    kinds = {"any"}
    with open("/proc/cpuinfo") as file:
        if not re.search(r"\b(vmx|svm)\b", file.read()):
            kinds.add("no-virt")
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR))
    except OSError:
        kinds.add("no-kvm")
    if os.geteuid() != 0:
        kinds.add("no-root")
    return kinds


def allowed_read(path, kinds):
    """The expressions that count here."""
    expressions = []
    with open(path) as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            kind, expression = line.split(None, 1)
            if kind not in ("any", "no-virt", "no-kvm", "no-root"):
                raise ValueError(f"{path}:{number}: there is no kind of machine '{kind}'")
            compiled = re.compile(expression)
            if kind in kinds:
                expressions.append(compiled)
    return expressions


def skips_of(results):
    """'TEST: REASON' of each test, or part of one, that skipped itself."""
    skips = []
    for case in tree.parse(results).getroot().iter("testcase"):
        name = case.get("name")
        output = case.findtext("system-out") or ""
        parts = re.findall(r"^skipped: (\S+): (.*)$", output, re.M)
        skips += [f"{name}/{test}: {reason}" for test, reason in parts]
        # A test that ctest is told not to run (DISABLED) is none that skipped itself.
        if case.get("status") == "notrun" and case.find("skipped") is not None and not parts:
            lines = [line for line in output.splitlines() if line.strip()]
            skips.append(f"{name}: {lines[-1].strip() if lines else 'no reason'}")
    return skips


def judge(results, allowed, kinds, say=True):
    """Prints every skip, if it is to say so; returns how many of them may not be."""
    expressions = allowed_read(allowed, kinds)
    verdicts = [(skip, any(expression.fullmatch(skip) for expression in expressions)) for skip in skips_of(results)]
    if say:
        for skip, may in verdicts:
            print(f"skipped{'' if may else ', though this machine can do it'}: {skip}")
    return sum(not may for _, may in verdicts)


SELF = """<testsuite>
<testcase name="a.whole" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/><system-out>words
SKIP a: no right</system-out></testcase>
<testcase name="b.part" status="run"><system-out>skipped: s.one: no such thing
fine</system-out></testcase>
<testcase name="c.good" status="run"><system-out>nothing was skipped: s.two: here</system-out></testcase>
<testcase name="d.all" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/><system-out>skipped: s.x: why
skipped: s.y: why</system-out></testcase>
<testcase name="e.silent" status="notrun"><skipped message="SKIP_RETURN_CODE=77"/></testcase>
</testsuite>"""


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        results, allowed = f"{folder}/r.xml", f"{folder}/a"
        with open(results, "w") as file:
            file.write(SELF)

        def bad(lines, kinds):
            with open(allowed, "w") as file:
                file.write(lines)
            return judge(results, allowed, kinds, say=False)

        assert skips_of(results) == [
            "a.whole: SKIP a: no right", "b.part/s.one: no such thing", "d.all/s.x: why",
            "d.all/s.y: why", "e.silent: no reason"]
        assert bad("", {"any"}) == 5
        assert bad("# a\nany .*: .*\n", {"any"}) == 0
        assert bad("any a\\.whole: .*\nno-kvm .*\n", {"any"}) == 4
        assert bad("any a\\.whole: .*\nno-kvm .*\n", {"any", "no-kvm"}) == 0
        assert bad("any a\\.whole\n", {"any"}) == 5
        for wrong in "never .*\n", "any (\n":
            try:
                bad(wrong, {"any"})
            except (ValueError, re.error):
                continue
            raise AssertionError(wrong)
    print("skips.py: good")


def main():
    if sys.argv[1:] == ["--self"]:
        return self_test()
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    bad = judge(sys.argv[1], sys.argv[2], kinds_here())
    if bad:
        print(f"{bad} skipped though they should not (tests/skips.allowed)")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
