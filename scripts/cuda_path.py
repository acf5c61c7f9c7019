"""Counts the instructions that a thread of softmax executes for a row that its thread block holds in registers.

The instructions are read from NVIDIA's disassembly.

The count is the length of the shortest path on which a thread reads and writes all of its 16-byte pieces, and looks up
the exponentials of all their elements in tables. A thread takes this path if its row has no masked elements and no
logit more than 87 below the largest, and if every thread of its warp has the full number of pieces. Instructions that
only the first lane of a warp executes count for every lane, because the warp waits for them.
"""

import heapq
import re

ARCHITECTURE = "sm_90"
# Number of 16-byte pieces that a thread holds, by kernel size.
PIECES = {"1x4": 4, "8x4": 4, "any": 8}
# Number of shuffles that are not table lookups, by kernel size. The kernels of size `any` have one, which broadcasts
# the warp's index.
SHUFFLES = {"1x4": 0, "8x4": 0, "any": 1}
# Number of elements in a piece, by type.
IN_PIECE = {"f32": 4, "f16": 8, "bf16": 8}
# Largest allowed number of instructions per two-byte element, in blocks of more than one warp.
MOST = 28

# Patterns for the starts of the instructions that a path must contain.
MARKS = (r"LDG\.E\.128", r"STG\.E\.128", r"SHFL\.IDX", r"STS")


def after(text, place, labels):
    """Returns whether a path may end at an instruction, and the indices of the instructions that may follow."""
    guard = re.match(r"@!?U?P\w+\s+", text)
    operation = text[guard.end() :] if guard else text
    name = operation.split()[0]
    if name == "EXIT":
        return True, [place + 1] if guard else []
    if name.startswith(("CALL", "RET", "BRX")):
        return False, []
    if name.startswith("BRA"):
        target = re.search(r"\.L_x_\d+", operation)
        ways = [labels[target[0]]] if target and target[0] in labels else []
        # The condition of a branch may also follow the instruction's name.
        may_go_on = guard or name == "BRA.DIV" or re.match(r"BRA\S* !?U?P\w+,", operation)
        return False, ways + ([place + 1] if may_go_on else [])
    return False, [place + 1]


def shortest(found, labels, wanted):
    """Returns the length of the shortest path on which the `MARKS` match as often as `wanted` says, or None."""
    marks = [tuple(int(bool(re.match(r"(@!?U?P\w+\s+)?" + mark, text))) for mark in MARKS) for text in found]
    start = (0, (0,) * len(MARKS))
    best, queue = {start: 0}, [(0, start)]
    while queue:
        length, (place, had) = heapq.heappop(queue)
        if best[place, had] < length or place >= len(found):
            continue
        had = tuple(a + b for a, b in zip(had, marks[place]))
        if any(a > b for a, b in zip(had, wanted)):
            continue
        ends, ways = after(found[place], place, labels)
        if ends and had == wanted:
            return length + 1
        for way in ways:
            if length + 1 < best.get((way, had), length + 2):
                best[way, had] = length + 1
                heapq.heappush(queue, (length + 1, (way, had)))
    return None


def of_kernel(listed, kernel, pieces, elements, shuffles):
    """Returns the length of the shortest path, among the paths with the most writes to shared memory.

    A path with the most writes includes the instructions that only the first lane of a warp executes.
    """
    found, labels = listed[kernel]
    for writes in range(8, -1, -1):
        if length := shortest(found, labels, (pieces, pieces, 2 * elements + shuffles, writes)):
            return length
    raise SystemExit(f"{kernel}: the machine code must have a path with {pieces} reads of 16 bytes, "
                     f"{pieces} writes of 16 bytes and {elements} exponentials, but has none")


def table(listed):
    """Yields the lines of docs/gpu/instructions.tsv. `listed` is the result of `cuda_sass.kernels`."""
    yield "kernel\tarchitecture\telements of a thread\tinstructions of a thread\tinstructions an element"
    for dtype, in_piece in IN_PIECE.items():
        for size, pieces in PIECES.items():
            kernel, elements = f"softmax_{dtype}_{size}", pieces * in_piece
            length = of_kernel(listed, kernel, pieces, elements, SHUFFLES[size])
            if dtype != "f32" and size != "1x4" and length > MOST * elements:
                raise SystemExit(f"{kernel}: expected at most {MOST} instructions per element, "
                                 f"got {length} instructions for {elements} elements")
            yield f"{kernel}\t{ARCHITECTURE}\t{elements}\t{length}\t{length / elements:.2f}"
