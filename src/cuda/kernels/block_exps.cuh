// Exponentials of rows at any address, and their products with a factor.
#pragma once
#include "block_scores.cuh"

// Multiplies an exponential by a factor, the float-float pair `high` + `low`.
DEVICE float scaled(float e, float high, float low) { return fmaf(e, high, e * low); }

// Multiplies the exponentials of a piece by a factor, and stores the products.
template <class S, template <class> class By>
DEVICE void store_scaled(typename S::Bits* to, const float* e, float high, float low) {
    float y[By<S>::COUNT];
    for (u32 i = 0; i < By<S>::COUNT; i++) {
        y[i] = scaled(e[i], high, low);
    }
    By<S>::store_rounded(to, y);
}

// Row whose exponentials replace its elements in registers. The exponentials of other elements are computed twice.
template <class S>
struct BlockExps {
    typedef typename S::Bits Bits;
    typedef BlockRow<S, 8, 4> Row;
    static const u32 COUNT = Row::COUNT;
    Row row;
    // A piece of a 16-bit type has twice as many exponentials as words. The second half is here.
    float others[8][4];
    float of_edge;

    DEVICE BlockExps(const Bits* from, u32 cols) : row(from, cols), of_edge(0.0f) {}

    DEVICE Extremes find(Keys* partial) { return extremes(row, partial); }

    // Computes the exponentials, and returns their sum. The row's values must have a narrow range (see
    // `SoftmaxExp::is_narrow`).
    template <bool MAY_BE_LONG>
    DEVICE Units sum(const Extremes& found, const SoftmaxExp& exp, const LaneTables& tables, Parts* partial) {
        const auto keep = [&](u32 piece, const float* e, u32 (&words)[4]) {
            for (u32 w = 0; w < 4; w++) {
                words[w] = bits_of(e[w]);
                others[piece][w] = e[COUNT - 4 + w];
            }
        };
        const u32 fill = negligible_word<S>(found.max);
        return fast_sum<MAY_BE_LONG>(row, exp, tables, fill, partial, keep, [&](float e) { of_edge = e; });
    }

    // Stores the exponentials, which `sum` computed, times a factor. The row and the results must be equally aligned.
    DEVICE void store(const Extremes& found, const SoftmaxExp& exp, const LaneTables& tables, float high, float low,
                      Bits* to) const {
        Bits* const own = to + row.first;
        row.each_held([&](u32 offset, const u32 (&words)[4]) {
            float e[COUNT];
            for (u32 w = 0; w < 4; w++) {
                e[w] = float_of(words[w]);
                e[COUNT - 4 + w] = others[offset / row.OF_WARP][w];
            }
            store_scaled<S, Vectors>(own + offset, e, high, low);
        });
        if (row.parts.has_edge()) {
            store_scaled<S, Singles>(to + row.parts.edge(), &of_edge, high, low);
        }
        row.each_behind(negligible_word<S>(found.max), [&](u32 offset, bool is_there, const u32 (&words)[4]) {
            float e[COUNT];
            row.widen(words, e);
            for (u32 i = 0; i < COUNT; i++) {
                e[i] = exp.template power<true>(tables, e[i]);
            }
            if (is_there) {
                store_scaled<S, Vectors>(own + offset, e, high, low);
            }
        });
    }
};
