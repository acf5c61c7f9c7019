// Gradients of softmax, log_softmax and logsumexp of rows with masks, scale and softcap, as
// `src/cpu/scores_backward.rs` and `src/cpu/logsumexp_backward.rs` define them. Each block processes one row of scores.
// If the row fits in registers and has no bias and no softcap, its exponentials replace its scores in the registers.
// Otherwise each pass reads the row again.
#include "masked.cuh"
#include "sum.cuh"

const u64 OF_SOFTMAX = 0, OF_LOG_SOFTMAX = 1, OF_LOGSUMEXP = 2;

struct MaskedBackwardArguments {
    MaskedArguments scores; // `y` is the destination of the gradients of the scores.
    u64 dy;                 // [rows, cols], or [rows] for logsumexp
    u64 of;
};

template <class S, template <class> class By, u32 WARPS, u32 HELD, bool HAS_BIAS>
struct MaskedBackward {
    typedef typename S::Bits Bits;
    typedef WideRow<S, By, WARPS, HELD, HAS_BIAS> Row;
    static const u32 COUNT = By<S>::COUNT;

    struct Shared {
        WideExtremes extremes[WARPS];
        Parts units[WARPS];
        u32 nans[WARPS];
        Tables tables;
        OrderedSums<Places<S, By, WARPS>, 1> terms;
    };

    const MaskedBackwardArguments& a;
    const u32 index;
    const Bits* dy;
    Bits* dx;
    Shared& shared;

    DEVICE MaskedBackward(const MaskedBackwardArguments& a, u32 index, Shared& shared)
        : a(a), index(index), dy((const Bits*)a.dy + (u64)index * (a.of == OF_LOGSUMEXP ? 1 : a.scores.cols)),
          dx((Bits*)a.scores.y + (u64)index * a.scores.cols), shared(shared) {}

    DEVICE double gradient(double y, double of_result, double of_row) const {
        return a.of == OF_SOFTMAX       ? y * (of_result - of_row)
               : a.of == OF_LOG_SOFTMAX ? fma(-y, of_row, of_result)
                                        : y * of_row;
    }

    // Returns the value that all gradients of a row share: for softmax the mean of dy weighted by the probabilities,
    // for log_softmax the sum of dy, and for logsumexp dy itself.
    DEVICE double of_row(Row& row, double reciprocal) {
        if (a.of == OF_LOGSUMEXP) {
            return (double)S::widen(*dy);
        }
        const bool is_mean = a.of == OF_SOFTMAX;
        double sums[1];
        sum_ordered(row.held, shared.terms, sums, [&](u32 column, float x, double (&own)[1]) {
            const float e = row.weight(shared.tables, column, x);
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
            float of_results[COUNT] = {};
            u32 bits[COUNT];
            if (a.of != OF_LOGSUMEXP) {
                By<S>::load(dy + row.first + column, of_results);
            }
            UNROLLED
            for (u32 i = 0; i < COUNT; i++) {
                const float e = row.weight(shared.tables, column + i, x[i]);
                const double of_logit = gradient((double)e * reciprocal, (double)of_results[i], common);
                bits[i] = e >= 0.0f ? narrow_once<S>(of_logit * row.logits.derivative(x[i])) : 0;
            }
            By<S>::store(dx + row.first + column, bits);
        });
        if (HELD == 0) {
            fill_beside<S>(dx, row.cols, row.first, row.first + row.held.cols, 0);
        }
        return true;
    }

    // Writes NaN, or 0 at masked columns, and counts the row. Called for rows without a finite maximum or without
    // finite gradients.
    DEVICE void spoil(const RowMask<HAS_BIAS>& mask, const WideExtremes& found) {
        WideRow<S, Rolled, WARPS, 0, HAS_BIAS> row(a.scores, index, mask, 0, a.scores.cols);
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
};

template <class S, template <class> class By, u32 WARPS, u32 HELD, bool HAS_BIAS>
DEVICE void masked_backward(const MaskedBackwardArguments& a) {
    typedef MaskedBackward<S, By, WARPS, HELD, HAS_BIAS> Gradients;
    __shared__ typename Gradients::Shared shared;
    for (u32 index = blockIdx.x; index < a.scores.rows; index += gridDim.x) {
        const RowMask<HAS_BIAS> mask(a.scores, index);
        // `first` is a multiple of the period of tiled sums, so that terms are added in the same order as in a sum over
        // the whole row.
        const u32 first = HELD > 0 ? 0 : mask.low / ORDERED * ORDERED, end = HELD > 0 ? a.scores.cols : mask.high;
        typename Gradients::Row row(a.scores, index, mask, first, end);
        row.find(shared.extremes);
        Gradients gradients(a, index, shared);
        if (!row.found.is_live() || !gradients.write(row)) {
            gradients.spoil(mask, row.found);
        }
        __syncthreads();
    }
}

#define MASKED_BACKWARD(TYPE, NAME)                                                                                    \
    ENTRY(masked_backward_##NAME##_8x4, MaskedBackwardArguments, 256,                                                  \
          (masked_backward<TYPE, Vectors, 8, 4, false>(arguments)))                                                    \
    ENTRY(masked_backward_##NAME##_any, MaskedBackwardArguments, 256,                                                  \
          (masked_backward<TYPE, Rolled, 8, 0, true>(arguments)))

MASKED_BACKWARD(F32, f32)
MASKED_BACKWARD(F16, f16)
MASKED_BACKWARD(BF16, bf16)
