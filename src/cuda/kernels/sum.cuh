// Sums of f64, as `src/math/sum.rs` defines them: tiled sums, whose order depends on the row's length only, and binned
// sums, which are exact in any order.
#pragma once
#include "common.cuh"

// Number of terms after which the order of a tiled sum repeats. A sum may skip leading zeros up to a multiple of this
// number without changing the order in which the other terms are added.
const u32 ORDERED = 64 * 256;

// Shared memory of a block for `N` tiled sums over a row. `At` assigns the row's elements to threads.
template <class At, u32 N>
struct OrderedSums {
    double tiles[N][At::TILES];
    double lanes[N][64];
};

DEVICE double fold(double v, u32 threads) {
    for (u32 distance = 1; distance < threads; distance *= 2) {
        v += lane_beside(v, distance);
    }
    return v;
}

// Sums the 64 lanes of a tiled sum. Every thread gets the result. The sum of lane l is `of(l)`.
template <class Term>
DEVICE double fold_lanes(Term of) {
    const u32 lane = threadIdx.x % WARP * 2;
    return fold(of(lane) + of(lane + 1), WARP) + 0.0;
}

// Computes `N` tiled sums over a row. Every thread gets the results. `add` receives the first column of a piece, the
// piece, and a function. The function maps the index of an element to the sums of the element's lane, and `add` adds
// the element's terms to these sums.
template <u32 N, class S, template <class> class By, u32 WARPS, u32 HELD, class Add>
DEVICE void sum_pieces(Held<S, By, WARPS, HELD>& row, OrderedSums<Places<S, By, WARPS>, N>& shared, double (&sums)[N],
                       Add add) {
    typedef Places<S, By, WARPS> At;
    // A row of at most 64 tiles has at most one tile per lane, so no lane adds several tiles.
    const bool IS_ONE = HELD == At::PIECES && At::TILES <= 64;
    const u32 tiles = At::tiles();
    __syncthreads();
    for (u32 lane = threadIdx.x; !IS_ONE && lane < 64; lane += blockDim.x) {
        for (u32 n = 0; n < N; n++) {
            shared.lanes[n][lane] = 0.0;
        }
    }
    row.steps([&](u32 step) {
        const u32 LANES = 64 / At::GROUP;
        double own[LANES][N] = {};
        row.each_of_tile(step, [&](u32 piece, u32 column, const float* values) {
            if (At::COUNT == 1) {
                // Selects the lane without an index into `own`, because the loop over many pieces is not unrolled, and
                // registers cannot be indexed.
                const bool is_odd = piece % 2 == 1;
                double lane[N];
                for (u32 n = 0; n < N; n++) {
                    lane[n] = is_odd ? own[1][n] : own[0][n];
                }
                double(*const chosen)[N] = &lane;
                add(column, values, [=](u32) -> double(&)[N] { return *chosen; });
                for (u32 n = 0; n < N; n++) {
                    own[0][n] = is_odd ? own[0][n] : lane[n];
                    own[1][n] = is_odd ? lane[n] : own[1][n];
                }
            } else {
                add(column, values, [&](u32 i) -> double(&)[N] { return own[i]; });
            }
        });
        for (u32 n = 0; n < N; n++) {
            double tile;
            if (At::COUNT == 1) {
                tile = fold(own[0][n], WARP) + fold(own[1][n], WARP);
            } else {
                for (u32 width = LANES / 2; width > 0; width /= 2) {
                    for (u32 i = 0; i < width; i++) {
                        own[i][n] = own[2 * i][n] + own[2 * i + 1][n];
                    }
                }
                tile = fold(own[0][n], At::GROUP);
            }
            if (threadIdx.x % At::GROUP == 0) {
                shared.tiles[n][threadIdx.x / At::GROUP] = tile;
            }
        }
        __syncthreads();
        if (!IS_ONE) {
            // The same thread adds all tiles of a lane, so their order is fixed.
            for (u32 i = threadIdx.x; i < tiles && threadIdx.x < WARP; i += WARP) {
                for (u32 n = 0; n < N; n++) {
                    shared.lanes[n][(step * tiles + i) % 64] += shared.tiles[n][i];
                }
            }
            __syncthreads();
        }
    });
    for (u32 n = 0; n < N; n++) {
        if (IS_ONE) {
            sums[n] = fold_lanes([&](u32 lane) { return lane < tiles ? shared.tiles[n][lane] : 0.0; });
        } else {
            sums[n] = fold_lanes([&](u32 lane) { return shared.lanes[n][lane]; });
        }
    }
}

// Computes `N` tiled sums over single elements. `add` is called with a column, the column's element, and the sums of
// the element's lane.
template <u32 N, class S, template <class> class By, u32 WARPS, u32 HELD, class Add>
DEVICE void sum_ordered(Held<S, By, WARPS, HELD>& row, OrderedSums<Places<S, By, WARPS>, N>& shared, double (&sums)[N],
                        Add add) {
    sum_pieces(row, shared, sums, [&](u32 column, const float* values, auto lane) {
        for (u32 i = 0; i < By<S>::COUNT; i++) {
            add(column + i, values[i], lane(i));
        }
    });
}

// Shared memory of a block for `N` tiled sums over computed terms.
template <u32 WARPS, u32 N>
struct TermSums {
    double tiles[N][WARPS];
    double lanes[N][64];
};

// Computes `N` tiled sums over `count` terms. Every thread gets the results. `add` is called with the index of a term
// and the sums of the term's lane. Each warp sums one tile at a time.
template <u32 WARPS, u32 N, class Add>
DEVICE void sum_terms(u64 count, TermSums<WARPS, N>& shared, double (&sums)[N], Add add) {
    static_assert(WARPS <= WARP, "each tile of a step needs a thread of the first warp");
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    __syncthreads();
    for (u32 i = threadIdx.x; i < 64; i += WARPS * WARP) {
        for (u32 n = 0; n < N; n++) {
            shared.lanes[n][i] = 0.0;
        }
    }
    __syncthreads();
    ROLLED
    for (u64 first = 0; first * 256 < count; first += WARPS) {
        double own[2][N] = {};
        for (u32 i = 0; i < 8; i++) {
            const u64 at = (first + warp) * 256 + i * WARP + lane;
            if (at < count) {
                add(at, own[i % 2]);
            }
        }
        for (u32 n = 0; n < N; n++) {
            const double tile = fold(own[0][n], WARP) + fold(own[1][n], WARP);
            if (lane == 0) {
                shared.tiles[n][warp] = tile;
            }
        }
        __syncthreads();
        if (threadIdx.x < WARPS) {
            for (u32 n = 0; n < N; n++) {
                shared.lanes[n][(first + threadIdx.x) % 64] += shared.tiles[n][threadIdx.x];
            }
        }
        __syncthreads();
    }
    for (u32 n = 0; n < N; n++) {
        sums[n] = fold_lanes([&](u32 lane) { return shared.lanes[n][lane]; });
    }
}

// Shared memory of a block for a binned sum.
template <u32 WARPS>
struct BinSums {
    double largest[WARPS];
    double bins[4][WARPS];
    double shifters[4];
};

// Returns the sum over the threads of a block. The sum must be exact in any order.
template <u32 WARPS>
DEVICE double block_sum(double own, double* partial) {
    return over_block<WARPS>(own, partial, [](double own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            own += lane_beside(own, distance);
        }
        return own;
    });
}

// Computes the binned sum over a row. Every thread gets the result. `term` returns the term of an element.
template <class Row, u32 WARPS, class Term>
DEVICE double sum_in_bins(Row& row, BinSums<WARPS>& shared, Term term) {
    double own = 0.0;
    row.each([&](u32 column, const auto& x) {
        for (u32 i = 0; i < length_of(x); i++) {
            const double magnitude = fabs(term(column + i, x[i]));
            own = magnitude <= own ? own : magnitude == magnitude ? magnitude : (double)INFINITE;
        }
    });
    const double largest = largest_of_block<WARPS>(own, shared.largest);
    double sums[4] = {};
    if (largest > 0x1p960) {
        // Terms beyond the range of the bins count as infinite.
        row.each([&](u32 column, const auto& x) {
            for (u32 i = 0; i < length_of(x); i++) {
                const double value = term(column + i, x[i]);
                sums[0] += fabs(value) <= 0x1p960 ? 0.0 : value * (double)INFINITE;
            }
        });
        return block_sum<WARPS>(sums[0], shared.bins[0]);
    }
    if (threadIdx.x < 4) {
        // `top` is the exponent of the top bin's unit, a multiple of 31. A shifter is 1.5 * 2^`place`. The unit in the
        // last place of the shifter is the unit of this thread's bin.
        const int exponent = (int)((u64)__double_as_longlong(largest) >> 52) - 1023;
        const int top = (exponent + 1 + 31 * 64) / 31 * 31 - 31 * 64;
        const int place = 52 + top - 31 * (int)threadIdx.x, normal = place > -1022 ? place : -1022;
        shared.shifters[threadIdx.x] = 1.5 * __longlong_as_double((long long)(normal + 1023) << 52) *
                                       __longlong_as_double((long long)(place - normal + 1023) << 52);
    }
    __syncthreads();
    row.each([&](u32 column, const auto& x) {
        for (u32 i = 0; i < length_of(x); i++) {
            double rest = term(column + i, x[i]);
            for (u32 bin = 0; bin < 4; bin++) {
                const double multiple = (rest + shared.shifters[bin]) - shared.shifters[bin];
                sums[bin] += multiple;
                rest -= multiple;
            }
        }
    });
    for (u32 bin = 0; bin < 4; bin++) {
        sums[bin] = block_sum<WARPS>(sums[bin], shared.bins[bin]);
    }
    const double high = sums[0] + sums[1], part = high - sums[0];
    const double low = (sums[0] - (high - part)) + (sums[1] - part);
    return high + (low + (sums[2] + sums[3]));
}
