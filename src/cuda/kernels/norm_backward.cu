// Gradients of RMSNorm and LayerNorm, as `src/ops/rms_norm_backward.rs` and `src/ops/layer_norm_backward.rs` define
// them. They are computed in f64 and rounded once.
//
// Let n be the normalised row, r its factor, and h = dy weight. Then dx = r (h - mean(h) - n mean(h n)), but the term
// mean(h) is omitted unless rows are centred. Each block processes one row, and stores its mean and r. The gradients of
// weights and biases are tiled sums over rows. One kernel sums tiles of 256 rows, with one column per thread. Another
// kernel adds the sums of the tiles.
#include "norm.cuh"

struct NormBackwardArguments {
    u64 x, dy, dx;      // [rows, cols]
    u64 weight;         // [cols]
    u64 moments;        // [rows, 3]: means, factors and shifts; or 0
    u64 tiles;          // [ceil(rows / 256), 2, cols]: sums over rows of dy n, and of dy
    u64 dweight, dbias; // [cols], or 0
    u64 rows;
    double weight_offset, eps;
    u32 cols;
    u32 weight_type, dweight_type, dbias_type;
    u32 is_centred;
    u32 is_rounded; // Whether dweight uses n rounded to the rows' type.
};

template <class S, template <class> class By, u32 WARPS, u32 HELD>
DEVICE void norm_backward(const NormBackwardArguments& a) {
    typedef typename S::Bits Bits;
    typedef Places<S, By, WARPS> At;
    const u32 COUNT = By<S>::COUNT;
    __shared__ OrderedSums<At, 2> shared;
    // Scale and shift are in shared memory, because kernels for long rows have no registers left.
    __shared__ double shared_scale, shared_shift;
    const volatile double &scale = shared_scale, &shift = shared_shift;
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    const double count = (double)a.cols;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const u64 start = index * a.cols;
        const Bits* dy = (const Bits*)a.dy + start;
        Held<S, By, WARPS, HELD> row((const Bits*)a.x + start, a.cols);
        Held<S, By, WARPS, 0> again((const Bits*)a.x + start, a.cols);
        const RowMoments found = find_moments(a.is_centred, row, again, shared);
        const double mean = found.mean;
        if (threadIdx.x == 0) {
            const double own = scale_of(found.square, a.eps);
            shared_scale = own;
            shared_shift = found.shift(own);
            if (a.moments) {
                double* moments = (double*)a.moments + 3 * index;
                moments[0] = mean;
                moments[1] = own;
                moments[2] = found.shift(own);
            }
        }
        double sums[2];
        sum_pieces(row, shared, sums, [&](u32 column, const float* x, auto lane) {
            float weights[COUNT], gradients[COUNT];
            weight.load<S, COUNT>(column, weights);
            By<S>::load(dy + column, gradients);
            for (u32 i = 0; i < COUNT; i++) {
                const double h = (double)gradients[i] * ((double)weights[i] + a.weight_offset);
                lane(i)[0] += h * normalised(x[i], mean, scale, shift);
                lane(i)[1] += h;
            }
        });
        double along = sums[0] / count;
        // An infinity in dy makes the whole row NaN, as a NaN does.
        along = fabs(along) <= 0x1.fffffffffffffp1023 ? -along : along - along;
        const double mean_h = a.is_centred ? sums[1] / count : 0.0;
        again.each([&](u32 column, const float* x) {
            float weights[COUNT], gradients[COUNT];
            u32 bits[COUNT];
            weight.load<S, COUNT>(column, weights);
            By<S>::load(dy + column, gradients);
            for (u32 i = 0; i < COUNT; i++) {
                const double h = (double)gradients[i] * ((double)weights[i] + a.weight_offset);
                const double n = normalised(x[i], mean, scale, shift);
                bits[i] = narrow_wide<S>(fma(n, along, h - mean_h) * scale);
            }
            By<S>::store((Bits*)a.dx + start + column, bits);
        });
    }
}

// Folds the sums of 64 lanes in order. `lane` writes the two sums of a lane.
template <class Lane>
DEVICE void fold_in_order(double (&sums)[2], Lane lane) {
    const u32 LEVELS = 6;
    // `waiting[level]` has the sums of 2^level lanes that wait for their neighbours.
    double waiting[LEVELS][2] = {};
    ROLLED
    for (u32 index = 0; index < 64; index++) {
        sums[0] = sums[1] = 0.0;
        lane(index, sums);
        bool is_carried = true;
        for (u32 level = 0; level < LEVELS; level++) {
            const bool is_second = index >> level & 1;
            for (u32 which = 0; which < 2; which++) {
                const double before = waiting[level][which];
                waiting[level][which] = is_carried && !is_second ? sums[which] : before;
                sums[which] = is_carried && is_second ? before + sums[which] : sums[which];
            }
            is_carried = is_carried && is_second;
        }
    }
}

const u32 TILE_ROWS = 256;
const u32 COLUMN_THREADS = 128;

// Sums a tile of rows, for one column per thread.
template <class S>
DEVICE void norm_columns(const NormBackwardArguments& a) {
    typedef typename S::Bits Bits;
    __shared__ double moments[TILE_ROWS][3];
    const u64 runs = (a.cols + COLUMN_THREADS - 1) / COLUMN_THREADS;
    const u64 all = runs * ((a.rows + TILE_ROWS - 1) / TILE_ROWS);
    for (u64 index = blockIdx.x; index < all; index += gridDim.x) {
        const u64 tile = index / runs;
        const u64 first = tile * TILE_ROWS;
        const u32 rows = a.rows - first < TILE_ROWS ? (u32)(a.rows - first) : TILE_ROWS;
        const u32 column = (u32)(index % runs) * COLUMN_THREADS + threadIdx.x;
        __syncthreads();
        for (u32 row = threadIdx.x; row < rows; row += COLUMN_THREADS) {
            for (u32 i = 0; i < 3; i++) {
                moments[row][i] = ((const double*)a.moments)[3 * (first + row) + i];
            }
        }
        __syncthreads();
        if (column < a.cols) {
            const Bits* x = (const Bits*)a.x + first * a.cols + column;
            const Bits* dy = (const Bits*)a.dy + first * a.cols + column;
            double sums[2];
            fold_in_order(sums, [&](u32 lane, double(&sum)[2]) {
                for (u32 row = lane; row < rows; row += 64) {
                    const double d = (double)S::widen(dy[(u64)row * a.cols]);
                    double n = normalised(S::widen(x[(u64)row * a.cols]), moments[row][0], moments[row][1], moments[row][2]);
                    if (a.is_rounded) {
                        n = (double)S::widen(narrow_wide<S>(n));
                    }
                    sum[0] += d * n;
                    sum[1] += d;
                }
            });
            double* to = (double*)a.tiles + tile * 2 * a.cols + column;
            to[0] = sums[0];
            to[a.cols] = sums[1];
        }
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

// Sums the tiles of a column.
DEVICE void fold_tiles(const NormBackwardArguments& a) {
    const u32 column = blockIdx.x * COLUMN_THREADS + threadIdx.x;
    const u64 tiles = (a.rows + TILE_ROWS - 1) / TILE_ROWS;
    if (column < a.cols) {
        double sums[2];
        fold_in_order(sums, [&](u32 lane, double(&sum)[2]) {
            ROLLED
            for (u64 tile = lane; tile < tiles; tile += 64) {
                const double* from = (const double*)a.tiles + tile * 2 * a.cols + column;
                sum[0] += from[0];
                sum[1] += from[a.cols];
            }
        });
        store_as(a.dweight, a.dweight_type, column, sums[0] + 0.0);
        store_as(a.dbias, a.dbias_type, column, sums[1] + 0.0);
    }
}

NORM(norm_backward, NormBackwardArguments, F32, f32)
NORM(norm_backward, NormBackwardArguments, F16, f16)
NORM(norm_backward, NormBackwardArguments, BF16, bf16)
ENTRY(norm_columns_f32, NormBackwardArguments, COLUMN_THREADS, (norm_columns<F32>(arguments)))
ENTRY(norm_columns_f16, NormBackwardArguments, COLUMN_THREADS, (norm_columns<F16>(arguments)))
ENTRY(norm_columns_bf16, NormBackwardArguments, COLUMN_THREADS, (norm_columns<BF16>(arguments)))
ENTRY(norm_tiles, NormBackwardArguments, COLUMN_THREADS, fold_tiles(arguments))
