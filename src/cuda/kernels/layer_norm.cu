// LayerNorm of rows, as `src/ops/layer_norm.rs` defines it.
//
// Each block holds one row in registers or in shared memory, so most rows are read once and written once. Two kinds of
// rows are read again: rows that do not fit, and rows of a 16-bit type that are held in registers but must be computed
// in f64. f32 and f64 may give different bits, so the kernels choose between them as `src/cpu/layer_norm.rs` does.
#include "norm_row.cuh"
#include "tile_row.cuh"

struct LayerNormArguments {
    u64 x, y;         // [rows, cols]
    u64 weight, bias; // [cols]
    u64 rows;
    double eps;
    u32 cols;
    u32 weight_type, bias_type;
    u32 unused;
};

// Limits for the magnitudes of weights and biases. Within these limits, rows of 16-bit types may be computed in f32.
const float LEAST_WEIGHT = 0x1p-60f, LARGEST_WEIGHT = 0x1p60f, LARGEST_BIAS = 0x1.fffffep127f;

// Factors that normalise a row.
struct LayerNormFactors {
    double mean, scale, shift;
    // The mean as a float-float pair.
    float high, low;
    // Whether the values of the row allow computation in f32. The weights and biases must allow it too.
    bool is_narrow;

    DEVICE LayerNormFactors(const RowMoments& moments, double eps) : mean(moments.mean) {
        scale = scale_of(moments.square, eps);
        shift = moments.shift(scale);
        high = (float)mean;
        const double rest = (mean - (double)high) + moments.low;
        low = (float)rest;
        // The low part of the mean must be zero or a normal f32. Otherwise, f32 does not represent the low part to full
        // precision.
        const bool keeps_low = rest == 0.0 || fabs(rest) >= 0x1p-126;
        is_narrow = keeps_low && has_room(moments.square, scale);
    }

    DEVICE float narrow(float x, float weight, float bias) const {
        return fmaf(x - high - low, (float)scale * weight, bias);
    }

    template <class S>
    DEVICE u32 wide(float x, float weight, float bias) const {
        return narrow_wide<S>(fma(normalised(x, mean, scale, shift), (double)weight, (double)bias));
    }
};

// Row of any length and at any address.
template <class S>
struct LayerNormRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT;
    StoredRow<S> x;
    const Operand& weight;
    const Operand& bias;

    DEVICE LayerNormRow(const Bits* row, u32 cols, const Operand& weight, const Operand& bias)
        : x(row, cols), weight(weight), bias(bias) {}

    // Writes the results of the row. `result` computes a result from an element, its weight and its bias.
    template <class Result>
    DEVICE void write(Bits* to, Result result) const {
        const Division<S> parts(to, x.cols);
        const RowPieces<S> of_x(x, parts.head);
        const OperandPieces<S> of_weight(weight, x.cols, parts.head), of_bias(bias, x.cols, parts.head);
        Bits* const inner = to + parts.head;
        const auto piece = [&](u32 column) {
            TileRow<S> elements;
            float weights[COUNT], biases[COUNT];
            of_x.load(column, elements.words[0]);
            of_weight.template load<S, COUNT>(column, weights);
            of_bias.template load<S, COUNT>(column, biases);
            decltype(result(0.0f, 0.0f, 0.0f)) results[COUNT];
            for (u32 k = 0; k < COUNT; k++) {
                results[k] = result(elements.value(0, k), weights[k], biases[k]);
            }
            store_piece<S>(inner + column, results);
        };
        each_result(parts, piece, [&](u32 column) { write_element(to, column, result); });
    }

    template <class Result>
    DEVICE void write_element(Bits* to, u32 column, Result result) const {
        float of_weight[1], of_bias[1];
        weight.load<S, 1>(column, of_weight);
        bias.load<S, 1>(column, of_bias);
        store_element<S>(to + column, result(S::widen(x.row[column]), of_weight[0], of_bias[0]));
    }

    DEVICE void write_narrow(const LayerNormFactors& by, Bits* to) const {
        write(to, [&](float x, float weight, float bias) { return by.narrow(x, weight, bias); });
    }

    DEVICE void write_wide(const LayerNormFactors& by, Bits* to) const {
        const auto result = [&](float x, float weight, float bias) { return by.wide<S>(x, weight, bias); };
        if constexpr (sizeof(Bits) == 4) {
            write(to, result);
        } else {
            // Processes one element at a time. Rows of 16-bit types seldom need f64, and a whole piece in f64 takes
            // many registers.
            ROLLED
            for (u32 column = threadIdx.x; column < x.cols; column += blockDim.x) {
                write_element(to, column, result);
            }
        }
    }
};

// Checks whether the magnitudes of weights and biases allow f32. A barrier must follow.
template <class S, class Values>
DEVICE void check_operands(OperandRange& of_weights, OperandRange& of_biases, const Values& weight, const Values& bias,
                           u32 cols) {
    if (sizeof(typename S::Bits) == 2) {
        const u32 COUNT = Vectors<S>::COUNT;
        of_weights.check<S, COUNT>(weight, cols, LEAST_WEIGHT, LARGEST_WEIGHT);
        of_biases.check<S, COUNT>(bias, cols, 0.0f, LARGEST_BIAS);
    }
}

// Normalises rows of any length and at any address.
template <class S>
DEVICE void layer_norm_any(const LayerNormArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ RowSums<2> shared;
    __shared__ OperandRange of_weights, of_biases;
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    const Operand bias = {a.bias, a.bias_type, 0.0f};
    check_operands<S>(of_weights, of_biases, OperandPieces<S>(weight, a.cols, 0), OperandPieces<S>(bias, a.cols, 0), a.cols);
    // Few registers are left, so only the row's address stays in a register. All other addresses are computed from it.
    const auto bytes = [&](u64 rows) { return rows * seldom(a.cols) * sizeof(Bits); };
    for (u64 at = a.x + bytes(blockIdx.x); at < a.x + bytes(a.rows); at += bytes(gridDim.x)) {
        LayerNormRow<S> row((const Bits*)at, a.cols, weight, bias);
        // After this barrier, all threads have read the previous row, and the flags of the operands are set.
        __syncthreads();
        row.x.copy(0, dynamic_granules());
        await_row();
        if (at + bytes(gridDim.x) < a.x + bytes(a.rows)) {
            row.x.prefetch((const Bits*)(at + bytes(gridDim.x)));
        }
        const Columns columns = {seldom(a.cols)};
        const LayerNormFactors by(find_moments(true, columns, row.x, shared), a.eps);
        Bits* const to = (Bits*)(a.y + (recomputed(at) - a.x));
        if (sizeof(Bits) == 2 && by.is_narrow && of_weights.is_within(a.cols) && of_biases.is_within(a.cols)) {
            row.write_narrow(by, to);
        } else {
            row.write_wide(by, to);
        }
    }
}

// Shared memory of a block that holds rows in registers.
template <class S>
struct LayerNormShared {
    TileSums<S, 2> sums;
    OperandRange of_weights, of_biases;
};

// Normalises rows that fit in registers.
template <class S, bool IS_OWN>
DEVICE void layer_norm_rows(const LayerNormArguments& a, LayerNormShared<S>& shared, const Operand& weight,
                            const Operand& bias) {
    typedef typename S::Bits Bits;
    typedef TileRow<S> Row;
    const bool IS_F32 = sizeof(Bits) == 4;
    const Columns columns = {a.cols};
    u32 turn = 0;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        // Few registers are left, so addresses are computed where they are needed.
        const auto own = [&]() { return recomputed(index) * a.cols + Row::first(); };
        Row row;
        row.load((const Bits*)a.x + own(), a.cols);
        double sums[2];
        find_sums(row, shared.sums, turn, sums);
        const RowMoments moments = moments_of(true, columns, sums, [&](double mean, double(&sums)[2]) {
            find_sums_about(row, a.cols, mean, shared.sums, turn, sums);
        });
        const LayerNormFactors by(moments, a.eps);
        const bool is_narrow = !IS_F32 && by.is_narrow && shared.of_weights.is_within(a.cols) &&
                               shared.of_biases.is_within(a.cols);
        if (IS_F32 || is_narrow) {
            Bits* to = (Bits*)a.y + own();
            const TileOperand<S, IS_OWN> of_weights(weight), of_biases(bias);
            Row::each(a.cols, [&](u32 i, u32 offset) {
                float weights[Row::COUNT], biases[Row::COUNT];
                u32 words[Row::WORDS];
                of_weights.values(offset, weights);
                of_biases.values(offset, biases);
                for (u32 w = 0; w < Row::WORDS; w++) {
                    if constexpr (IS_F32) {
                        words[w] = by.wide<S>(row.value(i, w), weights[w], biases[w]);
                    } else {
                        words[w] = S::narrow_two(by.narrow(row.value(i, w, 0), weights[2 * w], biases[2 * w]),
                                                 by.narrow(row.value(i, w, 1), weights[2 * w + 1], biases[2 * w + 1]));
                    }
                }
                Vectors<S>::store_words(to + offset, {words[0], words[1], words[2], words[3]});
            });
        } else {
            // The computation in f64 needs the registers that hold the row, so the row is read again.
            const u32 COUNT = Row::COUNT;
            const u64 start = index * a.cols;
            Held<S, Vectors, 1, 0> again((const Bits*)a.x + start, a.cols);
            again.each([&](u32 column, const float* x) {
                float weights[COUNT], biases[COUNT];
                u32 bits[COUNT];
                weight.load<S, COUNT>(column, weights);
                bias.load<S, COUNT>(column, biases);
                for (u32 k = 0; k < COUNT; k++) {
                    bits[k] = by.wide<S>(x[k], weights[k], biases[k]);
                }
                Vectors<S>::store((Bits*)a.y + start + column, bits);
            });
        }
    }
}

template <class S>
DEVICE void layer_norm_held(const LayerNormArguments& a) {
    __shared__ LayerNormShared<S> shared;
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    const Operand bias = {a.bias, a.bias_type, 0.0f};
    check_operands<S>(shared.of_weights, shared.of_biases, weight, bias, a.cols);
    typedef TileOperand<S, true> Own;
    if (Own::serves(weight) && Own::serves(bias)) {
        layer_norm_rows<S, true>(a, shared, weight, bias);
    } else if constexpr (sizeof(typename S::Bits) == 2) {
        layer_norm_rows<S, false>(a, shared, weight, bias);
    }
}

NORM(layer_norm, LayerNormArguments, 1024, 1024, F32, f32)
NORM(layer_norm, LayerNormArguments, 1024, 1024, F16, f16)
NORM(layer_norm, LayerNormArguments, 1024, 1024, BF16, bf16)
