// Gradients of rows that do not fit in registers or do not begin and end at multiples of 16 bytes, and the kernels for
// all rows.
#pragma once
#include "softmax_backward.cuh"
#include "unaligned_scores.cuh"

// The number of lanes of a tiled sum, 64, is a multiple of the number of tiles that a block of `ANY_WARPS` warps
// processes at a time. So all tiles of a lane belong to one group of threads, which adds them without a barrier. A
// block with fewer warps processes its row in one step.
const u32 ANY_WARPS = 16;

// The block's first row, of any length and at any address. Its scores have a small range, and none is masked. The row
// is read three times, and the incoming gradients are read twice.
template <class Gradient, class S>
struct ReadGradients {
    typedef typename S::Bits Bits;
    typedef Places<S, Vectors, ANY_WARPS> At;
    typedef u32 Words[4];
    static const u32 COUNT = At::COUNT, LANES_OF_GROUP = 64 / At::TILES;
    static const bool READS_DY = !Gradient::IS_OF_ROWS;
    const u32 cols;
    const Bits* const x;
    const Bits* const dy;
    const SoftmaxExp exp;
    const LaneTables tables;
    // One f32 score, or two 16-bit scores, with exponentials too small to change the sum. This word replaces columns
    // outside of the row.
    const u32 negligible;

    DEVICE ReadGradients(const BackwardArguments& a, const Extremes& found)
        : cols((u32)a.cols), x(x_of<S>(a, blockIdx.x)), dy(READS_DY ? dy_of<Gradient, S>(a, blockIdx.x) : x),
          exp(found.max, found.min), tables(exp.lane_tables()), negligible(negligible_word<S>(found.max)) {}

    // Returns the fixed-point sum of the thread's exponentials, and writes the lanes of the tiled sum to `of_row`.
    DEVICE u64 sum(double* of_row) const {
        const UnalignedRow<S> of_x(x, cols), of_dy(dy, cols);
        const Inside<S> inside(of_x, of_dy, 0);
        UnitSum units;
        double lanes[LANES_OF_GROUP] = {};
        // Column of the warp's first piece, and the distance of the thread's first piece from it.
        u32 of_warp = threadIdx.x / WARP * (WARP / At::GROUP * 256);
        const u32 first = At::column(0) - of_warp;
        ROLLED
        for (u32 step = 0; of_warp < cols; step++, of_warp += At::tiles() * 256) {
            const u32 LANES = 64 / At::GROUP;
            double own[LANES] = {};
            ROLLED
            for (u32 column = of_warp + first, i = 0; i < At::PIECES; i++, column += At::GROUP * COUNT) {
                Words words, of_results;
                of_x.load(column, inside.has(column), negligible, words);
                if (READS_DY) {
                    of_dy.load(column, inside.has(column), 0, of_results);
                }
                float e[COUNT];
                powers_of<S>(exp, tables, words, e);
                add_terms<COUNT>(units, e, cols);
                if constexpr (READS_DY) {
                    for (u32 k = 0; k < COUNT; k++) {
                        own[k] = Gradient::with_term(own[k], e[k], (double)element_of<S>(of_results, k));
                    }
                }
            }
            if (units.count >= 256) {
                units.collect();
            }
            if constexpr (READS_DY) {
                for (u32 width = LANES / 2; width > 0; width /= 2) {
                    for (u32 k = 0; k < width; k++) {
                        own[k] = own[2 * k] + own[2 * k + 1];
                    }
                }
                const double tile = fold(own[0], At::GROUP);
                for (u32 i = 0; i < LANES_OF_GROUP; i++) {
                    lanes[i] += step % LANES_OF_GROUP == i ? tile : 0.0;
                }
            }
        }
        units.collect();
        if (READS_DY && threadIdx.x % At::GROUP == 0) {
            for (u32 i = 0; i < LANES_OF_GROUP; i++) {
                of_row[i * At::tiles() + threadIdx.x / At::GROUP] = lanes[i];
            }
        }
        return units.units;
    }

    // Returns the tiled sum of the row, given its lanes.
    static DEVICE double sum_of(const double* lanes) {
        return fold_lanes([&](u32 lane) { return lane < LANES_OF_GROUP * At::tiles() ? lanes[lane] : 0.0; });
    }

    // Writes the gradients in pieces that begin at multiples of 16 bytes, and the elements before and behind these
    // pieces one at a time. If the output overwrites the scores or the incoming gradients, an element is read only by
    // the thread that overwrites it.
    DEVICE void write(Bits* dx, const PieceGradients<Gradient, S>& gradients) const {
        const Division<S> parts(dx, cols);
        const UnalignedRow<S> of_x(x + parts.head, cols - parts.head), of_dy(dy + parts.head, cols - parts.head);
        const Inside<S> inside(of_x, of_dy, parts.head);
        const u32 of_warp = threadIdx.x / WARP * (WARP * COUNT), own = threadIdx.x % WARP * COUNT;
        ROLLED
        for (u32 first = of_warp; first < parts.inner; first += blockDim.x * COUNT) {
            const u32 column = first + own;
            const bool is_there = column < parts.inner;
            Words words = {negligible, negligible, negligible, negligible}, of_results = {};
            if (is_there) {
                of_x.load(column, inside.has(column), negligible, words);
            }
            if (READS_DY && is_there) {
                of_dy.load(column, inside.has(column), 0, of_results);
            }
            float e[COUNT];
            powers_of<S>(exp, tables, words, e);
            if (is_there) {
                gradients.store(dx + parts.head + column, e, of_results);
            }
        }
        if (threadIdx.x < WARP) {
            const float e = power_of_edge(exp, tables, x, parts);
            if (parts.has_edge()) {
                dx[parts.edge()] = (Bits)gradients.exact(e, READS_DY ? S::widen(dy[parts.edge()]) : 0.0f);
            }
        }
    }
};

// Computes the gradients of any rows. The block's first row has code of its own, as in `backward_held`.
template <class Gradient, class S>
DEVICE void backward_any(const BackwardArguments& a) {
    typedef ReadGradients<Gradient, S> Row;
    __shared__ Keys partial_extremes[ANY_WARPS];
    __shared__ Parts partial_units[ANY_WARPS];
    __shared__ double lanes[64];
    u64 next = blockIdx.x;
    const u32 cols = (u32)a.cols;
    const typename S::Bits* const x = x_of<S>(a, blockIdx.x);
    const Extremes found = extremes<ANY_WARPS>(x, Division<S>(x, cols), partial_extremes);
    if (SoftmaxExp::is_narrow(found.max, found.min)) {
        const Row row(a, found);
        const Units units = total<ANY_WARPS>(row.sum(lanes), partial_units).units_of(cols);
        const double reciprocal = 1.0 / sum_of_units(units, cols);
        const double of_dy = Row::READS_DY ? Row::sum_of(lanes) : (double)S::widen(*dy_of<Gradient, S>(a, blockIdx.x));
        const double of_row = Gradient::MEAN ? of_dy * reciprocal : of_dy;
        if (fabs(of_row) < (double)INFINITE) {
            row.write(dx_of<S>(a, blockIdx.x), PieceGradients<Gradient, S>(reciprocal, of_row, binades(found)));
            next += gridDim.x;
        }
    }
    backward_again<Gradient, S, Singles, ANY_WARPS>(a, recomputed(next));
}

// Defines a kernel like `ENTRY_AT_MOST`, and limits its registers so that a multiprocessor can run 512 threads at a
// time.
#ifdef __CUDACC__
#define ENTRY_OF_HALF(NAME, ARGUMENTS, THREADS, BODY)                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS, 512 / THREADS) NAME(const ARGUMENTS arguments) { BODY; }
#else
#define ENTRY_OF_HALF ENTRY_AT_MOST
#endif

#define BACKWARD(GRADIENT, OP, TYPE, NAME)                                                                             \
    ENTRY_UP_TO(OP##_##NAME##_8x4, BackwardArguments, 256,                                                             \
                (backward_held<GRADIENT, TYPE, 8, 4, GRADIENT::KEPT>(arguments)))                                      \
    ENTRY_OF_HALF(OP##_##NAME##_8x8, BackwardArguments, 256, (backward_held<GRADIENT, TYPE, 8, 8, 0>(arguments)))      \
    ENTRY_OF_HALF(OP##_##NAME##_16x8, BackwardArguments, 512, (backward_held<GRADIENT, TYPE, 16, 8, 0>(arguments)))    \
    ENTRY_OF_1024(OP##_##NAME##_any, BackwardArguments, 512, (backward_any<GRADIENT, TYPE>(arguments)))
