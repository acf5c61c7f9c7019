// Logarithms of elements.
#include "elementwise.cuh"
#include "log.cuh"
#include "log_pair.cuh"

FUNCTION_WITH(Log, log_wide(x), near_log(x), LogTables<false>, log_sides(tables, x), true)
FUNCTION(Log1p, log1p_wide(x), near_log1p(x))
FUNCTION_WITH(Log2, log2_wide(x), near_log2(x), LogTables<true>, log2_sides(tables, x), true)

// Computes ln of the larger of x and the floor.
struct ClampedLog {
    typedef PairTables Tables;
    static const bool OF_TWO = false, HAS_NEAR = true, HAS_PAIR = false;
    const double floor;
    // `near_floor` is the floor rounded to f32. `margin` is the margin of the logarithm. `one` is the argument whose
    // logarithm is 0. If a floor other than 1 is rounded to 1, no logarithm is exactly 0, and `one` is 0.
    float near_floor, one, margin;
    DEVICE ClampedLog(const ElementwiseArguments& a) : floor(a.options[0]) {
        near_floor = (float)floor;
        const bool is_exact = (double)near_floor == floor;
        one = is_exact || near_floor != 1.0f ? 1.0f : 0.0f;
        // Rounding a normal floor to f32 changes its logarithm by at most 1 u, which is 2^-24.
        const bool is_normal = 0x1p-126f <= near_floor && near_floor < INFINITE;
        margin = is_exact ? 4.5f : is_normal ? 5.5f : INFINITE;
    }
    DEVICE double operator()(double x, double) const { return rounded(log_of_any(larger(floor, x))); }
    template <class S>
    DEVICE Interval near(float x) const {
        return near_log(max_or_nan(near_floor, x), margin, one);
    }
};

ELEMENTWISE(Log, log)
ELEMENTWISE(Log1p, log1p)
ELEMENTWISE(Log2, log2)
ELEMENTWISE(ClampedLog, clamped_log)
