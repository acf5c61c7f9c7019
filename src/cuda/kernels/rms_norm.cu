// RMSNorm of rows, as `src/ops/rms_norm.rs` defines it. With a residual, it normalises the rounded sum.
//
// Each block holds one row in registers, so most rows are read once and written once. Three kinds of rows are read
// again: longer rows, rows not aligned to 16 bytes, and rows multiplied in f64. f64, float-float pairs and f32 may give
// different bits, so the kernels choose between them as `src/cpu/rms_norm.rs` does.
#include "rms_norm.cuh"

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

template <class S, template <class> class By, u32 WARPS, u32 HELD>
struct RmsNormRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    static const bool IS_F32 = sizeof(Bits) == 4;
    Held<S, By, WARPS, HELD> held;
    const Operand& weight;

    DEVICE RmsNormRow(const Bits* row, u32 cols, const Operand& weight) : held(row, cols), weight(weight) {}

    // Adds a residual to the row, and writes the sum.
    DEVICE void add(const Bits* residual, Bits* to) {
        held.each([&](u32 column, float* x) {
            float beside[COUNT];
            u32 bits[COUNT];
            By<S>::load(residual + column, beside);
            for (u32 i = 0; i < COUNT; i++) {
                // For 16-bit numbers, rounding the sum to f32 first does not change the result.
                const float sum = x[i] + beside[i];
                bits[i] = sum != sum ? S::NOT_A_NUMBER : S::narrow(sum);
                x[i] = S::widen(bits[i]);
            }
            By<S>::store(to + column, bits);
        });
        if constexpr (HELD == 0) {
            held.row = to;
        }
    }

    DEVICE void write_narrow(double scale, Bits* to) {
        const float high = (float)scale;
        const float low = (float)(scale - (double)high);
        held.each([&](u32 column, const float* x) {
            float weights[COUNT];
            u32 bits[COUNT];
            weight.load<S, COUNT>(column, weights);
            for (u32 i = 0; i < COUNT; i++) {
                bits[i] = scaled_narrow<S>(x[i], high, low, weights[i]);
            }
            By<S>::store(to + column, bits);
        });
    }

    DEVICE void write_wide(double scale, double weight_offset, bool before_weight, Bits* to) {
        held.each([&](u32 column, const float* x) {
            float weights[COUNT];
            u32 bits[COUNT];
            weight.load<S, COUNT>(column, weights);
            for (u32 i = 0; i < COUNT; i++) {
                bits[i] = scaled_wide<S>(x[i], scale, (double)weights[i] + weight_offset, before_weight);
            }
            By<S>::store(to + column, bits);
        });
    }
};

template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE void rms_norm(const RmsNormArguments& a) {
    typedef typename S::Bits Bits;
    typedef RmsNormRow<S, By, WARPS, HELD> Row;
    __shared__ OrderedSums<Places<S, By, WARPS>, 1> shared;
    __shared__ Magnitudes partial[WARPS];
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    bool may_be_narrow = a.may_be_narrow;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const u64 start = index * a.cols;
        const Bits* from = (const Bits*)a.x + start;
        Bits* to = (Bits*)a.y + start;
        Row row(from, a.cols, weight);
        if (may_be_narrow && index == blockIdx.x) {
            may_be_narrow = leave_room<S, Row::COUNT, WARPS>(weight, a.cols, partial);
        }
        if (a.residual) {
            row.add((const Bits*)a.residual + start, (Bits*)a.sum + start);
            from = (const Bits*)a.sum + start;
        }
        Magnitudes own = Magnitudes::of_none();
        double sums[1];
        sum_ordered(row.held, shared, sums, [&](u32, float x, double(&sum)[1]) {
            if (Row::IS_F32) {
                own.update(x);
            }
            sum[0] = fma((double)x, (double)x, sum[0]);
        });
        const double square = sums[0] / (double)a.cols;
        const double scale = scale_of(square, a.eps);
        bool is_narrow = may_be_narrow && has_room(square, scale);
        if (Row::IS_F32 && is_narrow) {
            is_narrow = keeps_low_parts(own.over<WARPS>(partial), a.cols, scale);
        }
        if (is_narrow) {
            row.write_narrow(scale, to);
        } else {
            // The computation in f64 needs the registers, so the row is read again.
            RmsNormRow<S, By, WARPS, 0> again(from, a.cols, weight);
            again.write_wide(scale, a.weight_offset, a.before_weight, to);
        }
    }
}

NORM(rms_norm, RmsNormArguments, F32, f32)
NORM(rms_norm, RmsNormArguments, F16, f16)
NORM(rms_norm, RmsNormArguments, BF16, bf16)
