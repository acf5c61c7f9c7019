// RMSNorm of rows, as `src/ops/rms_norm.rs` defines it; with a residual, of what the sum is rounded to.
//
// A block has a row, which stays in its registers: one read, one write. Longer rows, those that do not begin at multiples
// of sixteen bytes, and those that are multiplied in f64 are read again. Whether that is so, or a pair of f32 or one f32
// will do, is decided as `src/cpu/rms_norm.rs` decides it: these do not always give the same bits.
#include "rms_norm.cuh"

struct RmsNormArguments {
    u64 x, y;          // [rows, cols]
    u64 residual, sum; // [rows, cols]: what is added to x, and where that is written; or 0.
    u64 weight;        // [cols]
    u64 rows;
    double weight_offset, eps;
    u32 cols;
    u32 weight_type;
    u32 may_be_narrow; // Weights within limits leave rows room in f32.
    u32 before_weight; // The normalised row is rounded before the weight multiplies it.
};

template <class S, template <class> class By, u32 WARPS, u32 HELD>
struct RmsNormRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    static const bool IS_F32 = sizeof(Bits) == 4;
    Held<S, By, WARPS, HELD> held;
    const Operand& weight;

    DEVICE RmsNormRow(const Bits* row, u32 cols, const Operand& weight) : held(row, cols), weight(weight) {}

    // Makes it the sum with a residual, which is written too.
    DEVICE void add(const Bits* residual, Bits* to) {
        held.each([&](u32 column, float* x) {
            float beside[COUNT];
            u32 bits[COUNT];
            By<S>::load(residual + column, beside);
            for (u32 i = 0; i < COUNT; i++) {
                // The sum of two numbers of 16 bits is rounded to f32 and then to the type as if at once.
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
                own.meet(x);
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
            // f64 takes the registers.
            RmsNormRow<S, By, WARPS, 0> again(from, a.cols, weight);
            again.write_wide(scale, a.weight_offset, a.before_weight, to);
        }
    }
}

NORM(rms_norm, RmsNormArguments, F32, f32)
NORM(rms_norm, RmsNormArguments, F16, f16)
NORM(rms_norm, RmsNormArguments, BF16, bf16)
