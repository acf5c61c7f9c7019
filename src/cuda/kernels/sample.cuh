// Requests to the sampler, the masses of tokens, random numbers, and the memory that the threads of a row share.
#pragma once
#include "philox.cuh"
#include "softmax_exp.cuh"

enum SampleStatus { DRAWN, HAS_NAN, NOTHING_LEFT, UNKNOWN_TOKEN, NOT_ADJUSTED };
enum SampleFilterKind { TEMPERATURE, TOP_K, TOP_P, MIN_P };

struct SampleFilter {
    u32 kind;
    // If bit 0 is set, top-k keeps all logits that equal the last kept logit, and top-p prefers the highest indices
    // among equal logits. If bit 1 is set, p is a fraction of the mass of all tokens, not of the mass of the kept
    // tokens.
    u32 flags;
    // 1 / temperature, k, or p
    double value;
};

struct SampleRequest {
    u64 seed, row, draw;
    u64 counter;              // Address of a number that is added to `draw`; or 0
    u64 allowed;              // [cols / 32] words with a bit for each token; or 0
    u64 prompt, output;       // Tokens that the penalties count
    u32 prompt_len, output_len;
    double repetition, presence, frequency;
    u32 penalises;            // 0: no penalties; 1: presence and frequency count the output; 2: also the prompt
    u32 filters;
    SampleFilter filter[4];
};

struct SampleOutcome {
    u32 status, token, kept, padding;
};

// Tokens that the filters kept: all logits above `least`, and those equal to `least` at indices `first..=last`.
struct SampleKept {
    double inverse; // 1 / temperature
    float top;      // Largest logit of the row
    float least;
    u32 first, last;
};

struct SampleArguments {
    u64 logits;   // [rows, cols]
    u64 requests; // [rows]
    u64 outcomes; // [rows]
    u64 kept;     // [rows] `SampleKept`, written for rows with a token; or 0
    u64 work;     // A `SampleWork` for each row, `stride` bytes apart; or 0 if a block processes whole rows
    u64 rows;
    u64 stride;
    u32 cols;
    u32 adjusted; // Whether penalties were applied to the logits
    u32 parts;    // Number of blocks that read a row
    u32 padding;
};

struct AdvanceArguments {
    u64 counter;
};

struct AdjustArguments {
    u64 logits;   // [rows, cols]
    u64 requests; // [rows]
    u64 adjusted; // [rows, cols], f32
    u64 rows;
    u64 cols;
};

// Computes e^max(z, -64) for an f64 z <= 0, as `WeightExp` of `src/math/softmax_exp.rs` defines it. A larger z never
// gives a smaller result.
DEVICE float weight_of(const Tables& tables, double z) {
    const float SHIFTER = 12582912.0f;
    z = z > -64.0 ? z : -64.0;
    const float j = fmaf((float)z, float_of(0x4138aa3b), SHIFTER);
    const Entry entry = tables.of(bits_of(j));
    const float r = (float)fma((double)(j - SHIFTER), -STEP, z) + entry.low;
    const float q = fmaf(fmaf(float_of(0x3d2aad66), r, float_of(0x3e2a9c39)), r, 0.5f);
    const float t = fmaf(r * r, q, r);
    const float s = float_of(bits_of(entry.power) + (bits_of(j) << 20));
    return fmaf(t, s, s);
}

// Fills the tables of `weight_of`.
DEVICE void fill(Tables& tables) {
    const u32 j = threadIdx.x;
    if (j < 8) {
        tables.entries[j] = {float_of(TABLE[j] - (j << 20)), (float)__longlong_as_double((long long)TABLE_LOW[j])};
    }
}

// Returns 64 random bits: Philox4x32-10 of the counter (draw, row), with the seed as its key.
DEVICE u64 random_bits(const SampleRequest& request) {
    const u64 draw = request.draw + (request.counter ? *(const u64*)request.counter : 0);
    const PhiloxWords counter = {{(u32)draw, (u32)(draw >> 32), (u32)request.row, (u32)(request.row >> 32)}};
    const PhiloxWords bits = philox4x32(counter, (u32)request.seed, (u32)(request.seed >> 32));
    return (u64)bits.c[0] | (u64)bits.c[1] << 32;
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

// Returns the lowest finite logit for which `such` returns true. `such` must return true for `top`. If `such` returns
// true for a logit, it must return true for all larger logits. In each round, every lane of the warp tests a logit.
template <class Such>
DEVICE float lowest_such(float top, Such such) {
    u32 from = key_of(-INFINITE) + 1, to = key_of(top);
    ROLLED
    while (from < to) {
        const u32 step = (to - from + WARP - 1) / WARP, middle = from + step * (threadIdx.x % WARP);
        const u32 others = sum_of_warp(middle < to && !such(logit_of(middle)));
        if (others == 0) {
            break;
        }
        to = others < WARP && from + step * others < to ? from + step * others : to;
        from += step * (others - 1) + 1;
    }
    return logit_of(from);
}

// Masses of the tokens of a row. A mass is a weight rounded to an integer. The largest logit has the mass `one`.
struct Masses {
    const Tables& tables;
    double max;
    u32 cols;

    DEVICE bool is_long() const { return ::is_long(cols); }
    DEVICE u64 one() const { return (u64)1 << (is_long() ? 42 : 45); }

    // Returns the mass of a token; `below` is the token's logit minus the largest logit.
    DEVICE u64 below(double below, double inverse) const {
        const float e = weight_of(tables, below * inverse);
        const double SHIFTER = 4503599627370496.0; // 2^52
        return (u64)(__double_as_longlong((double)e * (double)one() + SHIFTER) - __double_as_longlong(SHIFTER));
    }
    DEVICE u64 of(float z, double inverse) const { return below((double)z - max, inverse); }

    // Returns the lowest logit whose mass is at least `least_mass`, which must not exceed the largest mass. A larger
    // logit never has a smaller mass.
    DEVICE float lowest(u64 least_mass, double inverse) const {
        return lowest_such((float)max, [&](float z) { return of(z, inverse) >= least_mass; });
    }
};

// Maximum number of listed tokens.
const u32 MOST_LISTED = 2048;
// Number of bins of a histogram of logits.
const u32 BINS = 2048;
// Maximum number of runs of a row. A run is the columns that one warp reads. If several blocks read parts of a row, the
// block that completes the row has this many threads.
const u32 MOST_RUNS = 512;
const u32 MOST_PARTS = 64;
// Largest k for which a top-k filter finds its tokens from the largest logit of each group of columns.
const u32 MOST_OF_GROUPS = 256;
// Lowest finite logit.
const float LOWEST = -3.402823466e38f;

// Bins in which the running sum of the tokens' amounts (`Amount`) may reach the sum that a filter needs.
struct BinRange {
    // Estimated running sums before the first bin and at the end of the last bin, and estimated sum over all bins.
    u64 before, after, total;
    u64 through; // Number of tokens up to the last bin
    u32 first, last;
};

// Workspace for a row whose logits are read by several blocks. The first kernel writes the extremes, and clears `bins`
// and `listed`.
struct SampleWork {
    u64 masses[MOST_RUNS]; // Masses of the kept tokens of a run that are not listed
    u64 totals[MOST_RUNS]; // Masses of all kept tokens of a run
    u64 list[MOST_LISTED];
    BinRange range;
    u32 kept[MOST_RUNS]; // Number of kept tokens of a run that are not listed
    u32 bins[BINS];
    float tops[MOST_PARTS], bottoms[MOST_PARTS]; // Largest and smallest logit of a part
    u32 listed, padding;
    // Largest logit of each group of columns
    DEVICE float* groups() { return (float*)(this + 1); }
};
static_assert(sizeof(SampleWork) == 35376, "the host reserves this many bytes");

template <u32 WARPS>
struct SampleShared {
    // Listed tokens, each with its logit's `key_of` in the high half and its inverted index in the low half. Sorting
    // these numbers in descending order gives the tokens from the largest logit down, and equal logits by ascending
    // index. `SampleRow::search` uses this memory for its sums.
    u64 list[MOST_LISTED];
    // For each run, the sum of the masses of its kept tokens.
    u64 runs[MOST_RUNS];
    u32 bins[BINS];
    Tables tables;
    u64 sums[WARPS];
    BinRange range;
    u32 words[WARPS];
    float floats[WARPS];
    u64 reached, at_end;
    u32 digit, listed;
};
