// Tiled sums over the rows of a matrix, for each column: the gradients of the norms' weights and biases.
//
// In the first kernel, a block sums a tile of 256 rows, for 32 or 64 columns. In the second kernel, a block adds the
// sums of all tiles, for 32 columns. In both kernels, each of the block's eight warps computes eight neighbouring lanes
// of the tiled sum, and folds these lanes. The sums of the warps are then folded in shared memory.
#pragma once
#include "norm.cuh"
#include "norm_backward.cuh"

const u32 COLUMN_THREADS = 256, COLUMN_WARPS = COLUMN_THREADS / WARP, TILE_ROWS = 256, MOST_COUNT = 2;

// Two sums for each of `COUNT` columns: for the weight, and for the bias.
template <u32 COUNT>
struct ColumnSums {
    double values[COUNT][2];

    DEVICE void add(const ColumnSums& other) {
        for (u32 i = 0; i < COUNT; i++) {
            values[i][0] += other.values[i][0];
            values[i][1] += other.values[i][1];
        }
    }
};

// Folds `LANES` lanes in order. `pair(l)` returns the sum of lanes l and l + 1.
template <u32 LANES, class Pair>
DEVICE auto fold_pairs(u32 first, const Pair& pair) {
    if constexpr (LANES == 2) {
        return pair(first);
    } else {
        auto sums = fold_pairs<LANES / 2>(first, pair);
        sums.add(fold_pairs<LANES / 2>(first + LANES / 2, pair));
        return sums;
    }
}

// Folds the lanes of a tiled sum, for `COUNT` columns per thread of a warp. Calls `store` with three arguments: the
// index of a column, a flag (0 for the weight, 1 for the bias), and the sum. All threads of the block make this call
// together.
template <u32 COUNT, class Pair, class Store>
DEVICE void fold_columns(double (&of_warps)[COLUMN_WARPS][WARP * MOST_COUNT * 2], const Pair& pair, Store store) {
    const u32 LANES = 64 / COLUMN_WARPS;
    const u32 warp = threadIdx.x / WARP, place = threadIdx.x % WARP * COUNT * 2;
    const ColumnSums<COUNT> own = fold_pairs<LANES>(warp * LANES, pair);
    for (u32 i = 0; i < COUNT * 2; i++) {
        of_warps[warp][place + i] = own.values[i / 2][i % 2];
    }
    __syncthreads();
    const u32 i = threadIdx.x;
    if (i < WARP * COUNT * 2) {
        double sums[COLUMN_WARPS];
        for (u32 w = 0; w < COLUMN_WARPS; w++) {
            sums[w] = of_warps[w][i];
        }
        for (u32 width = COLUMN_WARPS / 2; width > 0; width /= 2) {
            for (u32 w = 0; w < width; w++) {
                sums[w] = sums[2 * w] + sums[2 * w + 1];
            }
        }
        store(i / 2, i % 2, sums[0]);
    }
}

struct NormColumnsShared {
    double moments[TILE_ROWS][3];
    double of_warps[COLUMN_WARPS][WARP * MOST_COUNT * 2];
};

// `COUNT` neighbouring elements of a row, loaded by one access.
template <class S, u32 COUNT>
struct ColumnWord {
    typedef typename S::Bits Bits;
    static_assert(COUNT == 1 || COUNT * sizeof(Bits) == 4, "several elements must fill a 32-bit word");
    u32 word;

    DEVICE void load(const Bits* from) { word = COUNT == 1 ? (u32)*from : *(const u32*)from; }
    DEVICE float value(u32 i) const { return i == 0 ? S::low_of(word) : S::high_of(word); }
};

// Sums tiles of rows, with `COUNT` columns per thread.
template <class S, u32 COUNT, bool IS_ROUNDED>
DEVICE void sum_columns(const NormBackwardArguments& a, NormColumnsShared& shared) {
    typedef typename S::Bits Bits;
    const u32 WIDTH = WARP * COUNT;
    const u64 runs = (a.cols + WIDTH - 1) / WIDTH;
    const u64 all = runs * ((a.rows + TILE_ROWS - 1) / TILE_ROWS);
    for (u64 index = blockIdx.x; index < all; index += gridDim.x) {
        // The kernel before this one read the last rows most recently, so they may still be in the L2 cache. Therefore,
        // this kernel starts with the last rows.
        const u64 reversed = all - 1 - index, tile = reversed / runs;
        const u64 first = tile * TILE_ROWS;
        const u32 rows = a.rows - first < TILE_ROWS ? (u32)(a.rows - first) : TILE_ROWS;
        const u32 start = (u32)(reversed % runs) * WIDTH;
        const u32 column = start + threadIdx.x % WARP * COUNT;
        for (u32 i = threadIdx.x; i < 3 * rows; i += COLUMN_THREADS) {
            shared.moments[i / 3][i % 3] = ((const double*)a.moments)[3 * first + i];
        }
        __syncthreads();
        const Bits* x = (const Bits*)a.x + first * a.cols + column;
        const Bits* dy = (const Bits*)a.dy + first * a.cols + column;
        const u32 own_rows = column < a.cols ? rows : 0;
        const auto pair = [&](u32 lane) {
            const u32 ROWS = TILE_ROWS / 64;
            // All loads come first, so that they are in flight together.
            ColumnWord<S, COUNT> of_x[2][ROWS], of_dy[2][ROWS];
            for (u32 j = 0; j < 2; j++) {
                for (u32 i = 0; i < ROWS; i++) {
                    const u32 row = lane + j + 64 * i;
                    if (row < own_rows) {
                        of_x[j][i].load(x + (u64)row * a.cols);
                        of_dy[j][i].load(dy + (u64)row * a.cols);
                    }
                }
            }
            ColumnSums<COUNT> lanes[2] = {};
            for (u32 j = 0; j < 2; j++) {
                for (u32 i = 0; i < ROWS; i++) {
                    const u32 row = lane + j + 64 * i;
                    if (row < own_rows) {
                        const double(&by)[3] = shared.moments[row];
                        for (u32 c = 0; c < COUNT; c++) {
                            const double d = (double)of_dy[j][i].value(c);
                            double n = normalised(of_x[j][i].value(c), by[0], by[1], by[2]);
                            if (IS_ROUNDED) {
                                n = (double)S::widen(narrow_wide<S>(n));
                            }
                            lanes[j].values[c][0] += d * n;
                            lanes[j].values[c][1] += d;
                        }
                    }
                }
            }
            lanes[0].add(lanes[1]);
            return lanes[0];
        };
        double* to = (double*)a.tiles + tile * 2 * a.cols + start;
        fold_columns<COUNT>(shared.of_warps, pair, [&](u32 i, u32 which, double sum) {
            if (start + i < a.cols) {
                to[(u64)which * a.cols + i] = sum;
            }
        });
    }
}

template <class S>
DEVICE void norm_columns(const NormBackwardArguments& a) {
    __shared__ NormColumnsShared shared;
    const u32 IN_WORD = 4 / sizeof(typename S::Bits);
    // `src/cuda/norm_backward.rs` makes the same choice.
    if (IN_WORD == 2 && a.cols % 2 == 0 && (a.x | a.dy) % 4 == 0) {
        a.is_rounded ? sum_columns<S, IN_WORD, true>(a, shared) : sum_columns<S, IN_WORD, false>(a, shared);
    } else {
        a.is_rounded ? sum_columns<S, 1, true>(a, shared) : sum_columns<S, 1, false>(a, shared);
    }
}

DEVICE void store_as(u64 to, u32 type, u32 column, double v) {
    if (type == F32_OPERAND) {
        ((u32*)to)[column] = narrow_wide<F32>(v);
    } else if (type == F16_OPERAND) {
        ((u16*)to)[column] = (u16)narrow_wide<F16>(v);
    } else if (type == BF16_OPERAND) {
        ((u16*)to)[column] = (u16)narrow_wide<BF16>(v);
    }
}

// Adds the sums of all tiles, for 32 columns at a time, and stores the gradients.
DEVICE void sum_tiles(const NormBackwardArguments& a) {
    __shared__ double of_warps[COLUMN_WARPS][WARP * MOST_COUNT * 2];
    const u64 tiles = (a.rows + TILE_ROWS - 1) / TILE_ROWS;
    for (u32 start = blockIdx.x * WARP; start < a.cols; start += gridDim.x * WARP) {
        const u32 column = start + threadIdx.x % WARP;
        const u64 own_tiles = column < a.cols ? tiles : 0;
        const auto pair = [&](u32 lane) {
            ColumnSums<1> lanes[2] = {};
            for (u32 j = 0; j < 2; j++) {
                ROLLED
                for (u64 tile = lane + j; tile < own_tiles; tile += 64) {
                    const double* from = (const double*)a.tiles + tile * 2 * a.cols + column;
                    lanes[j].values[0][0] += from[0];
                    lanes[j].values[0][1] += from[a.cols];
                }
            }
            lanes[0].add(lanes[1]);
            return lanes[0];
        };
        __syncthreads();
        fold_columns<1>(of_warps, pair, [&](u32 i, u32 which, double sum) {
            if (start + i < a.cols) {
                const u32 type = which == 0 ? a.dweight_type : a.dbias_type;
                store_as(which == 0 ? a.dweight : a.dbias, type, start + i, sum + 0.0);
            }
        });
    }
}
