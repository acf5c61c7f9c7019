// Samples a token of each row of logits, as `src/cpu/sample.rs` defines it. Masses are integers, so the order of a sum
// does not matter. A filter keeps a prefix of the tokens, ordered by logit, and by index among equal logits. Nothing is
// actually sorted: a radix search finds the end of a prefix, with one pass over the row for each digit of the logits'
// bits.
#include "softmax_exp.cuh"

enum SampleStatus { DRAWN, NOT_A_NUMBER, NOTHING_LEFT, UNKNOWN_TOKEN, NOT_ADJUSTED };
enum SampleFilterKind { TEMPERATURE, TOP_K, TOP_P, MIN_P };

struct SampleFilter {
    u32 kind;
    // For top-k, bit 0 keeps all logits equal to the last one kept. For top-p, bit 0 keeps the highest indices among
    // equal logits, and bit 1 relates p to the mass of all tokens.
    u32 flags;
    // 1 / temperature, k, or p
    double value;
};

struct SampleRequest {
    u64 seed, row, draw;
    u64 allowed;              // [cols / 32] words with a bit for each token; or 0
    u64 prompt, output;       // Tokens that the penalties count
    u32 prompt_len, output_len;
    double repetition, presence, frequency;
    u32 penalises;            // 0: no penalties; 1: presence and frequency count the output; 2: they count all
    u32 filters;
    SampleFilter filter[4];
};

struct SampleOutcome {
    u32 status, token, kept, padding;
};

struct SampleArguments {
    u64 logits;   // [rows, cols]
    u64 requests; // [rows]
    u64 outcomes; // [rows]
    u64 rows;
    u32 cols;
    u32 adjusted; // Whether penalties were applied to the logits
};

struct AdjustArguments {
    u64 logits;   // [rows, cols]
    u64 requests; // [rows]
    u64 adjusted; // [rows, cols], f32
    u64 rows;
    u64 cols;
};

// Computes e^max(z, -64) for z <= 0 in f64, as `WeightExp` of `src/math/softmax_exp.rs` defines it. The result is
// monotone.
DEVICE float weight_of(double z) {
    const float SHIFTER = 12582912.0f;
    z = z > -64.0 ? z : -64.0;
    const float j = fmaf((float)z, float_of(0x4138aa3b), SHIFTER);
    const u32 index = bits_of(j) & 7;
    const float low = (float)__longlong_as_double((long long)TABLE_LOW[index]);
    const float r = (float)fma((double)(j - SHIFTER), -STEP, z) + low;
    const float q = fmaf(fmaf(float_of(0x3d2aad66), r, float_of(0x3e2a9c39)), r, 0.5f);
    const float t = fmaf(r * r, q, r);
    const float s = float_of(TABLE[index] - (index << 20) + (bits_of(j) << 20));
    return fmaf(t, s, s);
}

// Returns 64 random bits: Philox4x32-10 of (draw, row) under the seed.
DEVICE u64 random_bits(const SampleRequest& request) {
    u32 c[4] = {(u32)request.draw, (u32)(request.draw >> 32), (u32)request.row, (u32)(request.row >> 32)};
    u32 k[2] = {(u32)request.seed, (u32)(request.seed >> 32)};
    for (u32 round = 0; round < 10; round++) {
        const u64 a = (u64)0xd2511f53 * c[0], b = (u64)0xcd9e8d57 * c[2];
        c[0] = (u32)(b >> 32) ^ c[1] ^ k[0];
        c[1] = (u32)b;
        c[2] = (u32)(a >> 32) ^ c[3] ^ k[1];
        c[3] = (u32)a;
        k[0] += 0x9e3779b9;
        k[1] += 0xbb67ae85;
    }
    return (u64)c[0] | (u64)c[1] << 32;
}

// Computes ceil(p * total) exactly, for p in [0, 1).
DEVICE u64 ceil_of_product(double p, u64 total) {
    const u64 bits = (u64)__double_as_longlong(p);
    const u32 exponent = (u32)(bits >> 52);
    const u64 mantissa = (bits & (((u64)1 << 52) - 1)) | (exponent > 0 ? (u64)1 << 52 : 0);
    const u64 high = __umul64hi(mantissa, total), low = mantissa * total;
    const u32 shift = 1075 - (exponent > 1 ? exponent : 1);
    if (shift >= 128) {
        return high != 0 || low != 0;
    }
    if (shift > 64) {
        const u64 rest = high & (((u64)1 << (shift - 64)) - 1);
        return (high >> (shift - 64)) + (rest != 0 || low != 0);
    }
    if (shift == 64) {
        return high + (low != 0);
    }
    return (high << (64 - shift) | low >> shift) + ((low & (((u64)1 << shift) - 1)) != 0);
}

// Maps a logit to an integer with the same order. Both zeros map to the same integer.
DEVICE u32 key_of(float z) {
    const u32 bits = bits_of(z + 0.0f);
    return bits >> 31 ? ~bits : bits | 0x80000000;
}
DEVICE float logit_of(u32 key) { return float_of(key >> 31 ? key & 0x7fffffff : ~key); }

template <u32 WARPS>
struct SampleShared {
    u64 bins[256];
    u64 sums[WARPS];
    u32 words[WARPS];
    float floats[WARPS];
    u64 reached, at_end;
    u32 digit;
};

// Tokens of a row that the filters have kept so far.
template <class S, u32 WARPS>
struct SampleRow {
    const typename S::Bits* x;
    const u32* allowed;
    const u32 cols;
    SampleShared<WARPS>& shared;
    // Largest logit, and 1 / temperature.
    double max, inverse;
    // Kept prefix: all keys above `least`, and those equal to `least` at indices `first..=last`.
    u32 least, first, last;
    // Smallest mass that min-p keeps, computed at 1 / temperature = `cut_inverse`.
    u64 cut;
    double cut_inverse;

    DEVICE SampleRow(const SampleArguments& a, const SampleRequest& request, u64 row, SampleShared<WARPS>& shared)
        : x((const typename S::Bits*)a.logits + row * a.cols), allowed((const u32*)request.allowed), cols(a.cols),
          shared(shared), max(0.0), inverse(1.0), least(0), first(0), last(0xffffffff), cut(0), cut_inverse(1.0) {}

    DEVICE float allow(u32 i, float z) const {
        return !allowed || allowed[i / 32] >> (i % 32) & 1 ? z : -INFINITE;
    }
    DEVICE float logit(u32 i) const { return allow(i, S::widen(x[i])); }
    DEVICE u64 one() const { return (u64)1 << (cols <= 1u << 18 ? 45 : 42); }

    DEVICE u64 mass(float z, double inverse) const {
        const float e = weight_of(((double)z - max) * inverse);
        const double SHIFTER = 4503599627370496.0; // 2^52
        return (u64)(__double_as_longlong((double)e * (double)one() + SHIFTER) - __double_as_longlong(SHIFTER));
    }
    DEVICE bool is_kept(u32 i, float z) const {
        const u32 key = key_of(z);
        return z != -INFINITE && (key > least || (key == least && first <= i && i <= last)) &&
               (cut == 0 || mass(z, cut_inverse) >= cut);
    }

    // Calls `f` with the index and the logit of each token of this thread. `By` loads them.
    template <template <class> class By, class F>
    DEVICE void each_by(F f) const {
        Held<S, By, WARPS, 0>(x, cols).each([&](u32 column, const float* z) {
            for (u32 i = 0; i < By<S>::COUNT; i++) {
                f(column + i, allow(column + i, z[i]));
            }
        });
    }
    template <class F>
    DEVICE void each(F f) const {
        each_by<Singles>(f);
    }
    DEVICE bool is_aligned() const { return (u64)x % 16 == 0 && cols % Vectors<S>::COUNT == 0; }

    // Returns the sum of `of(token)` over all tokens.
    template <class Term>
    DEVICE u64 sum(Term of) {
        u64 own = 0;
        each([&](u32 i, float z) { own += of(i, z); });
        __syncthreads();
        return over_block<WARPS>(own, shared.sums, [](u64 own, u32 distance) {
            for (; distance > 0; distance /= 2) {
                own += lane_beside(own, distance);
            }
            return own;
        });
    }

    // Returns the first token, in order of index, at which the running sum of `of` exceeds `above`. The total must
    // exceed it.
    template <class Term>
    DEVICE u32 locate(u64 above, Term of) {
        u32 from = 0, to = cols;
        while (to - from > 1) {
            const u32 len = (to - from + WARPS - 1) / WARPS;
            const u32 own_from = from + threadIdx.x / WARP * len;
            const u32 own_to = own_from + len < to ? own_from + len : to;
            u64 own = 0;
            for (u32 i = own_from + threadIdx.x % WARP; i < own_to; i += WARP) {
                own += of(i, logit(i));
            }
            for (u32 distance = WARP / 2; distance > 0; distance /= 2) {
                own += lane_beside(own, distance);
            }
            __syncthreads();
            if (threadIdx.x % WARP == 0) {
                shared.sums[threadIdx.x / WARP] = own;
            }
            __syncthreads();
            u32 warp = 0;
            while (warp + 1 < WARPS && shared.sums[warp] <= above) {
                above -= shared.sums[warp];
                warp++;
            }
            from += warp * len;
            to = from + len < to ? from + len : to;
        }
        return from;
    }

    // Keeps the shortest prefix in which the sum of `amount` reaches `needed`. The sum over all kept tokens must reach
    // it.
    template <class Amount>
    DEVICE void shorten(u64 needed, bool keeps_equals, bool highest_first, Amount amount) {
        u64 reached = 0;
        u32 digits = 0;
        ROLLED
        for (u32 shift = 32; shift > 0;) {
            shift -= 8;
            __syncthreads();
            if (threadIdx.x < 256) {
                shared.bins[threadIdx.x] = 0;
            }
            __syncthreads();
            each([&](u32 i, float z) {
                const u32 key = key_of(z);
                if ((u64)key >> (shift + 8) == digits && is_kept(i, z)) {
                    atomicAdd(&shared.bins[key >> shift & 255], amount(z));
                }
            });
            __syncthreads();
            find_digit(needed, reached);
            __syncthreads();
            reached = shared.reached;
            digits = digits << 8 | shared.digit;
        }
        // Keeps only as many tokens with the lowest kept logit as are needed.
        const u64 each_of_them = amount(logit_of(digits));
        const u64 count = (needed - reached + each_of_them - 1) / each_of_them;
        const u64 equals = shared.at_end / each_of_them;
        u32 from = 0, to = 0xffffffff;
        if (count < equals && !keeps_equals) {
            const u32 end = locate(highest_first ? equals - count : count - 1, [&](u32 i, float z) {
                return (u64)(key_of(z) == digits && is_kept(i, z));
            });
            from = highest_first ? end : 0;
            to = highest_first ? 0xffffffff : end;
        }
        const bool is_same = digits == least;
        first = is_same && first > from ? first : from;
        last = is_same && last < to ? last : to;
        least = digits;
    }

    // Finds the bin at which the sum reaches `needed`. The sum starts at `reached` and adds the bins from the last one
    // down. Only the first warp computes it.
    DEVICE void find_digit(u64 needed, u64 reached) {
        if (threadIdx.x >= WARP) {
            return;
        }
        const u32 lane = threadIdx.x;
        u64 own = 0;
        for (u32 i = 0; i < 8; i++) {
            own += shared.bins[255 - lane * 8 - i];
        }
        u64 upto = own;
        for (u32 distance = 1; distance < WARP; distance *= 2) {
            const u64 before = __shfl_sync(0xffffffffu, upto, (lane - distance) % WARP);
            upto += lane >= distance ? before : 0;
        }
        reached += upto - own;
        if (reached < needed && reached + own >= needed) {
            u32 digit = 255 - lane * 8;
            while (reached + shared.bins[digit] < needed) {
                reached += shared.bins[digit];
                digit--;
            }
            shared.reached = reached;
            shared.digit = digit;
            shared.at_end = shared.bins[digit];
        }
    }

    DEVICE void filter(const SampleFilter& filter, u64 all) {
        const double heat = inverse;
        const auto mass_of = [&](float z) { return mass(z, heat); };
        const auto count_of = [](float) { return (u64)1; };
        if (filter.kind == TEMPERATURE) {
            inverse = filter.value;
        } else if (filter.kind == TOP_K || (filter.kind == MIN_P && filter.value > 1.0)) {
            const u64 k = filter.kind == TOP_K ? (u64)filter.value : 1;
            if (k < sum([&](u32 i, float z) { return (u64)is_kept(i, z); })) {
                shorten(k, filter.flags & 1, false, count_of);
            }
        } else if (filter.kind == TOP_P) {
            const u64 total = sum([&](u32 i, float z) { return is_kept(i, z) ? mass_of(z) : 0; });
            const u64 needed = ceil_of_product(filter.value, filter.flags & 2 ? all : total);
            if (needed <= total) {
                shorten(needed, false, filter.flags & 1, mass_of);
            }
        } else {
            cut = ceil_of_product(filter.value, one());
            cut_inverse = inverse;
        }
    }
};

struct Survey {
    float max;
    u32 nan, unknown;
};

// Finds the largest logit, and whether there is a NaN or a penalised token outside the vocabulary.
template <class Row, u32 WARPS>
DEVICE Survey survey(const Row& row, const SampleRequest& request, SampleShared<WARPS>& shared) {
    float max = -INFINITE;
    u32 nan = 0;
    const auto update = [&](u32, float z) {
        max = fmaxf(max, z);
        nan |= z != z;
    };
    // The first pass is limited by memory latency, so it uses vector loads where possible.
    if (row.is_aligned()) {
        row.template each_by<Vectors>(update);
    } else {
        row.each(update);
    }
    u32 unknown = 0;
    for (u32 i = threadIdx.x; i < request.prompt_len + request.output_len; i += WARPS * WARP) {
        const bool is_prompt = i < request.prompt_len;
        const u32* from = (const u32*)(is_prompt ? request.prompt : request.output);
        unknown |= from[is_prompt ? i : i - request.prompt_len] >= row.cols;
    }
    __syncthreads();
    max = over_block<WARPS>(max, shared.floats, [](float own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            own = fmaxf(own, lane_beside(own, distance));
        }
        return own;
    });
    const u32 flags = over_block<WARPS>(nan | unknown << 1, shared.words, [](u32 own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            own |= lane_beside(own, distance);
        }
        return own;
    });
    return {max, flags & 1, flags >> 1};
}

template <class S, u32 WARPS>
DEVICE SampleOutcome sample_row(const SampleArguments& a, u64 index, SampleShared<WARPS>& shared) {
    const SampleRequest& request = ((const SampleRequest*)a.requests)[index];
    SampleRow<S, WARPS> row(a, request, index, shared);
    const Survey found = survey<SampleRow<S, WARPS>, WARPS>(row, request, shared);
    if (found.unknown) {
        return {UNKNOWN_TOKEN, 0, 0, 0};
    }
    if (request.penalises && request.prompt_len + request.output_len > 0 && !a.adjusted) {
        return {NOT_ADJUSTED, 0, 0, 0};
    }
    if (found.nan) {
        return {NOT_A_NUMBER, row.locate(0, [](u32, float z) { return (u64)(z != z); }), 0, 0};
    }
    if (found.max == -INFINITE) {
        return {NOTHING_LEFT, 0, 0, 0};
    }
    const u64 random = random_bits(request);
    if (found.max == INFINITE) {
        // Draws uniformly among the tokens whose logit is +inf, whatever the filters.
        const auto mass = [&](u32, float z) { return z == INFINITE ? row.one() : 0; };
        const u64 total = row.sum(mass);
        const u32 token = row.locate(__umul64hi(random, total), mass);
        return {DRAWN, token, (u32)(total / row.one()), 0};
    }
    row.max = (double)found.max;
    u64 all = 0;
    ROLLED
    for (u32 i = 0; i < request.filters; i++) {
        // Total mass of all tokens, at the temperature of the first filter.
        if (request.filter[i].kind == TOP_P && request.filter[i].flags & 2) {
            const double heat = request.filter[0].kind == TEMPERATURE ? request.filter[0].value : 1.0;
            all = row.sum([&](u32, float z) { return z != -INFINITE ? row.mass(z, heat) : 0; });
        }
        row.filter(request.filter[i], all);
    }
    const auto mass = [&](u32 i, float z) { return row.is_kept(i, z) ? row.mass(z, row.inverse) : 0; };
    const u64 kept = row.sum([&](u32 i, float z) { return (u64)row.is_kept(i, z); });
    const u32 token = row.locate(__umul64hi(random, row.sum(mass)), mass);
    return {DRAWN, token, (u32)kept, 0};
}

template <class S, u32 WARPS>
DEVICE void sample(const SampleArguments& a) {
    __shared__ SampleShared<WARPS> shared;
    for (u64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const SampleOutcome outcome = sample_row<S, WARPS>(a, row, shared);
        if (threadIdx.x == 0) {
            ((SampleOutcome*)a.outcomes)[row] = outcome;
        }
        __syncthreads();
    }
}

// Rounds the new value of a finite logit to f32, and keeps it finite. A logit that is not finite is unchanged.
DEVICE float changed(float z, double to) {
    const double LIMIT = 0x1.fffffep127;
    to = to > LIMIT ? LIMIT : to < -LIMIT ? -LIMIT : to;
    return fabsf(z) < INFINITE ? (float)to : z;
}

// Copies each row to f32 and applies the penalties of its request. Each token is processed by the thread that finds its
// first occurrence.
template <class S>
DEVICE void adjust(const AdjustArguments& a) {
    for (u64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const SampleRequest& request = ((const SampleRequest*)a.requests)[row];
        float* to = (float*)a.adjusted + row * a.cols;
        for (u64 i = threadIdx.x; i < a.cols; i += 256) {
            to[i] = S::widen(((const typename S::Bits*)a.logits)[row * a.cols + i]);
        }
        __syncthreads();
        const u32 of_prompt = request.prompt_len, count = of_prompt + request.output_len;
        const auto token = [&](u32 i) {
            return i < of_prompt ? ((const u32*)request.prompt)[i] : ((const u32*)request.output)[i - of_prompt];
        };
        for (u32 i = threadIdx.x; i < count && request.penalises; i += 256) {
            const u32 own = token(i);
            u32 before = 0, in_output = 0, in_all = 0;
            for (u32 j = 0; j < count; j++) {
                const u32 same = token(j) == own;
                before += j < i ? same : 0;
                in_output += j >= of_prompt ? same : 0;
                in_all += same;
            }
            if (before > 0 || own >= a.cols) {
                continue;
            }
            float z = to[own];
            z = changed(z, z > 0.0f ? (double)z / request.repetition : (double)z * request.repetition);
            if (request.penalises == 2) {
                const float off = changed(0.0f, (double)in_all * request.frequency);
                z = changed(z, (double)z - (double)changed(0.0f, (double)off + request.presence));
            } else if (in_output > 0) {
                z = changed(z, (double)z - (double)changed(0.0f, (double)in_output * request.frequency));
                z = changed(z, (double)z - request.presence);
            }
            to[own] = z;
        }
        __syncthreads();
    }
}

#define SAMPLE(TYPE, NAME)                                                                                             \
    ENTRY(sample_##NAME##_8, SampleArguments, 256, (sample<TYPE, 8>(arguments)))                                       \
    ENTRY(sample_##NAME##_32, SampleArguments, 1024, (sample<TYPE, 32>(arguments)))                                    \
    ENTRY(sample_adjust_##NAME, AdjustArguments, 256, (adjust<TYPE>(arguments)))

SAMPLE(F32, f32)
SAMPLE(F16, f16)
SAMPLE(BF16, bf16)
