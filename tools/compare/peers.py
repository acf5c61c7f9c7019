"""Times torch, ONNX Runtime and NumPy on the cases and inputs of the Rust program.

usage: peers.py CASES.json OUT.json

`evenkeel-compare cases` writes CASES.json. The folder OUT.results gets the first rows of the results;
`evenkeel-compare report` computes their errors. `./run` installs the pinned versions, limits the libraries to one
thread, and selects the instruction set.
"""

import importlib
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "python"))

from inputs import Problem
from race import Contender, race

# Modules of the libraries. Each has FACTS, DTYPES, and a dictionary OPS of functions that make the contenders for a
# problem.
PEERS = ["torch_ops", "onnx_ops", "numpy_ops"]


def peers():
    """Returns the modules whose libraries are installed."""
    found = []
    for name in PEERS:
        try:
            found.append(importlib.import_module(name))
        except ImportError as missing:
            print(f"skipping {name}: {missing}", file=sys.stderr)
    return found


def contenders(problem, modules):
    copy = problem.x.copy()
    made = [Contender("copy, Python", "into", lambda: copy.__setitem__(..., problem.x), None)]
    for module in modules:
        if problem.dtype in module.DTYPES and problem.op in module.OPS:
            try:
                made += module.OPS[problem.op](problem)
            except Exception as refused:
                case = f"{problem.op} in {problem.dtype}"
                print(f"{module.__name__} can't run {case}: {first_line(refused)}", file=sys.stderr)
    return made


def first_line(error):
    return (str(error).splitlines() or [repr(error)])[0]


def main():
    cases_file, out_file = map(Path, sys.argv[1:3])
    plan = json.loads(cases_file.read_text())
    results = out_file.with_suffix(".results")
    results.mkdir(parents=True, exist_ok=True)
    # A run that is limited to an instruction set omits ONNX Runtime, which can't be limited.
    modules = [module for module in peers() if not (plan["forced"] and module.__name__ == "onnx_ops")]
    facts = {"Python": sys.version.split()[0], "load at the start of Python": "%.2f %.2f %.2f" % os.getloadavg()}
    for module in modules:
        facts.update(module.FACTS)
    records = []
    for number, case in enumerate(plan["cases"]):
        if not any(case["dtype"] in module.DTYPES and case["op"] in module.OPS for module in modules):
            continue
        problem = Problem(case)
        problem.check()
        timed = race(contenders(problem, modules), problem, plan["quick"])
        for place, (contender, record) in enumerate(timed):
            if contender.result is not None and record["times"]:
                file = results / f"{number}-{place}.bin"
                file.write_bytes(contender.first(problem.kept))
                record["result"] = f"{results.name}/{file.name}"
            times = record["times"]
            print(
                f"{problem.op:22} {problem.dtype:5} {problem.name:12} {contender.name:12} {contender.form:16}",
                f"{times['cpu_min']:8.3f} ns, median {times['cpu_median']:8.3f}" if times else record["note"],
                flush=True,
            )
            records.append(record)
    out_file.write_text(json.dumps({"level": plan["level"], "facts": facts, "records": records}, indent=1))


if __name__ == "__main__":
    main()
