// Rotation of the pairs of a row, as in `src/cpu/rope.rs`. Each pair is rotated in f64 and rounded once.
#pragma once
#include "wide.cuh"

// Cosines and sines of the pairs that one access moves. The elements of a pair are neighbours, or at the same index of
// the row's two halves.
template <class S, template <class> class By, bool NEIGHBOURS>
struct Turn {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    double cos[COUNT], sin[COUNT];

    // Indices of the i-th pair's two elements in the array of two pieces that `apply` loads.
    static DEVICE u32 first(u32 i) { return NEIGHBOURS ? 2 * i : i; }
    static DEVICE u32 second(u32 i) { return NEIGHBOURS ? 2 * i + 1 : COUNT + i; }

    DEVICE void read(const double* cosines, const double* sines, double direction) {
        for (u32 i = 0; i < COUNT; i++) {
            cos[i] = cosines[i];
            sin[i] = sines[i] * direction;
        }
    }

    DEVICE void apply(const Bits* from, Bits* to, u64 apart) const {
        float x[2 * COUNT];
        u32 bits[2 * COUNT];
        By<S>::load(from, x);
        By<S>::load(from + apart, x + COUNT);
        for (u32 i = 0; i < COUNT; i++) {
            const double a = (double)x[first(i)], b = (double)x[second(i)];
            bits[first(i)] = store_wide<S>(fma(a, cos[i], 0.0 - b * sin[i]));
            bits[second(i)] = store_wide<S>(fma(a, sin[i], b * cos[i]));
        }
        By<S>::store(to, bits);
        By<S>::store(to + apart, bits + COUNT);
    }
};
