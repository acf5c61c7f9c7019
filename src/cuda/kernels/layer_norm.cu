// LayerNorm of rows, as `src/ops/layer_norm.rs` defines it.
//
// Each block holds one row in registers, so most rows are read once and written once. Four kinds of rows are read
// again: longer rows, rows not aligned to 16 bytes, rows whose variance is far below the square of their mean, and rows
// of 16-bit types that need f64. f32 and f64 may give different bits, so the kernels choose between them as
// `src/cpu/layer_norm.rs` does.
#include "norm.cuh"

struct LayerNormArguments {
    u64 x, y;         // [rows, cols]
    u64 weight, bias; // [cols]
    u64 rows;
    double eps;
    u32 cols;
    u32 weight_type, bias_type;
    u32 unused;
};

template <class S, template <class> class By, u32 WARPS, u32 HELD>
struct LayerNormRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    Held<S, By, WARPS, HELD> held;
    const Operand& weight;
    const Operand& bias;

    DEVICE LayerNormRow(const Bits* row, u32 cols, const Operand& weight, const Operand& bias)
        : held(row, cols), weight(weight), bias(bias) {}

    // Writes the results, computed in f32. The mean is the float-float pair `high + low`.
    DEVICE void write_narrow(float high, float low, double scale, Bits* to) {
        const float by = (float)scale;
        held.each([&](u32 column, const float* x) {
            float weights[COUNT], biases[COUNT];
            u32 bits[COUNT];
            weight.load<S, COUNT>(column, weights);
            bias.load<S, COUNT>(column, biases);
            for (u32 i = 0; i < COUNT; i++) {
                bits[i] = S::narrow(fmaf(x[i] - high - low, by * weights[i], biases[i]));
            }
            By<S>::store(to + column, bits);
        });
    }

    DEVICE void write_wide(double mean, double scale, double shift, Bits* to) {
        held.each([&](u32 column, const float* x) {
            float weights[COUNT], biases[COUNT];
            u32 bits[COUNT];
            weight.load<S, COUNT>(column, weights);
            bias.load<S, COUNT>(column, biases);
            for (u32 i = 0; i < COUNT; i++) {
                const double n = normalised(x[i], mean, scale, shift);
                bits[i] = narrow_wide<S>(fma(n, (double)weights[i], (double)biases[i]));
            }
            By<S>::store(to + column, bits);
        });
    }
};

template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE void layer_norm(const LayerNormArguments& a) {
    typedef typename S::Bits Bits;
    typedef Places<S, By, WARPS> At;
    typedef LayerNormRow<S, By, WARPS, HELD> Row;
    __shared__ OrderedSums<At, 2> shared;
    __shared__ Magnitudes partial[2][WARPS];
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    const Operand bias = {a.bias, a.bias_type, 0.0f};
    const bool IS_F32 = sizeof(Bits) == 4;
    bool may_be_narrow = !IS_F32;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const Bits* from = (const Bits*)a.x + index * a.cols;
        Bits* to = (Bits*)a.y + index * a.cols;
        Row row(from, a.cols, weight, bias);
        LayerNormRow<S, By, WARPS, 0> again(from, a.cols, weight, bias);
        if (may_be_narrow && index == blockIdx.x) {
            const float FINITE = float_of(0x7f7fffff);
            may_be_narrow = weight.is_within<S, Row::COUNT, WARPS>(a.cols, 0x1p-60f, 0x1p60f, partial[0]) &&
                            bias.is_within<S, Row::COUNT, WARPS>(a.cols, 0.0f, FINITE, partial[1]);
        }
        const RowMoments moments = find_moments(true, row.held, again.held, shared);
        const double mean = moments.mean, scale = scale_of(moments.square, a.eps), shift = moments.shift(scale);
        const float high = (float)mean;
        const double low = (mean - (double)high) + moments.low;
        // The low part of the mean must be zero or a normal f32. Otherwise f32 does not represent it to full precision.
        const bool keeps_low = low == 0.0 || fabs(low) >= 0x1p-126;
        if (may_be_narrow && keeps_low && has_room(moments.square, scale)) {
            row.write_narrow(high, (float)low, scale, to);
        } else if (IS_F32) {
            row.write_wide(mean, scale, shift, to);
        } else {
            // The computation in f64 needs the registers, so the row is read again.
            again.write_wide(mean, scale, shift, to);
        }
    }
}

NORM(layer_norm, LayerNormArguments, F32, f32)
NORM(layer_norm, LayerNormArguments, F16, f16)
NORM(layer_norm, LayerNormArguments, BF16, bf16)
