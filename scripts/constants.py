#!/usr/bin/env python3
"""Derives the numeric constants of src/math, src/real, src/dtype.rs, src/ops/rope and src/cuda/kernels.

Run `python3 scripts/constants.py` (needs mpmath), and copy the printed constants to the places that their names
indicate. Polynomials are fitted by Remez exchange, by Chebyshev interpolation or, in `erf_pair` and `gelu_ratio`, by
least squares. In the output, "pinned" marks a coefficient that is given instead of fitted.
"""
import struct
from mpmath import mp, mpf, log, exp, expm1, erf, erfc, floor, matrix, lu_solve, cos, sin, pi, nint, sqrt, tanh, atanh

mp.prec = 400
LN2 = log(mpf(2))


def f32(x):
    return struct.unpack("<f", struct.pack("<f", float(x)))[0]


def f32_exact(x):
    """Rounds an mpf to f32 by way of f64. The double rounding is harmless, because no constant is near a tie."""
    return mpf(f32(x))


def bits32(x):
    return f"{struct.unpack('<I', struct.pack('<f', f32(x)))[0]:#010x}"


def split32(x):
    """Returns the bits of two f32: x rounded, and the rounded rest of x."""
    return bits32(x), bits32(x - f32_exact(x))


def hex64(x):
    return float(x).hex()


def remez(f, weight, degrees, lo, hi, rounds=30):
    """Fits a polynomial with the powers in `degrees` to f on [lo, hi]. Minimises the largest weighted error.

    Returns the coefficients and the largest weighted error.
    """
    n = len(degrees)
    nodes = [lo + (hi - lo) * (1 - cos(pi * i / n)) / 2 for i in range(n + 1)]
    for _ in range(rounds):
        a = matrix(n + 1, n + 1)
        b = matrix(n + 1, 1)
        for i, x in enumerate(nodes):
            for j, d in enumerate(degrees):
                a[i, j] = weight(x) * x**d
            a[i, n] = (-1) ** i
            b[i] = weight(x) * f(x)
        sol = lu_solve(a, b)
        c = [sol[j] for j in range(n)]
        err = lambda x: weight(x) * (f(x) - sum(cj * x**d for cj, d in zip(c, degrees)))
        grid = [lo + (hi - lo) * mpf(i) / 4000 for i in range(4001)]
        vals = [err(x) for x in grid]
        ext, cur = [], 0
        for i in range(1, len(grid)):
            if (vals[i] > 0) != (vals[cur] > 0):
                ext.append(cur)
                cur = i
            elif abs(vals[i]) > abs(vals[cur]):
                cur = i
        ext.append(cur)
        if len(ext) < n + 1:
            break
        ext = sorted(sorted(ext, key=lambda i: -abs(vals[i]))[: n + 1])
        new = [grid[i] for i in ext]
        if max(abs(p - q) for p, q in zip(new, nodes)) < mpf(10) ** -12:
            break
        nodes = new
    return c, max(abs(v) for v in vals)


def series(f, x, at_zero):
    return at_zero if abs(x) < mpf(10) ** -30 else f(x)


def round_down_bits(x, bits):
    """Truncates x to `bits` significant bits, so that its products with small integers are exact."""
    e = int(floor(log(abs(x), 2)))
    return floor(x * mpf(2) ** (bits - 1 - e)) / mpf(2) ** (bits - 1 - e)


def softmax_exp():
    print("== src/math/softmax_exp.rs (table of 8, f32)")
    t = [f32_exact(mpf(2) ** (mpf(j) / 8)) for j in range(8)]
    print("  TABLE      ", [bits32(v) for v in t])
    print("  TABLE_LOW  ", [hex64((mpf(2) ** (mpf(j) / 8) - t[j]) / t[j]) for j in range(8)])
    print("  PER_STEP   ", f32(8 / LN2), " STEP f64", hex64(LN2 / 8))
    l1 = f32_exact(LN2 / 8)
    print("  STEP_HI    ", f32(l1), float(l1).hex(), " STEP_LO", f32(LN2 / 8 - l1))
    half = LN2 / 16
    g = lambda x: (exp(x) - 1 - x - x * x / 2) / x**3 if abs(x) > mpf(10) ** -40 else mpf(1) / 6
    c, _ = remez(lambda x: series(g, x, mpf(1) / 6), lambda x: abs(x) ** 3 + mpf(10) ** -30, [0, 1], -half, half)
    c = [f32_exact(v) for v in c]
    err = max(
        abs((exp(x) - 1 - x - x * x * (mpf(1) / 2 + c[0] * x + c[1] * x * x)) / exp(x))
        for x in (half * mpf(i) / 1000 for i in range(-1000, 1001))
    )
    print("  POLY  0.5 pinned,", [f32(v) for v in c], " error 2^%.2f" % log(err, 2))
    monotone_poly(c)


def monotone_poly(c):
    """Lowers the cubic coefficient until a larger argument of `WeightExp` (src/math/softmax_exp.rs) never gives
    a smaller result.

    A step is the range of arguments with the same table entry. The last argument of a step has a reduced argument r
    near ln2/16, and the first argument of the next step has r near -ln2/16. Before the last rounding, the errors of the
    two exponentials add up to at most `errors`. The polynomial must leave a relative gap of more
    than `errors` between the two exponentials. The last rounding is monotonic, so it keeps their order.
    """
    # `half` is the largest |r|, and t is r + r^2 * q(r). For |r| near `half`, both |r| and |t| are between 2^-5 and
    # 2^-4. `unit` is half an ULP of such numbers.
    half, unit = LN2 / 16, mpf(2) ** -29
    # Error of r: one rounding to f32, one rounding in the addition of the table's low part, and up to 739 times the
    # error of the constant ln2/8.
    argument = 2 * unit + mpf(2) ** -47
    # Error of r^2 * q(r): the roundings of r^2, of q, and of the inner multiply-add in q.
    cube = half**2 * (mpf(2) ** -25 + mpf(2) ** -25 + half * mpf(2) ** -27)
    errors = sum(argument * (1 + r) / exp(r) + (unit + cube) / exp(r) for r in (half, -half))
    # The argument is rounded to f32 before its step is selected, so a step's end may be off by `off` in either
    # direction.
    off = mpf(2) ** -16
    relative = lambda c, r: (1 + r + r * r * (mpf(1) / 2 + c[0] * r + c[1] * r * r)) / exp(r) - 1
    gap = lambda c: min(relative(c, r - 2 * half) - relative(c, r) for r in (half - off, half, half + off))
    below = lambda v: mpf(struct.unpack("<f", struct.pack("<I", struct.unpack("<I", struct.pack("<f", float(v)))[0] - 1))[0])
    m = list(c)
    while gap(m) <= errors * mpf("1.01"):
        m[0] = below(m[0])
    print("  MONOTONE_POLY  0.5 pinned,", [bits32(v) for v in m])
    print("    gap %.4f, errors %.4f, in 2^-28" % (gap(m) * 2**28, errors * 2**28))
    # `before` bounds the relative error before the last rounding. If |r| is near ln2/16, the significand of the result
    # is between e^(ln2/16) and 2 * e^(-ln2/16). Two errors of such results are printed. The first is in ULP, and is
    # largest for the largest significand. The second is relative to the result. It is largest for the smallest
    # significand, because the last rounding has its largest relative error there.
    before = errors / 2 + max(abs(relative(m, half * i / 1000)) for i in range(-1000, 1001))
    print("    error %.4f ULP, %.4f 2^-24 of the result" % (mpf(1) / 2 + before * 2 * exp(-half) * 2**23, (exp(-half) + before * 2**24)))


def exp_pair():
    print("== src/math/exp_pair.rs (table of 16, pairs of f32)")
    t = [f32_exact(mpf(2) ** (mpf(j) / 16)) for j in range(16)]
    print("  TABLE      ", [bits32(v) for v in t])
    print("  TABLE_LOW  ", [bits32((mpf(2) ** (mpf(j) / 16) - t[j]) / t[j]) for j in range(16)])
    half = LN2 / 32
    g = lambda r: (exp(r) - 1 - r - r * r / 2) / r**3 if abs(r) > mpf(10) ** -40 else mpf(1) / 6
    c, _ = remez(lambda r: series(g, r, mpf(1) / 6), lambda r: abs(r) ** 3 + mpf(10) ** -30, [0, 1], -half, half)
    c = [f32_exact(v) for v in c]
    points = (half * mpf(i) / 1000 for i in range(-1000, 1001))
    err = max(abs((exp(r) - 1 - r - r * r * (mpf(1) / 2 + c[0] * r + c[1] * r * r)) / exp(r)) for r in points)
    print("  POLY  0.5 pinned,", [bits32(v) for v in c], " error 2^%.2f" % log(err, 2))


def exp_f64():
    print("== src/math/exp.rs (f64)")
    hi = round_down_bits(LN2, 42)
    print("  LN2_HI", hex64(hi), " LN2_LO", hex64(LN2 - hi), " LOG2_E", hex64(1 / LN2))
    half = LN2 / 2 * mpf("1.0001")
    g = lambda x: (exp(x) - 1 - x) / x**2
    for degree in (9, 10, 11):
        c, _ = remez(lambda x: series(g, x, mpf(1) / 2), lambda x: x * x + mpf(10) ** -30, list(range(degree + 1)), -half, half)
        c = [mpf(float(v)) for v in c]
        err = max(
            abs((exp(x) - 1 - x - x * x * sum(cj * x**j for j, cj in enumerate(c))) / exp(x))
            for x in (half * mpf(i) / 1000 for i in range(-1000, 1001))
        )
        print("  POLY degree", degree, "error 2^%.2f" % log(err, 2))
        for v in c:
            print("     ", hex64(v), " #", float(v))


def log_f64():
    print("== src/math/log.rs (f64): log(1+f) = 2s + s*R(s^2), s = f/(2+f)")
    smax = (sqrt(mpf(2)) - 1) / (sqrt(mpf(2)) + 1) * mpf("1.0001")
    # R(z) = log((1+s)/(1-s))/s - 2 with z = s^2
    def g(z):
        if z < mpf(10) ** -40:
            return mpf(2) / 3
        s = sqrt(z)
        return (log((1 + s) / (1 - s)) / s - 2) / z
    for terms in (7, 8):
        c, _ = remez(g, lambda z: z, list(range(terms)), mpf(10) ** -12, smax**2)
        c = [mpf(float(v)) for v in c]
        err = max(
            abs((g(z) - sum(cj * z**j for j, cj in enumerate(c))) * z / 2)
            for z in (smax**2 * mpf(i) / 1000 for i in range(1, 1001))
        )
        print("  TERMS", terms, "relative error 2^%.2f" % log(err, 2))
        for v in c:
            print("     ", hex64(v), " #", float(v))
    # Splits ln 2 so that k * LN2_HI is exact for |k| <= 1100 (11 bits).
    hi = round_down_bits(LN2, 41)
    print("  LN2_HI", hex64(hi), " LN2_LO", hex64(LN2 - hi))


def log_pair():
    """Prints the constants of ln and log2: ln(1+r) = r - r^2/2 + r^3 * q(r). For log2, it is divided by ln 2."""
    base = mpf("0.71875")
    # `ends` holds the ends of eight adjoining intervals between `base` and 2 * `base`. `c` holds one factor for each
    # interval. For the interval that contains 1, the factor is 1.
    at = lambda i: (base + mpf(i) / 16) if base + mpf(i) / 16 <= 1 else 1 + (base + mpf(i) / 16 - 1) * 2
    ends = [at(i) for i in range(9)]
    c = [mpf(1) if a < 1 < b else nint(2 / (a + b) * 256) / 256 for a, b in zip(ends, ends[1:])]
    r = max(max(abs(a * v - 1), abs(b * v - 1)) for a, b, v in zip(ends, ends[1:], c))
    for name, unit in (("log_pair", mpf(1)), ("log2_pair", LN2)):
        print(f"== src/math/{name}.rs (table of 8, f32)")
        of = lambda v: log(v) / unit
        hi = [nint(-of(v) * 2**16) / 2**16 for v in c]
        print("  |r| <=", float(r), " ends", [float(v) for v in ends])
        print("  RECIPROCAL ", [bits32(v) for v in c])
        print("  LOG_HI     ", [bits32(v) for v in hi])
        print("  LOG_LO     ", [bits32(-of(v) - h) for v, h in zip(c, hi)])
        print("  1 / unit   ", split32(1 / unit))
        q = lambda x: series(lambda v: (of(1 + v) - (v - v * v / 2) / unit) / v**3, x, 1 / (3 * unit))
        fit, err = remez(q, lambda x: mpf(1), range(5), -r, r)
        print("  POLY", [bits32(v) for v in fit], " error 2^%.2f" % log(err, 2))
    ln2_hi = nint(LN2 * 2**16) / 2**16
    print("  log_pair's LN2_HI", bits32(ln2_hi), " LN2_LO", bits32(LN2 - ln2_hi))


def base_two():
    print("== src/math/exp2.rs: ln 2", split64(LN2), " src/math/log2.rs: 1 / ln 2", split64(1 / LN2))
    print("== src/math/exp2_pair.rs: ln 2", split32(LN2))


def trig_f64():
    print("== src/math/trig.rs")
    half = pi / 4 * mpf("1.0001")
    for name, f, at0 in (
        ("SIN (sin x - x)/x^3", lambda z: (sin(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3, -mpf(1) / 6),
        ("COS (cos x - 1 + x^2/2)/x^4", lambda z: (cos(sqrt(z)) - 1 + z / 2) / z**2, mpf(1) / 24),
    ):
        w = (lambda z: z) if name.startswith("SIN") else (lambda z: z * z)
        c, _ = remez(lambda z: series(f, z, at0), w, list(range(6 if name.startswith("SIN") else 6)), mpf(10) ** -12, half**2)
        print("  " + name)
        for v in c:
            print("     ", hex64(v), " #", float(v))
        err = max(abs((f(z) - sum(mpf(float(cj)) * z**j for j, cj in enumerate(c))) * w(z)) for z in (half**2 * mpf(i) / 500 for i in range(1, 501)))
        print("      error 2^%.2f" % log(err, 2))
    print("  TWO_OVER_PI, 64-bit words after the binary point:")
    mp.prec = 2000
    v = 2 / pi
    words = []
    for _ in range(20):
        v *= mpf(2) ** 64
        w = int(floor(v))
        words.append(w)
        v -= w
    for w in words:
        print("     ", f"{w:#018x},")
    p = pi / 2
    a = mpf(float(p)); b = mpf(float(p - a))
    print("  PI_2_HI", hex64(a), " PI_2_LO", hex64(b))
    mp.prec = 400


def reference():
    print("== src/real/double_double.rs and src/math/power.rs")
    first = round_down_bits(LN2, 40)
    second = round_down_bits(LN2 - first, 40)
    print("  LN_2       ", [hex64(v) for v in (first, second, LN2 - first - second)])
    half = mpf(float(pi / 2))
    print("  HALF_PI    ", [hex64(v) for v in (half, pi / 2 - half)])
    print("== src/ops/rope/frequencies.rs: LN_2_PI", split64(log(2 * pi)), " TURN", split64(1 / (2 * pi)))
    mp.prec = 2000
    print("  TWO_OVER_PI, 32 bits each:", [f"{int(floor(2 / pi * mpf(2) ** (32 * (i + 1)))) % 2**32:#010x}" for i in range(40)])
    mp.prec = 400


def bits64(x):
    return f"{struct.unpack('<Q', struct.pack('<d', float(x)))[0]:#018x}"


def split64(x):
    """Returns the bits of two f64: x rounded, and the rounded rest of x."""
    return bits64(x), bits64(x - mpf(float(x)))


def chebyshev(f, lo, hi, terms, centre):
    """Returns the interpolation of f at Chebyshev's points, as coefficients of powers of x - centre."""
    half, middle = (hi - lo) / 2, (hi + lo) / 2
    nodes = [cos(pi * (2 * i + 1) / (2 * terms)) for i in range(terms)]
    values = [f(middle + half * x) for x in nodes]
    c = [2 * sum(v * cos(pi * j * (2 * i + 1) / (2 * terms)) for i, v in enumerate(values)) / terms for j in range(terms)]
    c[0] /= 2
    # Converts from Chebyshev polynomials of t to powers of t, then to powers of x - centre.
    powers, t_0, t_1 = [mpf(0)] * terms, [mpf(1)], [mpf(0), mpf(1)]
    for j in range(terms):
        for d, v in enumerate(t_0):
            powers[d] += c[j] * v
        t_2 = [mpf(0)] + [2 * v for v in t_1]
        for d, v in enumerate(t_0):
            t_2[d] -= v
        t_0, t_1 = t_1, t_2
    shift = (centre - middle) / half
    out = [mpf(0)] * terms
    for v in reversed(powers):
        out = [(out[d - 1] / half if d else 0) + out[d] * shift + (v if d == 0 else 0) for d in range(terms)]
    return out


def polynomial(name, c, error):
    print(f"  {name}, error 2^%.2f" % log(error, 2), " low parts", [bits64(v - mpf(float(v))) for v in c[:2]])
    for v in c:
        print("     ", bits64(v))


def expm1_f64():
    print("== src/math/expm1.rs: (e^r - 1 - r - r^2/2) / r^3 on |r| <= ln2/2")
    half = LN2 / 2 * mpf("1.0001")
    g = lambda x: (expm1(x) - x - x * x / 2) / x**3
    c, _ = remez(lambda x: series(g, x, mpf(1) / 6), lambda x: x * x + mpf(10) ** -30, list(range(10)), -half, half)
    c = [mpf(float(v)) for v in c]
    points = [half * mpf(i) / 500 for i in range(-500, 501) if i]
    polynomial("POLY", c, max(abs((g(x) - sum(v * x**j for j, v in enumerate(c))) * x**3 / expm1(x)) for x in points))


def normal_f64():
    """Fits erf, and the part of gelu that uses erf.

    Each case contains the functions `odd`, `tail` and `power`. Near zero, odd(x) / x is fitted in powers of x^2. For
    larger x, tail(x) * (x + pole) * e^power(x) is fitted in powers of 1/(x + pole) - centre.
    """
    cases = (
        ("erf.rs", lambda x: erf(x), erfc, lambda x: x * x, mpf("0.75"), mpf(7), mpf(2), 13, 22),
        ("gelu.rs", lambda x: erf(x / sqrt(mpf(2))) / 2, lambda x: erfc(x / sqrt(mpf(2))) / 2, lambda x: x * x / 2, mpf(1), mpf(41), mpf(3), 13, 24),
    )
    for name, odd, tail, power, edge, far, pole, near_terms, far_terms in cases:
        print(f"== src/math/{name}")
        g = lambda z: odd(sqrt(z)) / sqrt(z)
        c = chebyshev(g, mpf(10) ** -60, (edge * mpf("1.0001")) ** 2, near_terms, mpf(0))
        rounded = c[:2] + [mpf(float(v)) for v in c[2:]]
        points = [edge**2 * mpf(i) / 300 for i in range(1, 301)]
        polynomial("NEAR", c, max(abs(1 - sum(v * z**j for j, v in enumerate(rounded)) / g(z)) for z in points))
        scaled = lambda r: tail(1 / r - pole) * exp(power(1 / r - pole)) / r
        lo, hi = 1 / (far + pole), 1 / (edge * mpf("0.9999") + pole)
        centre = mpf(float((lo + hi) / 2))
        c = chebyshev(scaled, lo, hi, far_terms, centre)
        rounded = c[:2] + [mpf(float(v)) for v in c[2:]]
        points = [lo + (hi - lo) * mpf(i) / 300 for i in range(301)]
        print("  POLE", float(pole), " CENTRE", bits64(centre))
        polynomial("FAR", c, max(abs(1 - sum(v * (r - centre) ** j for j, v in enumerate(rounded)) / scaled(r)) for r in points))
    slope = 2 * sqrt(2 / pi)
    print("== src/math/gelu_tanh.rs: 2 sqrt(2/pi), and that times 0.044715")
    print("  SLOPE", split64(slope), " CUBIC", split64(slope * mpf("0.044715")))
    print("  CUBIC_SLOPE", split64(3 * slope * mpf("0.044715")))
    print("== src/math/gelu.rs: 1 / sqrt(2 pi)", split64(1 / sqrt(2 * pi)))
    print("== src/math/derivative.rs: 2 / sqrt(pi)", split64(2 / sqrt(pi)))


def erf_pair():
    """Fits W in erf(c + d) = erf c + erf'(c) (d - c d^2 + d^3 W) by least squares at Chebyshev nodes of d."""
    print("== src/math/erf_pair.rs")
    points = [mpf(j) / 8 for j in range(32)]
    slope = lambda c: 2 / sqrt(pi) * exp(-c * c)
    for name, values in ("VALUE", map(erf, points)), ("SLOPE", map(slope, points)):
        print(f"  {name}, {name}_LOW", *zip(*map(split32, values)))
    powers = [(0, 0), (2, 0), (1, 1), (3, 1), (0, 2), (2, 2), (4, 2), (1, 3), (3, 3), (5, 3), (0, 4)]  # of c and d
    rows = []
    for c, d in ((c, cos(pi * (2 * k + 1) / 48) / 16) for c in points for k in range(24)):
        if c + d > 0:
            weight = slope(c) * abs(d) ** 3 / erf(c + d)
            w = ((erf(c + d) - erf(c)) / slope(c) - d + c * d * d) / d**3
            rows.append([weight * c**i * d**j for i, j in powers] + [weight * w])
    n = len(powers)
    normal = matrix(n, n + 1)
    for row in rows:
        for i in range(n):
            for j in range(n + 1):
                normal[i, j] += row[i] * row[j]
    c = [f32_exact(v) for v in lu_solve(normal[:, :n], normal[:, n])]
    error = max(abs(row[n] - sum(v * r for v, r in zip(c, row))) for row in rows)
    polynomial32("W0, W1, W2, W3, W4 one after another", c, error)


def gelu_ratio():
    """Fits e^(a^2/2) erfc(a / sqrt(2)) / 2 at a = c + d as a polynomial of degree 6 in d, for each c of polynomials.rs.

    The coefficients are interpolated at Chebyshev nodes, and those of d^2 to d^6 are rounded. The value at c and the
    coefficient of d are then fitted by least squares of the relative error. For c = 0, the value stays 1/2.
    """
    print("== src/math/gelu_pair.rs: RATIO")
    ratio = lambda a: erfc(a / sqrt(mpf(2))) / 2 * exp(a * a / 2)
    coefficients, worst = [], mpf(0)
    for index in range(32):
        exponent = (index // 8 + 1) % 4
        c = mpf(2) ** exponent * (1 + mpf(index % 8) / 8) - 1
        right = mpf(2) ** exponent / 16
        left = mpf(0) if c == 0 else right / (2 if index % 8 == 0 else 1)
        at = lambda k, n: (right - left) / 2 + (right + left) / 2 * cos(pi * (2 * k + 1) / (2 * n))
        a, b = matrix(6, 6), matrix(6, 1)
        for i in range(6):
            d = at(i, 6)
            for j in range(6):
                a[i, j] = d**j
            b[i] = (ratio(c + d) - ratio(c)) / d
        found = lu_solve(a, b)
        others = [f32_exact(v) for v in found[1:]]
        rest = lambda d: ratio(c + d) - sum(v * d ** (j + 2) for j, v in enumerate(others))
        value, slope = ratio(c), found[0]
        if c != 0:
            a, b = matrix(2, 2), matrix(2, 1)
            for d in (at(k, 24) for k in range(24)):
                for i in range(2):
                    for j in range(2):
                        a[i, j] += d ** (i + j) / ratio(c + d) ** 2
                    b[i] += d**i * rest(d) / ratio(c + d) ** 2
            value, slope = lu_solve(a, b)
        coefficients.append([*split32(value), *split32(slope), *map(bits32, others)])
        if c <= 9:
            points = (-left + (left + right) * i / 40 for i in range(41))
            worst = max(worst, *(abs((rest(d) - value - slope * d) / ratio(c + d)) for d in points))
    names = ["value", "value_low", "slope", "slope_low", "d^2", "d^3", "d^4", "d^5", "d^6"]
    for name, row in zip(names, zip(*coefficients)):
        print(f"  {name}", *row)
    print("  error 2^%.2f" % log(worst, 2))


def polynomial32(name, c, error):
    print(f"  {name}", [bits32(v) for v in c], "error 2^%.2f" % log(error, 2))


def pairs():
    """Prints the constants of the other functions that compute with pairs of f32 or short f64 polynomials."""
    worst = lambda g, c, points, at=lambda z: z: max(abs(1 - sum(v * at(z) ** j for j, v in enumerate(c)) / g(z)) for z in points)
    print("== src/cuda/kernels/normal_pair.cuh")
    g = lambda z: erf(sqrt(z)) / sqrt(z)
    edge = mpf("0.6")
    c = [mpf(float(v)) for v in chebyshev(g, mpf(10) ** -60, edge**2 * mpf("1.0001"), 7, mpf(0))]
    polynomial("NORMAL_NEAR", c, worst(g, c, [edge**2 * mpf(i) / 300 for i in range(1, 301)]))
    print("== src/math/gelu_pair.rs, src/cuda/kernels/normal_pair.cuh")
    far, pole = mpf(9), mpf("4.5")
    scaled = lambda r: erfc((1 / r - pole) / sqrt(mpf(2))) / 2 * exp((1 / r - pole) ** 2 / 2) / r
    lo, hi = 1 / (far + pole), 1 / pole
    centre = mpf(float((lo + hi) / 2))
    c = [mpf(float(v)) for v in chebyshev(scaled, lo, hi, 13, centre)]
    print("  CENTRE", bits64(centre))
    polynomial("FAR", c, worst(scaled, c, [lo + (hi - lo) * mpf(i) / 300 for i in range(301)], lambda r: r - centre))
    print("== src/math/tanh_pair.rs: (tanh x - x) / x^3 in powers of x^2 up to 0.1, relative to tanh x")
    g = lambda z: (tanh(sqrt(z)) - sqrt(z)) / sqrt(z) ** 3
    c = [f32_exact(v) for v in chebyshev(g, mpf(10) ** -60, mpf("0.01001"), 4, mpf(0))]
    points = [mpf("0.01") * i / 300 for i in range(1, 301)]
    polynomial32("POLY", c, max(abs(g(z) - sum(v * z**j for j, v in enumerate(c))) * z * sqrt(z) / tanh(sqrt(z)) for z in points))
    print("== src/math/softplus_pair.rs: atanh(s) / s in powers of s^2 up to 1/9")
    g = lambda z: atanh(sqrt(z)) / sqrt(z)
    c = [mpf(float(v)) for v in chebyshev(g, mpf(10) ** -60, mpf(1) / 9 * mpf("1.0001"), 7, mpf(0))]
    polynomial("POLY", c, worst(g, c, [mpf(i) / 2700 for i in range(1, 301)]))
    slope = 2 * sqrt(2 / pi)
    print("== src/math/sigmoid_pair.rs: SLOPE", split32(slope), " CUBIC", split32(slope * mpf("0.044715")))


def limits():
    print("== src/dtype.rs: where exp leaves the finite, the normal and the non-zero numbers")
    fmts = {"f64": (53, -1022, 1023), "f32": (24, -126, 127), "f16": (11, -14, 15), "bf16": (8, -126, 127)}
    for name, (p, emin, emax) in fmts.items():
        top = (2 - mpf(2) ** (1 - p)) * mpf(2) ** emax
        over = top + mpf(2) ** (emax - p)  # first value that rounds to infinity (the tie goes to even, infinity)
        normal = mpf(2) ** emin - mpf(2) ** (emin - p)  # rounds up to the smallest normal
        zero = mpf(2) ** (emin - p)  # half the smallest subnormal; this tie rounds to zero

        def grid_down(v):  # largest representable value strictly below v
            e = int(floor(log(abs(v), 2)))
            u = mpf(2) ** (max(e, emin) - p + 1)
            r = floor(v / u) * u
            return r - u if r == v else r

        def grid_up(v):
            return -grid_down(-v)

        print(f"  {name}: exp_max {hex64(grid_down(log(over)))} exp_min_normal {hex64(grid_up(log(normal)))} exp_min {hex64(grid_up(log(zero)))}",
              float(grid_down(log(over))), float(grid_up(log(normal))), float(grid_up(log(zero))))


if __name__ == "__main__":
    softmax_exp()
    exp_pair()
    exp_f64()
    log_f64()
    log_pair()
    base_two()
    trig_f64()
    expm1_f64()
    normal_f64()
    reference()
    erf_pair()
    gelu_ratio()
    pairs()
    limits()
