"""The format in which the crate stores its PTX; `src/cuda/ptx.rs` describes and reads it."""

import re

import pypi

ENTRY = ".visible .entry "
# A register, or a label. The archive writes `%` before labels too, so that labels without a number can be recognised.
NUMBERED = re.compile(r"%(rs|rd|r|fd|f|p|L)(\d*)\b(?![.<])|(?<![\w.:%])(L)(\d+)\b")


def slim(text):
    """Shortens the names of parameters, numbers registers and labels, and removes comments and indentation."""
    text = re.sub(r"//.*", "", text)
    text = re.sub(r"\b\w+_param_(\d+)", r"p\1", text)
    # Labels are local to a kernel, so labels of two kernels may have the same name.
    text = re.sub(r"\$L__BB\d+_", "L", text)
    text = re.sub(r"[ \t]+", " ", text)
    text = "\n".join(line.strip() for line in text.splitlines() if line.strip()) + "\n"
    return of_kernels(text, in_order, label="L")


def storage(entry):
    parts = entry.split("(")[0].split("_")
    return next((part for part in parts if part in ("f16", "bf16", "f32", "f64")), "")


def modules(text):
    """Yields one module for each storage type: the head of the source, and the source's kernels for that type."""
    head, *entries = text.split(ENTRY)
    for kind in dict.fromkeys(map(storage, entries)):
        yield head + "".join(ENTRY + entry for entry in entries if storage(entry) == kind)


def of_kernels(text, convert, label):
    """Replaces the number of each register and label by `converted(class, number)`.

    For each kernel, `convert()` creates a new function `converted`. `label` is the text before the number of a label.
    """
    head, *entries = text.split(ENTRY)
    for i, entry in enumerate(entries):
        converted = convert()

        def replaced(match):
            kind, number = match[1] or match[3], match[2] or match[4] or ""
            return (label if kind == "L" else f"%{kind}") + str(converted(kind, number))

        entries[i] = NUMBERED.sub(replaced, entry)
    return ENTRY.join([head, *entries])


def in_order():
    """Returns a function that numbers the names of each class from 1, in the order in which they appear."""
    numbers = {}

    def number(kind, old):
        known = numbers.setdefault(kind, {})
        return known.setdefault(old, len(known) + 1)

    return number


def as_age():
    """Returns a function that converts the number of a register or label to its age.

    The age is 1 for the one that appeared last, 2 for the one before it, and empty for a new one.
    """
    latest_first = {}

    def age(kind, number):
        known = latest_first.setdefault(kind, [])
        try:
            age = known.index(number) + 1
            known.pop(age - 1)
        except ValueError:
            age = ""
        known.insert(0, number)
        return age

    return age


def from_age():
    """Returns the inverse of the function that `as_age` returns.

    It converts an age, which is empty for a new register or label, to a number.
    """
    latest_first = {}

    def number(kind, age):
        known = latest_first.setdefault(kind, [])
        known.insert(0, known.pop(int(age) - 1) if age else len(known) + 1)
        return known[0]

    return number


def zstandard():
    pypi.install("zstandard", ["zstandard==0.25.0"])
    import zstandard

    return zstandard


def pack(texts):
    compressor = zstandard().ZstdCompressor(level=22)
    frames = {}
    for name, text in texts.items():
        frames[name] = compressor.compress(of_kernels(text, as_age, label="%L").encode())
    index = "".join(f"{name} {len(frame)}\n" for name, frame in frames.items())
    return index.encode() + b"\n" + b"".join(frames.values())


def unpack(archive):
    index, frames = archive.split(b"\n\n", 1)
    texts = {}
    decompressor = zstandard().ZstdDecompressor()
    for line in index.decode().splitlines():
        name, length = line.split(" ")
        text = decompressor.decompress(frames[: int(length)])
        texts[name] = of_kernels(text.decode(), from_age, label="L")
        frames = frames[int(length) :]
    return texts
