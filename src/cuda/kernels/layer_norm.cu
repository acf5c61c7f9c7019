// LayerNorm of rows, as `src/ops/layer_norm.rs` defines it.
//
// Each block holds one row in registers, so most rows are read once and written once. Three kinds of rows are
// read again: longer rows, rows not aligned to 16 bytes, and rows of 16-bit types that need f64. f32 and f64 may give
// different bits, so the kernels choose between them as `src/cpu/layer_norm.rs` does.
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
    // Whether the row may be computed in f32, provided that the weights and biases allow f32 too.
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

// Row that is read from memory at each access.
template <class S, template <class> class By, u32 WARPS>
struct LayerNormRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    Held<S, By, WARPS, 0> held;
    const Operand& weight;
    const Operand& bias;

    DEVICE LayerNormRow(const Bits* row, u32 cols, const Operand& weight, const Operand& bias)
        : held(row, cols), weight(weight), bias(bias) {}

    // Writes the results of the row. `result` computes a result from an element, its weight and its bias.
    template <class Result>
    DEVICE void write(Bits* to, Result result) {
        held.each([&](u32 column, const float* x) {
            float weights[COUNT], biases[COUNT];
            u32 bits[COUNT];
            weight.load<S, COUNT>(column, weights);
            bias.load<S, COUNT>(column, biases);
            for (u32 i = 0; i < COUNT; i++) {
                bits[i] = result(x[i], weights[i], biases[i]);
            }
            By<S>::store(to + column, bits);
        });
    }

    DEVICE void write_narrow(const LayerNormFactors& by, Bits* to) {
        write(to, [&](float x, float weight, float bias) { return S::narrow(by.narrow(x, weight, bias)); });
    }

    DEVICE void write_wide(const LayerNormFactors& by, Bits* to) {
        write(to, [&](float x, float weight, float bias) { return by.wide<S>(x, weight, bias); });
    }
};

// Checks whether the magnitudes of weights and biases allow f32. A barrier must follow.
template <class S, u32 COUNT>
DEVICE void check_operands(OperandRange& of_weights, OperandRange& of_biases, const Operand& weight, const Operand& bias,
                           u32 cols) {
    if (sizeof(typename S::Bits) == 2) {
        of_weights.check<S, COUNT>(weight, cols, LEAST_WEIGHT, LARGEST_WEIGHT);
        of_biases.check<S, COUNT>(bias, cols, 0.0f, LARGEST_BIAS);
    }
}

template <class S, template <class> class By, u32 WARPS>
DEVICE void layer_norm(const LayerNormArguments& a) {
    typedef typename S::Bits Bits;
    typedef LayerNormRow<S, By, WARPS> Row;
    __shared__ OrderedSums<Places<S, By, WARPS>, 2> shared;
    __shared__ OperandRange of_weights, of_biases;
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    const Operand bias = {a.bias, a.bias_type, 0.0f};
    const Columns columns = {a.cols};
    check_operands<S, Row::COUNT>(of_weights, of_biases, weight, bias, a.cols);
    __syncthreads();
    const bool may_be_narrow = sizeof(Bits) == 2 && of_weights.is_within(a.cols) && of_biases.is_within(a.cols);
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        Bits* to = (Bits*)a.y + index * a.cols;
        Row row((const Bits*)a.x + index * a.cols, a.cols, weight, bias);
        const LayerNormFactors by(find_moments(true, columns, row.held, shared), a.eps);
        if (may_be_narrow && by.is_narrow) {
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
            const u64 start = index * a.cols;
            LayerNormRow<S, Vectors, 1> again((const Bits*)a.x + start, a.cols, weight, bias);
            again.write_wide(by, (Bits*)a.y + start);
        }
    }
}

template <class S>
DEVICE void layer_norm_held(const LayerNormArguments& a) {
    __shared__ LayerNormShared<S> shared;
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    const Operand bias = {a.bias, a.bias_type, 0.0f};
    check_operands<S, TileRow<S>::COUNT>(shared.of_weights, shared.of_biases, weight, bias, a.cols);
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
