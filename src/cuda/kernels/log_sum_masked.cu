// log_softmax and logsumexp of rows with masks, scale and softcap, as `src/ops/log_softmax.rs` and
// `src/ops/logsumexp.rs` define them. Each block processes one row. Rows that fit in registers and have neither a bias
// nor a softcap are read once. Other rows, and rows whose largest exponential dominates the sum, are read one element
// at a time.
#include "masked_products.cuh"

template <class S, u32 WARPS>
struct MaskedShared {
    LogSumShared<S, WARPS> sums;
    WideExtremes extremes[WARPS];
    int keys[WARPS];
};

// Computes log_softmax, or logsumexp if `IS_OF_ROWS`, of masked rows.
template <class S, u32 WARPS, u32 HELD, bool IS_OF_ROWS>
struct LogSumMasked {
    typedef typename S::Bits Bits;
    typedef MaskedShared<S, WARPS> Shared;
    typedef MaskedRow<S, Vectors, WARPS, HELD, false> Row;
    typedef Piece<Vectors<S>> Scores;

    static DEVICE void store_of_row(const MaskedArguments& a, u32 index, u32 bits) {
        if (threadIdx.x == 0) {
            ((Bits*)a.y)[index] = (Bits)bits;
        }
    }

    // Result of a row that is fully masked, or has NaN or +inf. `max` is the row's maximum.
    static DEVICE u32 fill_value(const MaskedArguments& a, bool is_nan, float max) {
        if (IS_OF_ROWS) {
            return is_nan ? S::NOT_A_NUMBER : S::narrow(max);
        }
        if (is_nan || max != -INFINITE) {
            return S::NOT_A_NUMBER;
        }
        double log = INFINITE, rest;
        if (a.uniform) {
            log_parts((double)a.cols, log, rest);
        }
        return narrow_once<S>(-log);
    }

    // Computes a row in registers. The row's logits are products of score and scale. Returns false if the largest
    // exponential dominates the sum.
    template <class Logits>
    static DEVICE bool write(const MaskedArguments& a, u32 index, Row& row, const Logits& logits, Parts* units) {
        const Units sum = sum_exps<WARPS, false>(row.cols, units, [&](auto& sum) {
            const auto add = [&](u32, u32, const Scores& x, const float*) {
                UNROLLED
                for (u32 e = 0; e < Row::COUNT; e++) {
                    sum.add(logits.power(x.at(e)));
                }
            };
            row.each(add);
        });
        if (is_max_dominated(sum, row.cols)) {
            return false;
        }
        const double log_sum = log_of_sum({sum, false, 0.0}, row.cols);
        if (IS_OF_ROWS) {
            store_of_row(a, index, narrow_once<S>((double)logits.max + log_sum));
            return true;
        }
        Bits* to = (Bits*)a.y + (u64)index * a.cols;
        const auto write = [&](u32, u32 column, const Scores& x, const float*) {
            u32 bits[Row::COUNT];
            UNROLLED
            for (u32 e = 0; e < Row::COUNT; e++) {
                bits[e] = logits.template log_bits<S>(x.at(e), log_sum);
            }
            if (column < row.cols) {
                Vectors<S>::store(to + column, bits);
            }
        };
        row.template each_or<true>(write, [&](u32, u32 column) {
            u32 bits[Row::COUNT];
            UNROLLED
            for (u32 e = 0; e < Row::COUNT; e++) {
                bits[e] = S::narrow(-INFINITE);
            }
            if (column < row.cols) {
                Vectors<S>::store(to + column, bits);
            }
        });
        return true;
    }

    // Computes a row whose logits are products of score and scale. Returns false if the row must be read one element at
    // a time.
    static DEVICE bool held(const MaskedArguments& a, u32 index, Shared& shared) {
        const RowMask<false> mask(a, index);
        Row row((const Bits*)a.x + (u64)index * a.cols, a.cols, mask);
        const float score = row.largest(shared.keys);
        if (!(fabsf(score) < INFINITE)) {
            const u32 bits = fill_value(a, score != score, score);
            if (IS_OF_ROWS) {
                store_of_row(a, index, bits);
            } else {
                row.fill((Bits*)a.y + (u64)index * a.cols, bits);
            }
            count_guards(a.cols > 0 ? a.guards : 0, index, score != score, score == -INFINITE);
            return true;
        }
        return with_products(a, row, score, shared.keys, [&](const auto& logits) {
            return write(a, index, row, logits, shared.sums.units);
        });
    }

    // Computes any row, one element at a time.
    template <bool HAS_OPTIONS>
    static DEVICE void any(const MaskedArguments& a, u32 index, Shared& shared) {
        Bits* to = (Bits*)a.y + (u64)index * a.cols;
        const RowMask<HAS_OPTIONS> mask(a, index);
        WideRow<S, WARPS, HAS_OPTIONS> row(a, HAS_OPTIONS ? a.softcap : 0.0, index, mask, mask.low, mask.high);
        row.find(shared.extremes);
        if (!row.found.is_live()) {
            const u32 bits = fill_value(a, row.found.nan, (float)row.found.max);
            if (IS_OF_ROWS) {
                store_of_row(a, index, bits);
            } else {
                fill_beside<S>(to, a.cols, 0, 0, bits);
            }
            count_guards(a.cols > 0 ? a.guards : 0, index, row.found.nan, row.found.is_masked());
            return;
        }
        row.prepare(shared.sums.tables);
        __syncthreads();
        const double log_sum = log_of_sum(row.powers(shared.sums), row.cols);
        if (IS_OF_ROWS) {
            store_of_row(a, index, narrow_once<S>(row.found.max + log_sum));
            return;
        }
        row.held.each([&](u32 column, const float* x) {
            const double z = row.logit(column, *x);
            to[row.first + column] = (Bits)(row.found.inexact ? narrow_once<S>((z - row.found.max) - log_sum)
                                                              : log_softmax_bits<S>((float)z, (float)row.found.max, log_sum));
        });
        fill_beside<S>(to, a.cols, mask.low, mask.high, S::narrow(-INFINITE));
    }

    static DEVICE void rows(const MaskedArguments& a) {
        __shared__ Shared shared;
        for (u32 index = blockIdx.x; index < a.rows; index += gridDim.x) {
            if constexpr (HELD > 0) {
                if (!held(a, index, shared)) {
                    __syncthreads();
                    any<false>(a, seldom(index), shared);
                }
            } else {
                any<true>(a, index, shared);
            }
            __syncthreads();
        }
    }
};

#define LOG_SUM_MASKED(OP, IS_OF_ROWS, TYPE, NAME)                                                                     \
    ENTRY_AT_MOST(OP##_masked_##NAME##_8x4, MaskedArguments, 256, (LogSumMasked<TYPE, 8, 4, IS_OF_ROWS>::rows(arguments)))    \
    ENTRY_AT_MOST(OP##_masked_##NAME##_16x8, MaskedArguments, 512, (LogSumMasked<TYPE, 16, 8, IS_OF_ROWS>::rows(arguments)))  \
    ENTRY(OP##_masked_##NAME##_any, MaskedArguments, 256, (LogSumMasked<TYPE, 8, 0, IS_OF_ROWS>::rows(arguments)))
#define LOG_SUMS_MASKED(TYPE, NAME)                                                                                    \
    LOG_SUM_MASKED(log_softmax, false, TYPE, NAME)                                                                     \
    LOG_SUM_MASKED(logsumexp, true, TYPE, NAME)

LOG_SUMS_MASKED(F32, f32)
LOG_SUMS_MASKED(F16, f16)
LOG_SUMS_MASKED(BF16, bf16)
