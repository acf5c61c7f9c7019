"""Counts the instructions that the kernels of a call execute, for each architecture.

`gpu-check time` calls each op on the interpreter of PTX, which counts how often a warp executes each line of the PTX.
NVIDIA's assembler records the line of the PTX that each machine instruction comes from. A line with arithmetic, a load
or a store normally gives one machine instruction. From these instructions, the script derives how often their basic
block of the machine code runs. If a line gives several instructions, because the assembler unrolled a loop, each of
them gets an equal share of the line's count.
"""

import json
import os
import re
import statistics
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cuda_ptx
import cuda_sass

# sm_89 is left out, because it has the same instructions as sm_86.
ARCHITECTURES = ["sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
# Each op is counted in two calls, with at most these numbers of elements. A call on a device has more elements, so its
# counts are extrapolated linearly from the two calls.
ELEMENTS = (1 << 17, 1 << 18)
# Ops that are left out, because the work of a row depends on the number of rows: softmax with a causal mask, attention
# and the sampler.
LEFT_OUT = re.compile(r"softmax masked|attention_decode.*|sample.*")
# Preferred number of columns of the counted calls. An op that was not timed with this number is counted with another.
COLUMNS = 4096
# Kinds of PTX lines that normally give exactly one machine instruction: a pattern for the PTX, and a pattern for the
# machine instruction.
SAME = [
    (r"(fma|mul|add|sub)\.rn\.f32", r"FFMA|FMUL|FADD"),
    (r"(fma|mul|add|sub)\.rn\.f64", r"DFMA|DMUL|DADD"),
    (r"ld\.global", r"LDG|LD\b"),
    (r"st\.global", r"STG|ST\b"),
    (r"ld\.shared", r"LDS"),
    (r"st\.shared", r"STS"),
    (r"shfl", r"SHFL"),
    (r"redux", r"REDUX"),
    (r"(ex2|lg2)\.approx", r"MUFU"),
    (r"bar\.sync", r"BAR\.SYNC"),
    (r"setp\.\w+\.f32", r"FSETP"),
]
GLOBAL = re.compile(r"\b(?:ld|st)(?!\.(?:shared|param|const|local))\S*?(?:\.v(\d))?\.[busf](8|16|32)\s")
# Classes of machine instructions, by the unit that executes them. All instructions also take a slot of a scheduler.
CLASSES = {
    "f64": cuda_sass.OPERATION,
    "f64 conversions": cuda_sass.CONVERSION,
    "special": re.compile(r"MUFU|F2F\b|F2I|I2F\b|FRND|POPC|FLO|BREV"),
    "f32": re.compile(r"FADD|FMUL|FFMA|IMAD|HADD2|HMUL2|HFMA2|IDP"),
    "shared": re.compile(r"LDS|STS|LDG|STG|LD\b|ST\b|SHFL|REDUX|ATOM|RED\b|LDGSTS|MATCH"),
    "integer": re.compile(r"IADD|LOP3|SHF|LEA|ISETP|FSETP|SEL|FSEL|PRMT|FMNMX|IMNMX|VIMNMX|VIADD|I2FP|F2FP|IABS|PLOP3|"
                          r"BMSK|SGXT|HSETP2|HMNMX2|LOP|SHL|SHR|FCHK|P2R|R2P|VOTE|I2I|ISCADD|MOV\b|CSEL"),
}
FIELDS = ["op", "type", "rows", "columns", "bytes", "moved bytes", "kernel", "architecture", "instructions", *CLASSES]


def lanes(kind, name):
    """Returns the number of slots that an instruction takes in the unit that executes it."""
    if kind != "shared":
        return 1
    if name.startswith("REDUX"):
        return 2
    if re.match(r"(LD|ST)[SG]?\b", name):
        return max(1, cuda_sass.width(name) // 32)
    return 1


def blocks_of(listing):
    """Returns the basic blocks of each kernel, as lists of (line of the PTX, name of the instruction).

    The subroutines at the end of a kernel are left out. They are the slow paths of divisions and roots.
    """
    found, blocks, line, is_left_out = {}, [[]], 0, True
    for text in listing.splitlines():
        if kernel := re.match(r"\.text\.(\w+):", text):
            blocks, is_left_out = [[]], False
            found[kernel[1]] = blocks
        elif place := re.search(r'## File "\.nv_debug_ptx_txt", line (\d+)', text):
            line = int(place[1])
        elif re.match(r"\.L_x_\d+:", text):
            blocks.append([])
        elif re.match(r"[$\w]+:$", text):
            is_left_out = True
        elif not is_left_out and (instruction := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", text)):
            name = cuda_sass.name(instruction[1])
            if name != "NOP":
                blocks[-1].append((line, name))
            if re.match(r"BRA|EXIT|RET|CALL|BRX", name):
                blocks.append([])
    return {kernel: [block for block in blocks if block] for kernel, blocks in found.items()}


def executed(blocks, text, counts):
    """Returns how often a warp executes each instruction name of a kernel. `counts` has the count of each PTX line."""
    same = {}
    for line in counts:
        instruction = re.sub(r"^@!?%p\d+\s+", "", text[line - 1].strip())
        same[line] = next((re.compile(machine) for ptx, machine in SAME if re.match(ptx, instruction)), None)
    copies, holders = Counter(), Counter()
    for block in blocks:
        copies.update(line for line, name in block if same.get(line) and same[line].match(name))
        holders.update({line for line, _ in block})
    total = Counter()
    for block in blocks:
        times = [counts[line] / copies[line] for line, name in block if same.get(line) and same[line].match(name)]
        # `times` is empty if no instruction of the block matches a pattern in `SAME`. Each line's count is then divided
        # equally among the blocks that contain the line.
        times = times or [counts.get(line, 0) / holders[line] for line, _ in block]
        often = statistics.median(times)
        for _, name in block:
            total[name] += often
    return total


def wanted_of(measured):
    """Returns one timing for each op and type. Prefers a shape with `COLUMNS` columns, and else takes the first one."""
    wanted = {}
    for timing in measured["timings"]:
        key = timing["op"], timing["dtype"]
        if LEFT_OUT.fullmatch(timing["op"]):
            continue
        if key not in wanted or timing["cols"] == COLUMNS != wanted[key]["cols"]:
            wanted[key] = timing
    return wanted


def calls_of(program, library, measured, most):
    """Runs the ops on the interpreter, with at most `most` elements.

    `measured` has the timings of a run on a device. Returns the number of elements and the launches of one call, by op
    and type.
    """
    wanted = wanted_of(measured)
    skipped = [timing for timing in measured["timings"] if timing is not wanted.get((timing["op"], timing["dtype"]))]
    reduced = [{**timing, "cols": min(timing["cols"], most)} for timing in skipped]
    reduced = [{**timing, "rows": min(timing["rows"], most // timing["cols"])} for timing in reduced]
    found, calls = {}, []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "time.json"
        # The program skips cases that the file already has.
        out.write_text(json.dumps({**measured, "timings": reduced}))
        environment = {**os.environ, "LD_LIBRARY_PATH": str(library), "EVENKEEL_PTX_COUNTS": "/dev/stdout"}
        command = [program, "time", "--elements", str(most), "--out", out]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
            for text in running.stdout:
                if text.startswith("launch\t"):
                    calls.append(text.split("\t")[1:])
                elif case := re.match(r"(.*), (F32|F16|BF16), (\d+)x(\d+): ", text):
                    print(case[0], flush=True)
                    found[case[1], case[2]] = int(case[3]) * int(case[4]), one_call(calls)
                    calls = []
        if running.returncode:
            raise SystemExit(f"{program} must end with the status 0, but ended with {running.returncode}")
    return found


def one_call(calls):
    """Returns the launches of the last call. All calls of a case launch the same kernels."""
    shapes = [launch[:3] for launch in calls]
    period = next(n for n in range(1, len(shapes) + 1) if shapes[-n:] == shapes[-2 * n : -n] or n == len(shapes))
    return calls[-period:]


def parsed(counts):
    return dict(map(int, pair.split(":")) for pair in counts.split())


def cases_of(program, library, measured):
    """Returns for each case its timing and the kernels of one call, each with the counts of its PTX lines.

    The counts are those of the call on the device, extrapolated from two calls with fewer rows.
    """
    fewer, more = (calls_of(program, library, measured, most) for most in ELEMENTS)
    cases = []
    for key, timing in wanted_of(measured).items():
        (least, smaller), (most, larger) = fewer[key], more[key]
        names = [[launch[0] for launch in call] for call in (smaller, larger)]
        if least >= most or names[0] != names[1]:
            raise SystemExit(f"{key}: two calls must launch the same kernels, and the second must have more elements, "
                             f"but they launch {names[0]} on {least} and {names[1]} on {most} elements")
        left = timing["rows"] * timing["cols"] - most
        call = []
        for (kernel, _, _, before), (_, _, _, counts) in zip(smaller, larger):
            before, counts = parsed(before), parsed(counts)
            slopes = {line: (count - before.get(line, 0)) / (most - least) for line, count in counts.items()}
            call.append((kernel, {line: max(0, counts[line] + slope * left) for line, slope in slopes.items()}))
        cases.append((timing, call))
    return cases


def global_bytes(text, counts):
    """Returns the number of bytes that all lanes of a kernel's warps load from and store to global memory.

    Numbers of 64 bits are left out, because all lanes of a warp usually load the same one, such as an address.
    """
    total = 0
    for line, count in counts.items():
        # An access that names no state space counts as global. Its address is one that the kernel read from memory.
        if access := GLOBAL.search(text[line - 1]):
            total += 32 * count * int(access[1] or 1) * int(access[2]) // 8
    return total


def assembled(text, kernels, architecture, programs):
    """Returns the basic blocks of the named kernels of a module."""
    # Replaces other kernels by empty lines, so that the line numbers stay the same.
    head, *entries = text.split(cuda_ptx.ENTRY)
    kept = [cuda_ptx.ENTRY + entry if entry.split("(")[0] in kernels else "\n" * entry.count("\n")
            for entry in entries]
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "module.ptx", Path(folder) / "module.cubin"
        source.write_text(head + "".join(kept))
        subprocess.run([programs / "ptxas", "-lineinfo", f"-arch={architecture}", "-o", binary, source], check=True)
        listing = subprocess.check_output([programs / "nvdisasm", "-gp", "-c", binary], text=True)
        return blocks_of(listing)


def rows(cases, texts, programs):
    """Yields the lines of docs/gpu/executed.tsv. `texts` has the PTX of each source."""
    modules = [module for text in texts.values() for module in cuda_ptx.modules(text)]
    module_of = {kernel: i for i, module in enumerate(modules)
                 for kernel in re.findall(re.escape(cuda_ptx.ENTRY) + r"(\w+)\(", module)}
    used = {}
    for _, call in cases:
        for kernel, *_ in call:
            used.setdefault(module_of[kernel], set()).add(kernel)
    parts = [(i, architecture) for i in used for architecture in ARCHITECTURES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        blocks = pool.map(lambda part: assembled(modules[part[0]], used[part[0]], part[1], programs), parts)
        machine = dict(zip(parts, blocks))
    yield "\t".join(FIELDS)
    for timing, call in cases:
        elements = timing["rows"] * timing["cols"]
        call = [(kernel, modules[module_of[kernel]].split("\n"), counts) for kernel, counts in call]
        # If a kernel reads an input again, the second read is from a cache. So a kernel moves at most `timing["bytes"]`
        # bytes from and to memory.
        moved = [min(global_bytes(text, counts), timing["bytes"]) for _, text, counts in call]
        largest = moved.index(max(moved))
        moved[largest] += max(0, timing["bytes"] - sum(moved))
        for architecture in ARCHITECTURES:
            for (kernel, text, counts), of_kernel in zip(call, moved):
                numbers = dict.fromkeys(["instructions", *CLASSES], 0)
                blocks = machine[module_of[kernel], architecture][kernel]
                for name, count in executed(blocks, text, counts).items():
                    numbers["instructions"] += count
                    kind = next((kind for kind, pattern in CLASSES.items() if pattern.match(name)), None)
                    if kind:
                        numbers[kind] += count * lanes(kind, name)
                key = map(str, [timing["op"], timing["dtype"], timing["rows"], timing["cols"]])
                of_element = [32 * number / elements for number in numbers.values()]
                of_bytes = [f"{bytes / elements:.2f}" for bytes in (timing["bytes"], of_kernel)]
                yield "\t".join([*key, *of_bytes, kernel, architecture, *(f"{number:.2f}" for number in of_element)])
