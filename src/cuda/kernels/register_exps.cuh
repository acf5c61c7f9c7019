// Exponentials of a row in registers.
#pragma once
#include "scores.cuh"

// Replaces the values of a row by their exponentials. `SoftmaxExp::is_narrow` must accept the row. Returns the
// fixed-point sum of the thread's exponentials.
template <class S, u32 WARPS, u32 HELD>
DEVICE u64 make_exps(RegisterRow<S, WARPS, HELD>& row, const SoftmaxExp& exp, const LaneTables& tables) {
    typedef typename RegisterRow<S, WARPS, HELD>::At At;
    // Distance of the thread's first piece from its warp's first piece.
    const u32 behind = threadIdx.x % WARP / At::GROUP * 256 + threadIdx.x % At::GROUP * At::COUNT;
    UnitSum sum;
    UNROLLED
    for (u32 i = 0; i < HELD; i++) {
        // All lanes of a warp have to read the tables together, so a warp skips a piece only if none of its threads has
        // the piece.
        if (At::column(i) - behind < row.cols) {
            float* x = row.widen(i);
            UnitSum with_piece = sum;
            for (u32 k = 0; k < At::COUNT; k++) {
                x[k] = exp.power<true>(tables, x[k]);
                with_piece.add(x[k]);
            }
            const bool is_there = At::column(i) < row.cols;
            sum.high = is_there ? with_piece.high : sum.high;
            sum.low = is_there ? with_piece.low : sum.low;
            sum.count = is_there ? with_piece.count : sum.count;
        }
    }
    sum.collect();
    return sum.units;
}
