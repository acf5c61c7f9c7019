// RMSNorm of rows, as `src/ops/rms_norm.rs` defines it. RMSNorm with a residual normalises the rounded sum of the row
// and the residual.
//
// Each block holds one row in registers or in shared memory, so most rows are read once and written once. Two kinds of
// rows are read again: rows that do not fit, and rows that are held in registers but must be multiplied in f64. f64,
// float-float pairs and f32 may give different bits, so the kernels choose between them as `src/cpu/rms_norm.rs` does.
#include "norm_row.cuh"
#include "rms_norm.cuh"
#include "tile_row.cuh"

struct RmsNormArguments {
    u64 x, y;          // [rows, cols]
    u64 residual, sum; // [rows, cols]: addend of x, and destination of the sum; or 0
    u64 weight;        // [cols]
    u64 rows;
    double weight_offset, eps;
    u32 cols;
    u32 weight_type;
    u32 may_be_narrow; // Whether the options allow f32. The weights' magnitudes must allow it too.
    u32 before_weight; // Whether the normalised row is rounded before the multiplication by the weight.
};

// Returns the bits of the sum of two elements.
template <class S>
DEVICE u32 added(float x, float residual) {
    // A sum of 16-bit numbers is rounded to f32 and then to 16 bits. The rounding to f32 does not change the result.
    const float sum = x + residual;
    return sum != sum ? S::NOT_A_NUMBER : S::narrow(sum);
}

// Row of any length and at any address.
template <class S>
struct RmsNormRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT;
    StoredRow<S> x;
    const Operand& weight;

    DEVICE RmsNormRow(const Bits* row, u32 cols, const Operand& weight) : x(row, cols), weight(weight) {}

    // Adds a residual to the row, and writes the sum, which then replaces the row.
    DEVICE void add(const Bits* residual, Bits* to) {
        const Division<S> parts(to, x.cols);
        const RowPieces<S> of_x(x, parts.head), of_residual(StoredRow<S>(residual, x.cols), parts.head);
        Bits* const inner = to + parts.head;
        const auto piece = [&](u32 column) {
            float elements[COUNT], addends[COUNT];
            u32 bits[COUNT];
            of_x.load(column, elements);
            of_residual.load(column, addends);
            for (u32 k = 0; k < COUNT; k++) {
                bits[k] = added<S>(elements[k], addends[k]);
            }
            Vectors<S>::store(inner + column, bits);
        };
        each_result(parts, piece, [&](u32 column) {
            to[column] = (Bits)added<S>(S::widen(x.row[column]), S::widen(residual[column]));
        });
        x.row = to;
    }

    // Writes the results of the row. `result` computes a result from an element and its weight.
    template <class Result>
    DEVICE void write(Bits* to, Result result) const {
        const Division<S> parts(to, x.cols);
        const RowPieces<S> of_x(x, parts.head);
        const OperandPieces<S> of_weight(weight, x.cols, parts.head);
        Bits* const inner = to + parts.head;
        const auto piece = [&](u32 column) {
            TileRow<S> elements;
            float weights[COUNT];
            of_x.load(column, elements.words[0]);
            of_weight.template load<S, COUNT>(column, weights);
            decltype(result(0.0f, 0.0f)) results[COUNT];
            for (u32 k = 0; k < COUNT; k++) {
                results[k] = result(elements.value(0, k), weights[k]);
            }
            store_piece<S>(inner + column, results);
        };
        each_result(parts, piece, [&](u32 column) {
            float of_weight[1];
            weight.load<S, 1>(column, of_weight);
            store_element<S>(to + column, result(S::widen(x.row[column]), of_weight[0]));
        });
    }

    DEVICE void write_narrow(double scale, Bits* to) const {
        const float high = (float)scale;
        const float low = (float)(scale - (double)high);
        write(to, [&](float x, float weight) { return scaled<S>(x, high, low, weight); });
    }

    DEVICE void write_wide(double scale, double weight_offset, bool before_weight, Bits* to) const {
        write(to, [&](float x, float weight) {
            return scaled_wide<S>(x, scale, (double)weight + weight_offset, before_weight);
        });
    }
};

// Normalises rows of any length and at any address.
template <class S>
DEVICE void rms_norm_any(const RmsNormArguments& a) {
    typedef typename S::Bits Bits;
    const u32 COUNT = Vectors<S>::COUNT;
    const bool IS_F32 = sizeof(Bits) == 4;
    __shared__ RowSums<1> shared;
    __shared__ Magnitudes partial[WARP];
    __shared__ OperandRange range;
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    const Columns columns = {a.cols};
    check_weights<S, COUNT>(range, OperandPieces<S>(weight, a.cols, 0), a.cols);
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const u64 start = index * a.cols;
        RmsNormRow<S> row((const Bits*)a.x + start, a.cols, weight);
        if (a.residual) {
            row.add((const Bits*)a.residual + start, (Bits*)a.sum + start);
        }
        // After this barrier, all threads have read the previous row and written the sum, and the flags of the weights
        // are set.
        __syncthreads();
        row.x.copy(0, dynamic_granules());
        await_row();
        if (index + gridDim.x < a.rows) {
            row.x.prefetch((const Bits*)a.x + (index + gridDim.x) * a.cols);
        }
        Magnitudes own = Magnitudes::of_none();
        double sums[1];
        const RowPieces<S> pieces(row.x, 0);
        sum_row<S, COUNT>(a.cols, shared, sums, [&](u32 column, u32, double(&sums)[COUNT][1]) {
            float x[COUNT];
            pieces.load(column, x);
            for (u32 k = 0; k < COUNT; k++) {
                // Zeros behind the row only affect the smallest magnitude. `keeps_low_parts` treats a row with such
                // zeros as padded.
                if (IS_F32) {
                    own.update(x[k]);
                }
                sums[k][0] = fma((double)x[k], (double)x[k], sums[k][0]);
            }
        });
        const double square = columns.mean(sums[0]);
        const double scale = scale_of(square, a.eps);
        bool is_narrow = a.may_be_narrow && range.is_within(a.cols) && has_room(square, scale);
        if (IS_F32 && is_narrow) {
            is_narrow = keeps_low_parts(own.over<WARP>(partial), a.cols, scale);
        }
        Bits* const to = (Bits*)a.y + recomputed(index) * a.cols;
        if (is_narrow) {
            row.write_narrow(scale, to);
        } else {
            row.write_wide(scale, a.weight_offset, a.before_weight, to);
        }
    }
}

// Shared memory of a block that holds rows in registers.
template <class S>
struct RmsNormShared {
    TileSums<S, 1> sums;
    Magnitudes of_warps[2][WARP];
    OperandRange range;
};

// Normalises rows that fit in registers.
template <class S, bool IS_OWN>
DEVICE void rms_norm_rows(const RmsNormArguments& a, RmsNormShared<S>& shared, const Operand& weight) {
    typedef typename S::Bits Bits;
    typedef TileRow<S> Row;
    const bool IS_F32 = sizeof(Bits) == 4;
    const TileOperand<S, IS_OWN> weights(weight);
    const Columns columns = {a.cols};
    u32 turn = 0;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const u64 start = index * a.cols;
        const u64 own = start + Row::first();
        const Bits* from = (const Bits*)a.x + start;
        Bits* to = (Bits*)a.y + own;
        Row row, of_weights;
        row.load((const Bits*)a.x + own, a.cols);
        if (a.residual) {
            Row residual;
            residual.load((const Bits*)a.residual + own, a.cols);
            from = (const Bits*)a.sum + start;
            Row::each(a.cols, [&](u32 i, u32 offset) {
                u32 bits[Row::COUNT];
                for (u32 k = 0; k < Row::COUNT; k++) {
                    bits[k] = added<S>(row.value(i, k), residual.value(i, k));
                }
                const uint4 v = Vectors<S>::packed(bits);
                row.words[i][0] = v.x, row.words[i][1] = v.y, row.words[i][2] = v.z, row.words[i][3] = v.w;
                Vectors<S>::store_words((Bits*)a.sum + own + offset, v);
            });
        }
        if (IS_OWN) {
            Row::each(a.cols, [&](u32 i, u32 offset) { weights.load(offset, of_weights.words[i]); });
        }
        if (IS_F32) {
            Magnitudes own = Magnitudes::of_none();
            Row::each(a.cols, [&](u32 i, u32) {
                for (u32 k = 0; k < Row::COUNT; k++) {
                    own.update(row.value(i, k));
                }
            });
            own = own.over_warp();
            if (threadIdx.x % WARP == 0) {
                shared.of_warps[turn][threadIdx.x / WARP] = own;
            }
        }
        shared.sums.store(turn, [&](u32 i, u32 w, double(*sums)[1]) {
            for (u32 k = 0; k < Row::IN_WORD; k++) {
                const double x = (double)row.value(i, w, k);
                sums[k][0] = fma(x, x, sums[k][0]);
            }
        });
        row.forget_elements();
        const u32 of_warp = threadIdx.x % WARP & (blockDim.x / WARP - 1);
        const Magnitudes* magnitudes = &shared.of_warps[turn][of_warp];
        double sums[1];
        shared.sums.totals(turn, sums);
        const double square = columns.mean(sums[0]);
        const double scale = scale_of(square, a.eps);
        bool is_narrow = a.may_be_narrow && shared.range.is_within(a.cols) && has_room(square, scale);
        if (IS_F32 && is_narrow) {
            is_narrow = keeps_low_parts(magnitudes->over_warp(), a.cols, scale);
        }
        if (is_narrow) {
            const float high = (float)scale;
            const float low = (float)(scale - (double)high);
            Row::each(a.cols, [&](u32 i, u32 offset) {
                float by[Row::COUNT], values[Row::COUNT];
                if (IS_OWN) {
                    of_weights.widen(i, by);
                } else {
                    weights.values(offset, by);
                }
                for (u32 k = 0; k < Row::COUNT; k++) {
                    values[k] = scaled<S>(row.value(i, k), high, low, by[k]);
                }
                Vectors<S>::store_rounded(to + offset, values);
            });
        } else {
            // The computation in f64 needs the registers that hold the row, so the row is read again.
            const u32 COUNT = Row::COUNT;
            Held<S, Vectors, 1, 0>(from, a.cols).each([&](u32 column, const float* x) {
                float by[COUNT];
                u32 bits[COUNT];
                weight.load<S, COUNT>(column, by);
                for (u32 k = 0; k < COUNT; k++) {
                    bits[k] = scaled_wide<S>(x[k], scale, (double)by[k] + a.weight_offset, a.before_weight);
                }
                Vectors<S>::store((Bits*)a.y + start + column, bits);
            });
        }
    }
}

template <class S>
DEVICE void rms_norm_held(const RmsNormArguments& a) {
    __shared__ RmsNormShared<S> shared;
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    check_weights<S, TileRow<S>::COUNT>(shared.range, weight, a.cols);
    if (TileOperand<S, true>::serves(weight)) {
        rms_norm_rows<S, true>(a, shared, weight);
    } else if constexpr (sizeof(typename S::Bits) == 2) {
        rms_norm_rows<S, false>(a, shared, weight);
    }
}

NORM(rms_norm, RmsNormArguments, 1024, 1024, F32, f32)
NORM(rms_norm, RmsNormArguments, 1024, 1024, F16, f16)
NORM(rms_norm, RmsNormArguments, 1024, 1024, BF16, bf16)
