"""Reads NVIDIA's disassembly of kernels, and counts the instructions that limit a kernel's speed.

The counts cover a kernel's whole text, so code that runs seldom counts as much as a loop. They show what a change of a
source adds or removes.
"""

import re

# Widths of accesses to memory, in bits.
WIDTHS = (8, 16, 32, 64, 128)
# Columns of docs/gpu/kernels.tsv that `counts` returns: all instructions, conversions to or from f64, other
# instructions on f64, and accesses to global memory by width.
COLUMNS = (
    "SASS instructions",
    "f64 conversions",
    "f64 operations",
    *(f"loads of {width} bits" for width in WIDTHS),
    *(f"stores of {width} bits" for width in WIDTHS),
)
# Conversions, which run at a quarter of the rate of f64 operations on devices of compute capability 9.0.
CONVERSION = re.compile(r"U?(F2F|F2I|I2F|FRND)\b.*\.F64\b")
OPERATION = re.compile(r"(DADD|DMUL|DFMA|DSETP|DMNMX|DMMA)\b")
# LD and ST access an address whose space the assembler does not know. They count as accesses to global memory.
ACCESS = re.compile(r"(LDG|LD|STG|ST)\b(.*)")


def kernels(listing):
    """Returns the instructions of each kernel, and for each label the index of the instruction after it."""
    found, instructions, labels = {}, [], {}
    for line in listing.splitlines():
        if kernel := re.match(r"\.text\.(\w+):", line):
            instructions, labels = found[kernel[1]] = [], {}
        elif label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif text := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line):
            instructions.append(text[1])
    return found


def name(instruction):
    """Returns an instruction's name with its suffixes, without its guard and its operands."""
    return re.sub(r"@!?U?P\w+\s+", "", instruction).split()[0]


def width(suffixes):
    """Returns the width of an access in bits, from the suffixes of its name."""
    given = re.search(r"\.[US]?(8|16|64|128|256)\b", suffixes)
    bits = int(given[1]) if given else 32
    if bits not in WIDTHS:
        raise SystemExit(f"an access to memory has {bits} bits; add the width to WIDTHS in scripts/cuda_sass.py")
    return bits


def counts(instructions):
    """Returns a kernel's numbers in the order of `COLUMNS`."""
    names = [name(instruction) for instruction in instructions]
    # NOP only fills the end of a kernel.
    names = [name for name in names if name != "NOP"]
    accesses = [ACCESS.fullmatch(name) for name in names]
    by_width = [(access[1][:2], width(access[2])) for access in accesses if access]
    return [
        len(names),
        sum(bool(CONVERSION.match(name)) for name in names),
        sum(bool(OPERATION.match(name)) for name in names),
        *(by_width.count(("LD", width)) for width in WIDTHS),
        *(by_width.count(("ST", width)) for width in WIDTHS),
    ]
