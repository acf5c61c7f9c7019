"""The format in which the crate stores its PTX; `src/cuda/ptx.rs` describes and reads it."""

import re

ENTRY = ".visible .entry "
REGISTER = re.compile(r"%([a-z]+)(-?\d+)")


def slim(text):
    """Shortens the names of parameters and labels, and removes comments and indentation."""
    text = re.sub(r"//.*", "", text)
    text = re.sub(r"\b\w+_param_(\d+)", r"p\1", text)
    # Labels are local to a kernel, so labels of two kernels may have the same name.
    text = re.sub(r"\$L__BB\d+_", "L", text)
    text = re.sub(r"[ \t]+", " ", text)
    return "\n".join(line.strip() for line in text.splitlines() if line.strip()) + "\n"


def storage(entry):
    parts = entry.split("(")[0].split("_")
    return next((part for part in parts if part in ("f16", "bf16", "f32", "f64")), "")


def modules(text):
    """Yields one module for each storage type: the head of the source, and the source's kernels for that type."""
    head, *entries = text.split(ENTRY)
    for kind in dict.fromkeys(map(storage, entries)):
        yield head + "".join(ENTRY + entry for entry in entries if storage(entry) == kind)


def of_kernels(text, convert):
    """Converts each kernel's register numbers.

    `convert` gets a number, and the previous number of a register with the same prefix.
    """
    head, *entries = text.split(ENTRY)
    for i, entry in enumerate(entries):
        last = {}

        def register(match):
            name, number = match[1], int(match[2])
            written, last[name] = convert(number, last.get(name, 0))
            return f"%{name}{written}"

        entries[i] = REGISTER.sub(register, entry)
    return ENTRY.join([head, *entries])


def pack(texts):
    # The package zstandard is installed together with the compiler.
    import zstandard

    compressor = zstandard.ZstdCompressor(level=22)
    frames = {}
    for name, text in texts.items():
        relative = of_kernels(text, lambda number, last: (number - last, number))
        frames[name] = compressor.compress(relative.encode())
    index = "".join(f"{name} {len(frame)}\n" for name, frame in frames.items())
    return index.encode() + b"\n" + b"".join(frames.values())


def unpack(archive):
    import zstandard

    index, frames = archive.split(b"\n\n", 1)
    texts = {}
    for line in index.decode().splitlines():
        name, length = line.split(" ")
        relative = zstandard.ZstdDecompressor().decompress(frames[: int(length)])
        texts[name] = of_kernels(relative.decode(), lambda above, last: (above + last, above + last))
        frames = frames[int(length) :]
    return texts
