// Log-probabilities of sampled tokens and of the most probable tokens, as `src/cpu/sample/scale.rs` defines them. One
// block processes a row. The sums are exact, so the order of the terms does not matter.
#include "exp.cuh"
#include "log.cuh"
#include "sample_row.cuh"
#include "sum.cuh"

struct LogprobArguments {
    u64 logits;   // [rows, cols]
    u64 requests; // [rows]; or 0: all tokens are allowed
    u64 outcomes; // [rows]
    u64 kept;     // [rows] `SampleKept`; or 0: all tokens are kept, at temperature 1
    u64 logprobs; // [rows, 1 + top] `Logprob`: the sampled token and the `top` most probable tokens
    u64 rows;
    u32 cols, top;
};

struct Logprob {
    u32 token, padding;
    double logprob;
};

const u32 NO_TOKEN = 0xffffffff;
const u32 LOGPROB_WARPS = 16;

struct LogprobShared {
    SampleShared<LOGPROB_WARPS> of_list;
    double sums[LOGPROB_WARPS];
};

// Computes e^x for x <= 0, as `term` of `src/math/exp.rs` defines it.
DEVICE double term(double x) {
    const Reduced at = reduced(x > -700.0 ? x : -700.0);
    const double square = at.r * at.r;
    double low = EXP_POLY[9], high = EXP_POLY[10];
    for (u32 i = 4; i > 0; i--) {
        low = fma(low, square, EXP_POLY[2 * i - 1]);
        high = fma(high, square, EXP_POLY[2 * i]);
    }
    const double q = fma(low, at.r, fma(high, square, EXP_POLY[0]));
    const double power = fma(square, q, at.r) + 1.0;
    return x >= -700.0 ? wide_of(bits_of_wide(power) + (at.n << 52)) : 0.0;
}

// Computes ln(1 + x) for x >= 0, as `log1p_scalar` of `src/math/log.rs` defines it.
DEVICE double log_of_one_plus(double x) {
    const double larger = x < 1.0 ? 1.0 : x, smaller = x < 1.0 ? x : 1.0;
    const double sum = larger + smaller, low = smaller - (sum - larger);
    const Fraction at = fraction(sum);
    const Sum log = log_parts<false>(at.m - 1.0, 0.0, at.k);
    return log.hi + (log.lo + low / sum);
}

// Returns the top bin of a binned sum whose largest term is `largest`, as `src/math/bins.rs` defines it. `largest` must
// be a normal number below 1.
DEVICE int top_bin(double largest) {
    const int exponent = (int)(bits_of_wide(largest) >> 52) - 1023;
    return (exponent + 1 - 30) / 31;
}

template <class S>
struct LogprobRow {
    static const u32 WARPS = LOGPROB_WARPS, THREADS = WARPS * WARP;
    // Number of bits of a digit of `order`. A digit is the index of a bin.
    static const u32 DIGIT_BITS = 11;
    const LogitRow<S> logits;
    SampleShared<WARPS>& shared;
    double* const partial;
    const Runs<S> runs;
    Candidates<WARPS> list;
    SampleKept kept;

    DEVICE LogprobRow(const LogprobArguments& a, u64 row, LogprobShared& memory)
        : logits(a.logits, a.cols, a.requests ? ((const SampleRequest*)a.requests)[row].allowed : 0, row),
          shared(memory.of_list), partial(memory.sums), runs(logits, WARPS), list{shared, 0} {
        if (a.kept) {
            kept = ((const SampleKept*)a.kept)[row];
            return;
        }
        float own = -INFINITE;
        each([&](u32, float z) { own = max_or_nan(own, z); });
        __syncthreads();
        const float top = over_block<WARPS>(own, shared.floats, [](float own, u32 distance) {
            for (; distance > 0; distance /= 2) {
                own = max_or_nan(own, lane_beside(own, distance));
            }
            return own;
        });
        kept = {1.0, top, top < INFINITE ? LOWEST : INFINITE, 0, 0xffffffff};
    }

    DEVICE bool is_kept(u32 i, float z) const {
        return z > kept.least || (z == kept.least && kept.first <= i && i <= kept.last);
    }

    // Returns (logit - largest) / temperature. For a logit of +inf, returns 0, because all tokens with this logit have
    // the same probability. The result is never -0.
    DEVICE double distance(float z) const {
        return z == INFINITE ? 0.0 : ((double)z - (double)kept.top) * kept.inverse + 0.0;
    }

    template <class F>
    DEVICE void each(F f) const {
        const u32 warp = threadIdx.x / WARP;
        logits.each(warp * runs.share, (warp + 1) * runs.share, f);
    }

    // Returns a sort key of a token. More probable tokens have larger keys. The keys are unique.
    static DEVICE u64 order(u32 i, float z) { return (u64)key_of(z) << 32 | ~i; }

    // Counts a token in `shared.bins` if its sort key begins with `digits`. The lowest `shift + DIGIT_BITS` bits of the
    // key are not compared.
    DEVICE void count(u32 i, float z, u32 shift, u64 digits) {
        const u64 place = order(i, z) >> shift;
        if (place >> DIGIT_BITS == digits) {
            atomicAdd(&shared.bins[place % BINS], 1u);
        }
    }

    DEVICE void clear_bins() {
        __syncthreads();
        for (u32 bin = threadIdx.x; bin < BINS; bin += THREADS) {
            shared.bins[bin] = 0;
        }
        __syncthreads();
    }

    // Returns the logarithm of the sum of the kept tokens' exponentials. If `counts` is true, counts the tokens in bins
    // by the first digit of their sort keys.
    //
    // The sum has four parts, one for each bin. Their units are 2^-31, 2^-62 and so on. If the largest term dominates,
    // the parts are those of a binned sum of the other terms. The top bin of this sum depends on the largest of the
    // other terms.
    DEVICE double log_sum(bool counts) {
        int top = -1;
        while (true) {
            double shifters[4], sums[4] = {}, second = 0.0, ones = 0.0;
            for (int bin = 0; bin < 4; bin++) {
                // 1.5 times 2^52 times the unit of the bin. The second power is 1 unless the product is subnormal.
                const int place = 52 + 31 * (top - bin), normal = place > -1022 ? place : -1022;
                shifters[bin] = 1.5 * power_of_two((u64)(long long)normal) * power_of_two((u64)(long long)(place - normal));
            }
            if (counts) {
                clear_bins();
            }
            each([&](u32 i, float z) {
                if (!is_kept(i, z)) {
                    return;
                }
                if (counts) {
                    count(i, z, 64 - DIGIT_BITS, 0);
                }
                double rest = term(distance(z));
                const bool is_one = rest == 1.0;
                ones += is_one ? 1.0 : 0.0;
                rest = is_one ? 0.0 : rest;
                second = rest > second ? rest : second;
                for (u32 bin = 0; bin < 4; bin++) {
                    const double multiple = (rest + shifters[bin]) - shifters[bin];
                    sums[bin] += multiple;
                    rest -= multiple;
                }
            });
            for (u32 bin = 0; bin < 4; bin++) {
                sums[bin] = total(sums[bin]);
            }
            ones = total(ones);
            __syncthreads();
            second = largest_of_block<WARPS>(second, partial);
            const double above_one = (ones - 1.0) + sums[0];
            const bool is_dominated = top < -1 || above_one + sums[1] < (double)logits.cols * 0x1p-34;
            if (!is_dominated) {
                return log_of_one_plus(above_one + (sums[1] + sums[2]));
            }
            if (second == 0.0) {
                return 0.0;
            }
            if (top_bin(second) == top) {
                const Sum high = two_sum(sums[0], sums[1]);
                return log_of_one_plus(high.hi + (high.lo + (sums[2] + sums[3])));
            }
            top = top_bin(second);
        }
    }

    DEVICE double total(double own) {
        __syncthreads();
        return block_sum<WARPS>(own, partial);
    }

    // Lists the kept tokens from the most probable down. The list has at least `n` tokens, or all kept tokens if there
    // are fewer. Before the call, `shared.bins` must count the tokens by the first digit of their sort keys.
    DEVICE void list_largest(u32 n) {
        u64 digits = 0, above = 0;
        u32 shift = 64 - DIGIT_BITS;
        ROLLED
        while (true) {
            // Counts tokens from the last bin down, and finds the bin in which the count reaches `n`.
            const u32 SHARE = BINS / THREADS, from = BINS - (threadIdx.x + 1) * SHARE;
            u64 own = 0, all;
            __syncthreads();
            for (u32 i = 0; i < SHARE; i++) {
                own += shared.bins[from + i];
            }
            if (threadIdx.x == 0) {
                shared.digit = 0;
                shared.reached = 0;
            }
            u64 upto = above + sum_before<WARPS>(own, shared.sums, all);
            if (upto < n && n <= upto + own) {
                u32 bin = from + SHARE - 1;
                while (upto + shared.bins[bin] < n) {
                    upto += shared.bins[bin];
                    bin--;
                }
                shared.digit = bin;
                shared.reached = upto;
            }
            __syncthreads();
            digits = digits << DIGIT_BITS | shared.digit;
            above = shared.reached;
            // The last shift is 9, so a bin then has at most 2^9 tokens, because sort keys are unique.
            if (above + shared.bins[shared.digit] <= MOST_LISTED || shift < DIGIT_BITS) {
                break;
            }
            shift -= DIGIT_BITS;
            clear_bins();
            each([&](u32 i, float z) {
                if (is_kept(i, z)) {
                    count(i, z, shift, digits);
                }
            });
        }
        list.clear();
        each([&](u32 i, float z) {
            if (is_kept(i, z) && order(i, z) >> shift >= digits) {
                list.add(i, z);
            }
        });
        list.complete();
    }

    DEVICE void write(const SampleOutcome& outcome, u32 n, Logprob* to) {
        const bool is_drawn = outcome.status == DRAWN && outcome.token < logits.cols && kept.top > -INFINITE;
        for (u32 i = threadIdx.x; i <= n; i += THREADS) {
            to[i] = {NO_TOKEN, 0, -(double)INFINITE};
        }
        if (!is_drawn) {
            return;
        }
        const double log_sum = this->log_sum(n > 0);
        if (threadIdx.x == 0) {
            const float z = logits.logit(outcome.token);
            const double logprob = is_kept(outcome.token, z) ? distance(z) - log_sum : -(double)INFINITE;
            to[0] = {outcome.token, 0, logprob};
        }
        if (n == 0) {
            return;
        }
        list_largest(n);
        for (u32 i = threadIdx.x; i < n && i < list.count; i += THREADS) {
            to[1 + i] = {list.index(i), 0, distance(list.logit(i)) - log_sum};
        }
    }
};

template <class S>
DEVICE void logprobs(const LogprobArguments& a) {
    __shared__ LogprobShared shared;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        LogprobRow<S> row(a, index, shared);
        row.write(((const SampleOutcome*)a.outcomes)[index], a.top, (Logprob*)a.logprobs + index * (1 + a.top));
        __syncthreads();
    }
}

ENTRY(sample_logprobs_f32, LogprobArguments, 512, (logprobs<F32>(arguments)))
ENTRY(sample_logprobs_f16, LogprobArguments, 512, (logprobs<F16>(arguments)))
ENTRY(sample_logprobs_bf16, LogprobArguments, 512, (logprobs<BF16>(arguments)))
