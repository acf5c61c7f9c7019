// Gradients of softmax, log_softmax and logsumexp of rows with masks, scale and softcap, as
// `src/cpu/scores_backward.rs` and `src/cpu/logsumexp_backward.rs` define them. Each block processes one row of scores.
// If the row fits in registers and has no bias and no softcap, its exponentials stay in registers. Otherwise each pass
// reads the row again.
#include "masked_products.cuh"
#include "sum.cuh"

const u64 OF_SOFTMAX = 0, OF_LOG_SOFTMAX = 1, OF_LOGSUMEXP = 2;

struct MaskedBackwardArguments {
    MaskedArguments scores; // `y` is the destination of the gradients of the scores.
    u64 dy;                 // [rows, cols], or [rows] for logsumexp
    u64 of;
};

DEVICE double gradient_of(u64 of, double y, double of_result, double of_row) {
    return of == OF_SOFTMAX       ? y * (of_result - of_row)
           : of == OF_LOG_SOFTMAX ? fma(-y, of_row, of_result)
                                  : y * of_row;
}

// Gradients of any row. The row is processed one element at a time.
template <class S, u32 WARPS, bool HAS_BIAS>
struct MaskedBackward {
    typedef typename S::Bits Bits;
    typedef WideRow<S, WARPS, HAS_BIAS> Row;

    struct Shared {
        WideExtremes extremes[WARPS];
        Parts units[WARPS];
        u32 nans[WARPS];
        Tables tables;
        OrderedSums<Places<S, Rolled, WARPS>, 1> terms;
    };

    const MaskedBackwardArguments& a;
    const u32 index;
    const Bits* dy;
    Bits* dx;
    Shared& shared;

    DEVICE MaskedBackward(const MaskedBackwardArguments& a, u32 index, Shared& shared)
        : a(a), index(index), dy((const Bits*)a.dy + (u64)index * (a.of == OF_LOGSUMEXP ? 1 : a.scores.cols)),
          dx((Bits*)a.scores.y + (u64)index * a.scores.cols), shared(shared) {}

    // Returns the value that all gradients of a row share: for softmax the mean of dy weighted by the probabilities,
    // for log_softmax the sum of dy, and for logsumexp dy itself.
    DEVICE double of_row(Row& row, double reciprocal) {
        if (a.of == OF_LOGSUMEXP) {
            return (double)S::widen(*dy);
        }
        const bool is_mean = a.of == OF_SOFTMAX;
        double sums[1];
        sum_ordered(row.held, shared.terms, sums, [&](u32 column, float x, double (&own)[1]) {
            const float e = row.kept_power(shared.tables, column, x);
            if (e >= 0.0f) {
                const double of_result = (double)S::widen(dy[row.first + column]);
                own[0] += is_mean ? (double)e * of_result : of_result;
            }
        });
        return is_mean ? sums[0] * reciprocal : sums[0];
    }

    // Writes the gradients of a row whose maximum is finite. Returns false if any gradient is not finite.
    DEVICE bool write(Row& row) {
        row.prepare(shared.tables);
        __syncthreads();
        const double reciprocal = 1.0 / sum_of_units(row.units(shared.tables, shared.units), row.cols);
        const double common = of_row(row, reciprocal);
        if (!(fabs(common) < (double)INFINITE)) {
            return false;
        }
        row.held.each([&](u32 column, const float* x) {
            const float of_result = a.of == OF_LOGSUMEXP ? 0.0f : S::widen(dy[row.first + column]);
            const float e = row.kept_power(shared.tables, column, *x);
            const double of_logit = gradient_of(a.of, (double)e * reciprocal, (double)of_result, common);
            dx[row.first + column] = (Bits)(e >= 0.0f ? narrow_once<S>(of_logit * row.logits.derivative(*x)) : 0);
        });
        fill_beside<S>(dx, row.cols, row.first, row.first + row.held.cols, 0);
        return true;
    }

    // Writes 0 to masked columns and NaN to all others, and adds the row to the guard counts. Called for rows without a
    // finite maximum, and for rows with a gradient that is not finite.
    DEVICE void spoil(const RowMask<HAS_BIAS>& mask, const WideExtremes& found) {
        Row row(a.scores, softcap(), index, mask, 0, a.scores.cols);
        bool nan = found.nan;
        if (found.is_live()) {
            u32 own = 0;
            row.held.each([&](u32 column, const float* x) {
                const float of_result = S::widen(dy[a.of == OF_LOGSUMEXP ? 0 : column]);
                own |= of_result != of_result && row.logit(column, *x) != -(double)INFINITE;
            });
            nan = over_block<WARPS>(own, shared.nans, [](u32 own, u32 distance) {
                for (; distance > 0; distance /= 2) {
                    own |= lane_beside(own, distance);
                }
                return own;
            });
        }
        count_guards(a.scores.guards, index, nan, found.is_masked());
        row.held.each([&](u32 column, const float* x) {
            dx[column] = (Bits)(row.logit(column, *x) == -(double)INFINITE ? 0 : S::NOT_A_NUMBER);
        });
    }

    // A call with a softcap always runs a kernel with `HAS_BIAS`.
    DEVICE double softcap() const { return HAS_BIAS ? a.scores.softcap : 0.0; }

    DEVICE void process() {
        const RowMask<HAS_BIAS> mask(a.scores, index);
        // The order of a tiled sum repeats after `ORDERED` terms, and `first` is a multiple of `ORDERED`. So the terms
        // are added in the same order as in a sum over the whole row.
        Row row(a.scores, softcap(), index, mask, mask.low / ORDERED * ORDERED, mask.high);
        row.find(shared.extremes);
        if (!row.found.is_live() || !write(row)) {
            spoil(mask, row.found);
        }
    }
};

// Gradients of a row in registers. The row's logits are products of score and scale.
template <class S, u32 WARPS, u32 HELD>
struct HeldBackward {
    typedef typename S::Bits Bits;
    typedef MaskedRow<S, Vectors, WARPS, HELD, false> Row;
    typedef MaskedBackward<S, WARPS, false> Any;
    static const u32 COUNT = Row::COUNT;

    struct Shared {
        int keys[WARPS];
        Parts units[WARPS];
        OrderedSums<Places<S, Vectors, WARPS>, 1> terms;
        typename Any::Shared any;
    };

    // Writes the gradients. Returns false, and writes nothing, if any gradient is not finite.
    template <class Logits>
    static DEVICE bool write(const MaskedBackwardArguments& a, u32 index, Row& row, const Logits& logits, Shared& shared) {
        const Bits* dy = (const Bits*)a.dy + (u64)index * (a.of == OF_LOGSUMEXP ? 1 : row.cols);
        Bits* dx = (Bits*)a.scores.y + (u64)index * row.cols;
        // Exponentials, and -1 for masked scores.
        Held<S, Vectors, WARPS, HELD> powers(row.cols);
        const Units units = sum_exps<WARPS, false>(row.cols, shared.units, [&](auto& sum) {
            const auto add = [&](u32 i, u32, const Piece<Vectors<S>>& x, const float*) {
                UNROLLED
                for (u32 e = 0; e < COUNT; e++) {
                    const float power = logits.power(x.at(e));
                    sum.add(power);
                    powers.values[i][e] = x.at(e) == -INFINITE ? -1.0f : power;
                }
            };
            row.template each_or<true>(add, [&](u32 i, u32) {
                UNROLLED
                for (u32 e = 0; e < COUNT; e++) {
                    powers.values[i][e] = -1.0f;
                    // Adds terms of 0, so that the number of terms is known at compile time.
                    sum.add(0.0f);
                }
            });
        });
        const double reciprocal = 1.0 / sum_of_units(units, row.cols);
        double common;
        if (a.of == OF_LOGSUMEXP) {
            common = (double)S::widen(*dy);
        } else {
            const bool is_mean = a.of == OF_SOFTMAX;
            double sums[1];
            sum_pieces(powers, shared.terms, sums, [&](u32 column, const float* e, auto lane) {
                if (row.is_read(column)) {
                    float of_results[COUNT];
                    Vectors<S>::load(dy + column, of_results);
                    UNROLLED
                    for (u32 i = 0; i < COUNT; i++) {
                        if (e[i] >= 0.0f) {
                            lane(i)[0] += is_mean ? (double)e[i] * (double)of_results[i] : (double)of_results[i];
                        }
                    }
                }
            });
            common = is_mean ? sums[0] * reciprocal : sums[0];
        }
        if (!(fabs(common) < (double)INFINITE)) {
            return false;
        }
        powers.each([&](u32 column, const float* e) {
            float of_results[COUNT] = {};
            u32 bits[COUNT];
            if (a.of != OF_LOGSUMEXP && row.is_read(column)) {
                Vectors<S>::load(dy + column, of_results);
            }
            UNROLLED
            for (u32 i = 0; i < COUNT; i++) {
                const double of_logit = gradient_of(a.of, (double)e[i] * reciprocal, (double)of_results[i], common);
                bits[i] = e[i] >= 0.0f ? narrow_once<S>(of_logit * a.scores.scale) : 0;
            }
            Vectors<S>::store(dx + column, bits);
        });
        return true;
    }

    // Returns false, and writes nothing, if the row must be read one element at a time.
    static DEVICE bool held(const MaskedBackwardArguments& a, u32 index, Shared& shared) {
        const MaskedArguments& scores = a.scores;
        const RowMask<false> mask(scores, index);
        Row row((const Bits*)scores.x + (u64)index * scores.cols, scores.cols, mask);
        const float score = row.largest(shared.keys);
        if (score == -INFINITE) {
            row.fill((Bits*)scores.y + (u64)index * scores.cols, 0);
            count_guards(scores.guards, index, false, true);
            return true;
        }
        return score < INFINITE && with_products(scores, row, score, shared.keys, [&](const auto& logits) {
            return write(a, index, row, logits, shared);
        });
    }
};

template <class S, u32 WARPS>
DEVICE void masked_backward_any(const MaskedBackwardArguments& a) {
    typedef MaskedBackward<S, WARPS, true> Any;
    __shared__ typename Any::Shared shared;
    for (u32 index = blockIdx.x; index < a.scores.rows; index += gridDim.x) {
        Any(a, index, shared).process();
        __syncthreads();
    }
}

template <class S, u32 WARPS, u32 HELD>
DEVICE void masked_backward_held(const MaskedBackwardArguments& a) {
    typedef HeldBackward<S, WARPS, HELD> Held;
    __shared__ typename Held::Shared shared;
    for (u32 index = blockIdx.x; index < a.scores.rows; index += gridDim.x) {
        if (!Held::held(a, index, shared)) {
            __syncthreads();
            typename Held::Any(a, seldom(index), shared.any).process();
        }
        __syncthreads();
    }
}

// `HELD` is the number of pieces per thread in the kernel for up to 512 threads.
#define MASKED_BACKWARD(TYPE, NAME, HELD)                                                                              \
    ENTRY_AT_MOST(masked_backward_##NAME##_256, MaskedBackwardArguments, 256, (masked_backward_held<TYPE, 8, 4>(arguments)))     \
    ENTRY_AT_MOST(masked_backward_##NAME##_512, MaskedBackwardArguments, 512, (masked_backward_held<TYPE, 16, HELD>(arguments))) \
    ENTRY(masked_backward_##NAME##_any, MaskedBackwardArguments, 256, (masked_backward_any<TYPE, 8>(arguments)))

MASKED_BACKWARD(F32, f32, 8)
MASKED_BACKWARD(F16, f16, 4)
MASKED_BACKWARD(BF16, bf16, 4)
