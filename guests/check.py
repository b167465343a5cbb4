#!/usr/bin/env python3
"""Runs the cases of data/cases.tsv and compares what comes out.

    check.py COMMAND [ARGUMENT...]

In COMMAND and its arguments, {} stands for the guest's name; the case's own arguments come last and its
variables are in the environment. Examples:

    check.py ../target/guests/native/{}                    the native programs
    check.py --wasm awsm run ../target/guests/{}.wasm      anything that runs wasm from a command line

With --wasm, the cases that only wasm can pass are run too: traps, which must give exit code 134 and their
name on standard error, and guests that have no native program.
"""

import os
import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent / "data"
COLUMNS = "guest args env stdin stdout exit where".split()
TIME_LIMIT_SECONDS = 60


def cases():
    for line in (DATA / "cases.tsv").read_text().splitlines():
        if line and not line.startswith("#"):
            yield dict(zip(COLUMNS, ("" if cell == "-" else cell for cell in line.split("\t")), strict=True))


def run(case, command):
    stdin = (DATA / case["stdin"]).read_bytes() if case["stdin"] else b""
    return subprocess.run(
        [part.replace("{}", case["guest"]) for part in command] + case["args"].split(),
        env=os.environ | dict(pair.split("=", 1) for pair in case["env"].split()),
        input=stdin, capture_output=True, timeout=TIME_LIMIT_SECONDS, check=False)


def complaint(case, result):
    """What is wrong with a result, or None."""
    trap = case["exit"].removeprefix("trap:") if case["exit"].startswith("trap:") else None
    code = 134 if trap else int(case["exit"])
    if result.returncode != code:
        return "exit code %d, expected %d: %s" % (result.returncode, code, result.stderr.decode(errors="replace"))
    if trap and trap.encode() not in result.stderr:
        return "standard error does not name the trap '%s': %s" % (trap, result.stderr.decode(errors="replace"))
    if code == 1 and not result.stderr:
        return "no message on standard error"
    expected = (DATA / case["stdout"]).read_bytes() if case["stdout"] else b""
    if result.stdout != expected:
        return "got %r, expected %r" % (result.stdout[:300], expected[:300])
    return None


def main():
    command = sys.argv[1:]
    wasm = command[:1] == ["--wasm"]
    if wasm:
        command.pop(0)
    if not command:
        sys.exit(__doc__)
    ran = failed = 0
    for case in cases():
        if case["where"] == "wasm" and not wasm:
            continue
        ran += 1
        problem = complaint(case, run(case, command))
        if problem:
            failed += 1
            print("FAILED %s: %s" % (" ".join(filter(None, map(case.get, ["guest", "args", "env", "stdin"]))), problem))
    print("guests: %d of %d cases hold" % (ran - failed, ran))
    sys.exit(1 if failed or not ran else 0)


if __name__ == "__main__":
    main()
