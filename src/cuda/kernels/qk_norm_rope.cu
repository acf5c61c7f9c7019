// RMSNorm of the rows of heads, followed by the rotary embedding of the rounded result, as `src/ops/rms_norm.rs` and
// `src/ops/rope.rs` define them. Each element is read once and written once.
//
// A row uses only as many threads of a warp as its tiles need, so a warp processes several short rows at once.
// Different threads may hold the two elements of a rotated pair, so the threads exchange elements through shared
// memory.
#include "rms_norm.cuh"
#include "rope.cuh"

struct QkNormRopeArguments {
    Heads at;
    u64 weight; // [cols]
    double weight_offset, eps;
    u32 cols, weight_type;
    u32 may_be_narrow, before_weight; // As in `RmsNormArguments`.
    u32 lanes;  // Threads per row: a power of two, at most a warp
    u32 padding;
};

const u32 THREADS = 128, WARPS = THREADS / WARP, MOST_COLS = 512;

// Registers that hold a piece as it is in memory.
template <class Bits, u32 COUNT>
struct RawPiece {
    typedef uint4 Type;
};
template <class Bits>
struct RawPiece<Bits, 1> {
    typedef Bits Type;
};

// Elements of a row that one thread holds, from up to two tiles. The elements are widened at each use, because 16-bit
// elements take half as many registers before they are widened.
template <class S, template <class> class By>
struct HeadRow {
    typedef typename S::Bits Bits;
    typedef Places<S, By, 1> At;
    static const u32 COUNT = By<S>::COUNT, GROUP = At::GROUP, PIECES = At::PIECES;
    static const u32 TILES = COUNT == 1 ? 2 : 1, HELD = TILES * PIECES;
    static const bool IS_F32 = sizeof(Bits) == 4;
    const u32 cols, lane;
    typedef typename RawPiece<Bits, COUNT>::Type Raw;
    Raw pieces[HELD];

    // Loads the elements. A null row gives zeros.
    DEVICE HeadRow(const Bits* row, u32 cols, u32 lane) : cols(row ? cols : 0), lane(lane), pieces{} {
        each_piece([&](u32 column, u32 i) { pieces[i] = *(const Raw*)(row + column); });
    }

    template <class F>
    DEVICE void each_piece(F f) const {
        UNROLLED
        for (u32 i = 0; i < HELD; i++) {
            const u32 column = lane / GROUP * 256 + lane % GROUP * COUNT + i * (GROUP * COUNT);
            if (column < cols) {
                f(column, i);
            }
        }
    }

    DEVICE void widen(u32 i, float* x) const { By<S>::load((const Bits*)&pieces[i], x); }

    template <class F>
    DEVICE void each(F f) const {
        each_piece([&](u32 column, u32 i) {
            float x[COUNT];
            widen(i, x);
            f(column, x);
        });
    }

    // Computes the tiled sum of squares. Every thread of the row gets the result. If each access moves only one
    // element, all threads process one tile after the other. Otherwise, each tile has its own group of threads.
    DEVICE double sum_of_squares(u32 lanes) const {
        double sum = 0.0;
        for (u32 tile = 0; tile < TILES; tile++) {
            const u32 LANES = 64 / GROUP;
            double own[LANES] = {};
            for (u32 i = 0; i < PIECES; i++) {
                float values[COUNT];
                widen(tile * PIECES + i, values);
                for (u32 j = 0; j < COUNT; j++) {
                    double& of_lane = own[COUNT == 1 ? i % 2 : j];
                    const double x = (double)values[j];
                    of_lane = fma(x, x, of_lane);
                }
            }
            if (COUNT == 1) {
                sum += fold(own[0], WARP) + fold(own[1], WARP);
            } else {
                for (u32 width = LANES / 2; width > 0; width /= 2) {
                    for (u32 i = 0; i < width; i++) {
                        own[i] = own[2 * i] + own[2 * i + 1];
                    }
                }
                sum = fold(own[0], lanes);
            }
        }
        return sum;
    }

    // Returns whether the row may be computed in f32. All threads of the row get the same result.
    DEVICE bool is_narrow(double square, double scale, u32 of_row, u32 lanes) const {
        if (!IS_F32) {
            return has_room(square, scale);
        }
        Magnitudes own = Magnitudes::of_none();
        each([&](u32, const float* x) {
            for (u32 i = 0; i < COUNT; i++) {
                own.update(x[i]);
            }
        });
        own.join_lanes(lanes / 2);
        return has_room(square, scale) && keeps_low_parts(own, of_row, scale);
    }

    // Calls `f` with each element and its weight, and writes the results to shared memory.
    template <class F>
    DEVICE void write(const float* weights, Bits* to, F f) const {
        each([&](u32 column, const float* x) {
            u32 bits[COUNT];
            for (u32 i = 0; i < COUNT; i++) {
                bits[i] = f(x[i], weights[column + i]);
            }
            By<S>::store_in_shared(to + column, bits);
        });
    }
};

template <class S, template <class> class By, bool NEIGHBOURS>
DEVICE void qk_norm_rope(const QkNormRopeArguments& a) {
    typedef typename S::Bits Bits;
    typedef HeadRow<S, By> Row;
    const u32 COUNT = By<S>::COUNT;
    __shared__ OperandRange range;
    // The array consists of 16-byte vectors, so it is aligned to 16 bytes.
    __shared__ uint4 rows[THREADS * Row::HELD * Row::COUNT * sizeof(Bits) / sizeof(uint4)];
    __shared__ float weights[MOST_COLS];
    const Operand weight = {a.weight, a.weight_type, 1.0f};
    for (u32 column = threadIdx.x; column < a.cols; column += THREADS) {
        weight.load<F32, 1>(column, weights + column);
    }
    check_weights<S, 1>(range, weight, a.cols);
    __syncthreads();
    const bool may_be_narrow = a.may_be_narrow && range.is_within(a.cols);
    const Heads& at = a.at;
    const u32 half = (u32)at.half, lane = threadIdx.x % a.lanes, in_warp = WARP / a.lanes;
    Bits* const normalised = (Bits*)rows + threadIdx.x / a.lanes * (a.lanes * Row::HELD * Row::COUNT);
    const u64 warp = (u64)blockIdx.x * WARPS + threadIdx.x / WARP;
    const u64 items = (at.heads + at.each - 1) / at.each * at.tokens;
    // If a row has at most one pair of pieces for each thread, the thread reads the factors of its pair once for all
    // heads.
    const bool is_read_once = half <= a.lanes * COUNT;
    // All threads of a warp run the same number of iterations, even those without a row.
    for (u64 first = warp * in_warp; first < items; first += (u64)gridDim.x * WARPS * in_warp) {
        const u64 item = first + threadIdx.x % WARP / a.lanes, token = item % at.tokens;
        const u64 position = item < items ? at.position(token) : at.positions;
        const bool is_known = position < at.positions;
        Turn<S, By, NEIGHBOURS> turn;
        const auto read = [&](u32 pair) {
            const u64 of_pair = position * half + pair;
            turn.read((const double*)at.cos + of_pair, (const double*)at.sin + of_pair, 1.0);
        };
        if (is_read_once && is_known && lane * COUNT < half) {
            read(lane * COUNT);
        }
        ROLLED
        for (u64 i = 0; i < at.each; i++) {
            const u64 head = item / at.tokens * at.each + i;
            const bool is_row = item < items && head < at.heads;
            const Bits* from = (const Bits*)at.x + token * at.x_token + head * at.x_head;
            Bits* to = (Bits*)at.y + token * at.y_token + head * at.y_head;
            Row row(is_row ? from : 0, a.cols, lane);
            const double square = row.sum_of_squares(a.lanes) / (double)a.cols;
            const double scale = scale_of(square, a.eps);
            if (may_be_narrow && row.is_narrow(square, scale, a.cols, a.lanes)) {
                const float high = (float)scale, low = (float)(scale - (double)high);
                row.write(weights, normalised, [&](float x, float w) { return scaled_narrow<S>(x, high, low, w); });
            } else {
                row.write(weights, normalised, [&](float x, float w) {
                    return scaled_wide<S>(x, scale, (double)w + a.weight_offset, a.before_weight);
                });
            }
            __syncwarp();
            ROLLED
            for (u32 pair = lane * COUNT; is_row && pair < half; pair += a.lanes * COUNT) {
                const u32 column = NEIGHBOURS ? 2 * pair : pair, apart = NEIGHBOURS ? COUNT : half;
                if (!is_known) {
                    spoil_pair<S, By>(to + column, apart);
                    continue;
                }
                if (!is_read_once) {
                    read(pair);
                }
                turn.apply(normalised + column, to + column, apart);
            }
            ROLLED
            for (u32 column = 2 * half + lane * COUNT; is_row && column < a.cols; column += a.lanes * COUNT) {
                copy_piece<S, By>(normalised + column, to + column);
            }
            __syncwarp();
        }
    }
}

#define QK_NORM_ROPE(TYPE, NAME)                                                                                       \
    ENTRY(qk_norm_rope_##NAME##_halves, QkNormRopeArguments, 128, (qk_norm_rope<TYPE, Vectors, false>(arguments)))     \
    ENTRY(qk_norm_rope_##NAME##_halves_any, QkNormRopeArguments, 128, (qk_norm_rope<TYPE, Singles, false>(arguments))) \
    ENTRY(qk_norm_rope_##NAME##_neighbours, QkNormRopeArguments, 128, (qk_norm_rope<TYPE, Vectors, true>(arguments)))  \
    ENTRY(qk_norm_rope_##NAME##_neighbours_any, QkNormRopeArguments, 128, (qk_norm_rope<TYPE, Singles, true>(arguments)))

QK_NORM_ROPE(F32, f32)
QK_NORM_ROPE(F16, f16)
QK_NORM_ROPE(BF16, bf16)
