#!/usr/bin/env python3
"""Makes the expected results of tests, in arbitrary precision and exact integers.

Run `python3 scripts/vectors.py` (needs mpmath) from the root of the repository. It writes tests/vectors/reference.tsv,
tests/vectors/sums.tsv and tests/vectors/dry.tsv. The script does not depend on the crate's code.
"""
import math
import random
import struct
from fractions import Fraction
from mpmath import mp, mpf

mp.prec = 4000


def bits64(x):
    return struct.unpack("<Q", struct.pack("<d", x))[0]


def float64(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


def f32(x):
    """Rounds an f64 to the nearest f32."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def expanded(x):
    """Formats x as `hi lo exponent`: the bits of two f64, and an exponent of 2.

    (hi + lo) * 2^exponent differs from x by at most 2^-106 * |x|.
    """
    if x == 0:
        return f"{0:016x} {0:016x} 0"
    exponent = int(mp.floor(mp.log(abs(x), 2)))
    m = x / mpf(2) ** exponent
    hi = float(m)
    return f"{bits64(hi):016x} {bits64(float(m - mpf(hi))):016x} {exponent}"


FUNCTIONS = {
    "exp": mp.exp,
    "ln": mp.log,
    "ln_1p": lambda x: mp.log(1 + x),
    "sqrt": mp.sqrt,
    "tanh": mp.tanh,
    "sin": mp.sin,
    "cos": mp.cos,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "silu": lambda x: x / (1 + mp.exp(-x)),
}


def arguments(name, rng):
    """Returns f64 arguments: points where implementations change their method, and random arguments at every scale."""
    spread = lambda low, high: float(mpf(2) ** rng.uniform(low, high))
    signed = lambda x: x if rng.random() < 0.5 else -x
    if name == "exp":
        edges = [1.0, -1.0, 709.782712893384, -708.3964185322641, -745.1332191019411, -750.0, 0.34657359027997264, 2000.0]
        return edges + [signed(spread(-60, 10)) for _ in range(30)]
    if name == "ln":
        edges = [2.0, 0.5, float64(1), float64(0x7FEFFFFFFFFFFFFF), 2.0**-1022, 1 + 2.0**-52, 1 - 2.0**-53, 1.41421356237, 0.70710678]
        return edges + [spread(-1074, 1023) for _ in range(20)] + [1 + signed(spread(-50, -1)) for _ in range(15)]
    if name == "ln_1p":
        edges = [1.0, -0.5, 0.25, -0.25, 1e-300, 5e-324, -1 + 2.0**-53, 1e300]
        return edges + [spread(-100, 1023) for _ in range(15)] + [signed(spread(-100, -1)) for _ in range(20)]
    if name == "sqrt":
        return [2.0, 3.0, 4.0, 1e300, 5e-324, 2.0**-1022] + [spread(-1074, 1023) for _ in range(20)]
    if name == "tanh":
        return [0.17, 0.171, -0.17, 20.0, -800.0, 1e-300] + [signed(spread(-60, 6)) for _ in range(20)]
    if name in ("sin", "cos"):
        # The first argument has the smallest relative distance from a multiple of pi/2 among all f64. Large numbers and
        # neighbours of small multiples follow.
        edges = [6381956970095103 * 2.0**797, 1e300, 1.7976931348623157e308, 0.7853981633974483, 1.5707963267948966, 3.141592653589793, 1e22]
        return edges + [signed(spread(-40, 60)) for _ in range(20)] + [signed(spread(60, 1023)) for _ in range(20)]
    edges = [0.0, 1.0, -1.0, 40.0, -40.0, -708.0, -745.0, -760.0, 1e-300, -5e-324, 710.0]
    return edges + [signed(spread(-60, 10)) for _ in range(25)]


def scalar_vectors(rng):
    for name, function in FUNCTIONS.items():
        for x in arguments(name, rng):
            yield name, "", [x], [function(mpf(x))]


# These functions were added later. They have a random generator of their own, so that the arguments of the functions
# above stay the same.
LATER = {
    "exp_m1": mp.expm1,
    "softplus": lambda x: mp.log(1 + mp.exp(x)),
    "log_sigmoid": lambda x: -mp.log(1 + mp.exp(-x)),
    "erf": mp.erf,
    "normal_cdf": lambda x: mp.erfc(-x / mp.sqrt(2)) / 2,
    "gelu": lambda x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + mpf(44715) / 10**6 * x**3))),
}


def later_vectors(rng):
    for name, function in LATER.items():
        edges = [0.0, 1.0, -1.0, 1.0606601717798212, -1.07, 1.5, -1.5, 1.49, -1.51, 6.0, -6.0, 20.0, -20.0, 1e-300, -5e-324]
        arguments = edges + [(-1) ** i * float(mpf(2) ** rng.uniform(-60, 5)) for i in range(30)]
        for x in arguments:
            yield name, "", [x], [function(mpf(x))]


def binary_vectors(rng):
    """Yields vectors of the functions of base two."""
    spread = lambda low, high: float(mpf(2) ** rng.uniform(low, high))
    for x in [0.0, 1.0, -1074.0, 0.5, -0.5, 1.5, 1023.75, -1074.5, 1e-300, -5e-324, 2100.25] + [(-1) ** i * spread(-60, 10) for i in range(30)]:
        yield "exp2", "", [x], [mpf(2) ** mpf(x)]
    edges = [1.0, 2.0, 0.5, float64(1), float64(0x7FEFFFFFFFFFFFFF), 2.0**-1022, 1 + 2.0**-52, 1 - 2.0**-53, 1.41421356237, 0.70710678]
    for x in edges + [spread(-1074, 1023) for _ in range(20)] + [1 + (-1) ** i * spread(-50, -1) for i in range(15)]:
        yield "log2", "", [x], [mp.log(mpf(x), 2)]


def softmax_parts(row):
    m = max(row)
    exps = [mp.exp(mpf(x) - mpf(m)) for x in row]
    return mpf(m), exps, mp.fsum(exps)


def softmax(row):
    _, exps, total = softmax_parts(row)
    return [e / total for e in exps]


def log_softmax(row):
    m, _, total = softmax_parts(row)
    return [mpf(x) - m - mp.log(total) for x in row]


def logsumexp(row):
    m, _, total = softmax_parts(row)
    return [m + mp.log(total)]


def rms_norm(row, eps):
    root = mp.sqrt(mp.fsum(mpf(x) ** 2 for x in row) / len(row) + mpf(eps))
    return [mpf(x) / root for x in row]


def layer_norm(row, eps):
    mean = mp.fsum(mpf(x) for x in row) / len(row)
    root = mp.sqrt(mp.fsum((mpf(x) - mean) ** 2 for x in row) / len(row) + mpf(eps))
    return [(mpf(x) - mean) / root for x in row]


def rope(row, position, theta, frequency=lambda plain, i, d, theta: plain, factor=1):
    half = len(row) // 2
    out = [None] * len(row)
    for i in range(half):
        plain = mpf(theta) ** (mpf(-2 * i) / len(row))
        angle = mpf(float(position) * float(frequency(plain, i, len(row), mpf(theta))))
        a, b, c, s = mpf(row[i]), mpf(row[i + half]), factor * mp.cos(angle), factor * mp.sin(angle)
        out[i], out[i + half] = a * c - b * s, a * s + b * c
    return out


# Scalings of rope's frequencies, as defined by modeling_rope_utils of Hugging Face's transformers.


def linear(factor):
    return lambda plain, i, d, theta: plain / mpf(factor)


def ntk(factor):
    return lambda plain, i, d, theta: (theta * mpf(factor) ** (mpf(d) / (d - 2))) ** (mpf(-2 * i) / d)


def dynamic(factor, positions, sequence):
    return ntk(mpf(factor) * max(sequence, positions) / positions - (mpf(factor) - 1))


def yarn(factor, positions, fast, slow, truncate=True):
    def frequency(plain, i, d, theta):
        place = lambda turns: d * mp.log(positions / (mpf(turns) * 2 * mp.pi)) / (2 * mp.log(theta))
        low, high = place(fast), place(slow)
        if truncate:
            low, high = mp.floor(low), mp.ceil(high)
        low, high = max(low, 0), min(high, d - 1)
        ramp = min(max((mpf(i) - low) / (high - low if high != low else mpf(0.001)), 0), 1)
        return plain * (1 - ramp) + plain / mpf(factor) * ramp

    return frequency


def longrope(short, long, positions, sequence):
    return lambda plain, i, d, theta: plain / mpf((long if sequence > positions else short)[i])


def llama3(factor, low, high, positions):
    def frequency(plain, i, d, theta):
        wavelength = 2 * mp.pi / plain
        if wavelength < positions / mpf(high):
            return plain
        if wavelength > positions / mpf(low):
            return plain / mpf(factor)
        smooth = (positions / wavelength - mpf(low)) / (mpf(high) - mpf(low))
        return (1 - smooth) * plain / mpf(factor) + smooth * plain

    return frequency


def scaling_vectors(rng):
    """Yields vectors of rope with scaled frequencies, including the parameters of real checkpoints."""
    mscale = lambda factor, weight=1: mpf(weight) * mp.log(mpf(factor)) / 10 + 1
    short = [1.0, 1.0, 1.02, 1.03, 1.05, 1.05, 1.1, 1.25]
    long = [1.08, 1.1, 1.15, 1.7, 2.6, 17.3, 44.5, 64.7]
    lists = lambda factor, positions, sequence, *given: [factor, positions, sequence] + short + long + list(given)
    by_length = lambda factor, positions: mp.sqrt(1 + mp.log(mpf(factor)) / mp.log(positions))
    cases = [
        (10000.0, "linear", [4.0], linear(4.0), 1),
        (500000.0, "linear", [2.7], linear(2.7), 1),
        (10000.0, "ntk", [4.0], ntk(4.0), 1),
        (1e6, "ntk", [1.3], ntk(1.3), 1),
        (10000.0, "dynamic", [2.0, 2048.0, 8192.0], dynamic(2.0, 2048, 8192), 1),
        (1e6, "dynamic", [1.7, 4096.0, 4097.0], dynamic(1.7, 4096, 4097), 1),
        (10000.0, "dynamic", [8.0, 4096.0, 17.0], dynamic(8.0, 4096, 17), 1),
        (10000.0, "yarn", [16.0, 4096.0, 32.0, 1.0, 1.0, 0.0, 0.0], yarn(16.0, 4096, 32.0, 1.0), mscale(16.0)),
        (1e6, "yarn", [4.0, 32768.0, 32.0, 1.0, 1.0, 0.0, 0.0], yarn(4.0, 32768, 32.0, 1.0), mscale(4.0)),
        (1e6, "yarn", [40.0, 100.0, 2.5, 1.75, 1.0, 0.0, 0.0, 0.9], yarn(40.0, 100, 2.5, 1.75), mpf(0.9)),
        (10000.0, "yarn", [8.0, 3.0, 4.0, 2.0, 1.0, 0.0, 0.0, 1.0], yarn(8.0, 3, 4.0, 2.0), 1),
        # Tests the parameters of gpt-oss, then the parameters `mscale` and `mscale_all_dim` of DeepSeek-V2 and V3.
        (150000.0, "yarn", [32.0, 4096.0, 32.0, 1.0, 0.0, 0.0, 0.0], yarn(32.0, 4096, 32.0, 1.0, False), mscale(32.0)),
        (10000.0, "yarn", [40.0, 4096.0, 32.0, 1.0, 1.0, 1.0, 0.707], yarn(40.0, 4096, 32.0, 1.0), mscale(40.0) / mscale(40.0, 0.707)),
        (10000.0, "yarn", [40.0, 4096.0, 32.0, 1.0, 1.0, 1.0, 1.0], yarn(40.0, 4096, 32.0, 1.0), 1),
        (10000.0, "yarn", [4.0, 2048.0, 8.0, 8.0, 0.0, 0.707, 0.0], yarn(4.0, 2048, 8.0, 8.0, False), mscale(4.0)),
        (10000.0, "longrope", lists(32.0, 4096.0, 4096.0), longrope(short, long, 4096, 4096), by_length(32.0, 4096)),
        (10000.0, "longrope", lists(32.0, 4096.0, 4097.0), longrope(short, long, 4096, 4097), by_length(32.0, 4096)),
        (10000.0, "longrope", lists(1.0, 8192.0, 65536.0, 1.243), longrope(short, long, 8192, 65536), mpf(1.243)),
        (500000.0, "llama3", [8.0, 1.0, 4.0, 8192.0], llama3(8.0, 1.0, 4.0, 8192), 1),
        (500000.0, "llama3", [32.0, 1.5, 60.5, 300.0], llama3(32.0, 1.5, 60.5, 300), 1),
    ]
    for theta, name, parameters, frequency, factor in cases:
        for position in (1, 131071, -(10**12)):
            row = [rng.gauss(0, 1) for _ in range(16)]
            parameters_text = " ".join(f"{bits64(p):016x}" for p in parameters)
            yield "rope", f"{position} {bits64(theta):016x} {name} {parameters_text}", row, rope(row, position, theta, frequency, factor)


def row_vectors(rng):
    normal = lambda n, mean, sd: [rng.gauss(mean, sd) for _ in range(n)]
    rows = [[0.0], [1.0, 2.0, 3.0], [1000.0, 1000.0], [40.0, 0.0], [-700.0, 10.0, 9.5], normal(7, 100, 10), normal(16, 0, 3), [1e15, 1e15 - 700, 1e15 - 2000]]
    for row in rows:
        yield "softmax", "", row, softmax(row)
        yield "log_softmax", "", row, log_softmax(row)
        yield "logsumexp", "", row, logsumexp(row)
    rows = [[1e20, -1e20], [1e-25, 3e-25], [1e200, 2e200], [5e-324, 1e-320], [40000.0, 40001.0, 40002.0, 40003.0], normal(9, 1e6, 1)]
    for row in rows:
        for eps in (0.0, 1e-6):
            yield "rms_norm", f"{bits64(eps):016x}", row, rms_norm(row, eps)
            yield "layer_norm", f"{bits64(eps):016x}", row, layer_norm(row, eps)
    for position, theta in ((0, 10000.0), (1, 10000.0), (-7, 500000.0), (10**12, 10000.0), (2**62, 10.0)):
        row = normal(6, 0, 1)
        yield "rope", f"{position} {bits64(theta):016x}", row, rope(row, position, theta)


def write_reference():
    rng = random.Random(1)
    with open("tests/vectors/reference.tsv", "w") as out:
        out.write("# scripts/vectors.py: op, parameters, inputs (bits of f64), results as `bits of hi, bits of lo, exponent` of (hi + lo) 2^exponent\n")
        for vectors in (scalar_vectors(rng), row_vectors(rng), later_vectors(random.Random(2)), binary_vectors(random.Random(3)), scaling_vectors(random.Random(4))):
            for name, parameters, inputs, results in vectors:
                row = " ".join(f"{bits64(x):016x}" for x in inputs)
                out.write("\t".join([name, parameters, row, ",".join(map(expanded, results))]) + "\n")


# The crate's three kinds of sums, computed in exact arithmetic. `rule_o` is the tiled sum, `rule_q` the fixed-point
# sum, and `rule_b` the binned sum. `unit(i)` returns a pseudorandom integer, from which term i of a sum is made.


def unit(i):
    return i * 2654435761 % 2**32


def rounded(x):
    """Rounds a fraction to the nearest f64. Python rounds a quotient of integers correctly."""
    return Fraction(x.numerator / x.denominator)


def rule_o(terms):
    def tile(terms):
        lanes = [Fraction(0)] * 64
        for i, term in enumerate(terms):
            lanes[i % 64] = rounded(lanes[i % 64] + term)
        while len(lanes) > 1:
            lanes = [rounded(lanes[2 * j] + lanes[2 * j + 1]) for j in range(len(lanes) // 2)]
        return lanes[0]

    return tile([tile(terms[i : i + 256]) for i in range(0, len(terms), 256)])


def rule_q(terms, bits):
    return sum(round(term * 2**bits) for term in terms)  # round() of a fraction rounds ties to even


def rule_b(terms):
    largest = max(map(abs, terms), default=0)
    if largest == 0:
        return Fraction(0)
    top = (math.frexp(largest)[1] // 31) * 31  # frexp gives e with |largest| < 2^e
    bins = []
    for exponent in range(top, top - 4 * 31, -31):
        unit = Fraction(2) ** exponent
        multiples = [round(term / unit) * unit for term in terms]
        terms = [term - multiple for term, multiple in zip(terms, multiples)]
        bins.append(sum(multiples))
    high = rounded(bins[0] + bins[1])
    return rounded(high + rounded(bins[0] + bins[1] - high + rounded(bins[2] + bins[3])))


def write_sums():
    with open("tests/vectors/sums.tsv", "w") as out:
        out.write("# scripts/vectors.py, rule O: rule, n, k, step, bits of the sum; x_i = f32((u_i - 2^31) 2^(k + step (i mod 5) - 32)), u_i = i 2654435761 mod 2^32\n")
        o_cases = [(0, 0, 0), (1, 0, 0), (2, 3, 12), (63, 0, 12), (64, -4, 12), (65, 10, 12), (255, 0, 12), (256, -100, 12), (257, 0, 12), (1000, 1, 12), (4097, 20, 12), (20000, 0, 12)]
        for n, k, step in o_cases:
            terms = [Fraction(f32((unit(i) - 2**31) * 2.0 ** (k + step * (i % 5) - 32))) for i in range(n)]
            out.write(f"o\t{n}\t{k}\t{step}\t{bits64(float(rule_o(terms))):016x}\n")
        out.write("# rule Q: rule, n, d, sum in units of 2^-45, or of 2^-48 beyond 262,144 terms; e_i = f32(u_i 2^-32 2^(-d if i is odd))\n")
        q_cases = [(0, 0), (1, 0), (2, 0), (7, 4), (64, 0), (65, 8), (255, 20), (256, 0), (257, 40), (1000, 30), (4097, 12), (20000, 3), (262144, 5), (262145, 5), (262145, 40)]
        for n, d in q_cases:
            terms = [Fraction(f32(unit(i) * 2.0**-32 * 2.0 ** (-d if i % 2 else 0))) for i in range(n)]
            out.write(f"q\t{n}\t{d}\t{rule_q(terms, 45 if n <= 262144 else 48)}\n")
        out.write("# rule B: rule, n, k, step, bits of the sum; x_i = (u_i + 1) 2^(k - step (i mod 5) - 32)\n")
        b_cases = [(0, 0, 0), (1, 0, 0), (2, 0, 31), (3, -1, 30), (64, 0, 7), (65, 900, 1), (255, -900, 20), (257, -30, 25), (1000, -31, 12), (1000, -62, 12), (4097, 0, 0), (4097, -1, 22), (20000, 0, 40)]
        for n, k, step in b_cases:
            terms = [Fraction(unit(i) + 1) * Fraction(2) ** (k - step * (i % 5) - 32) for i in range(n)]
            out.write(f"b\t{n}\t{k}\t{step}\t{bits64(float(rule_b(terms))):016x}\n")


def write_dry():
    """Writes penalties of repetitions: multiplier * base^exponent.

    For bases above 1.000001, the exponent is limited to 88.7228391 / ln(base), rounded down. 88.7228391 is the
    logarithm of the largest f32.
    """
    rng = random.Random(5)
    cases = [(1.0, 2.0, 0), (0.5, 2.0, 127), (0.5, 2.0, 128), (0.8, 1.75, 158), (0.8, 1.75, 159), (1.0, 10.0, 400), (3.0, 1.000001, 700), (3.0, 1.0000011, 999), (0.1, 1.0, 50), (1e-30, 1e30, 2)]
    cases += [(rng.choice([0.8, 1.0, rng.uniform(0.1, 5)]), rng.choice([1.75, 1.1, rng.uniform(1, 2), rng.uniform(1, 10)]), rng.randrange(1, 200)) for _ in range(60)]
    # For this base, 88.7228391 / ln(base) is below 20, but rounds to 20 in f64.
    cases.append((1.0, float.fromhex("0x1.51cb453846725p+6"), 25))
    with open("tests/vectors/dry.tsv", "w") as out:
        out.write("# scripts/vectors.py, DRY: bits of multiplier and base in f64, exponent, bits of the nearest f64 of the penalty\n")
        for multiplier, base, exponent in cases:
            most = int(mp.floor(mpf(88.7228391) / mp.log(mpf(base)))) if base > 1.000001 else exponent
            penalty = mpf(multiplier) * mpf(base) ** min(exponent, most)
            out.write(f"{bits64(multiplier):016x}\t{bits64(base):016x}\t{exponent}\t{bits64(float(penalty)):016x}\n")


if __name__ == "__main__":
    write_reference()
    write_sums()
    write_dry()
