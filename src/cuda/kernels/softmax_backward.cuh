// Gradients of softmax, log_softmax and logsumexp of rows, as `src/cpu/scores_backward.rs` and
// `src/cpu/logsumexp_backward.rs` define them. Each block processes one row of scores, which stays in registers if it
// fits. The incoming gradients are read twice.
#pragma once
#include "near_gradient.cuh"
#include "register_exps.cuh"
#include "sum.cuh"

struct BackwardArguments {
    u64 x, dy, dx; // [rows, cols]; dy of logsumexp is [rows]
    u64 guards;    // As in `ScoresArguments`. Also counts rows of finite scores whose gradients are not finite.
    u64 rows, cols;
};

template <u32 WARPS>
struct BackwardShared {
    Keys extremes[WARPS];
    Parts units[WARPS];
    u32 nans[WARPS];
    Tables tables;
};

// These functions return the addresses of a row's scores, of its incoming gradients, and of its results.
template <class S>
DEVICE const typename S::Bits* x_of(const BackwardArguments& a, u64 index) {
    return (const typename S::Bits*)a.x + index * a.cols;
}
template <class Gradient, class S>
DEVICE const typename S::Bits* dy_of(const BackwardArguments& a, u64 index) {
    return (const typename S::Bits*)a.dy + index * (Gradient::IS_OF_ROWS ? 1 : a.cols);
}
template <class S>
DEVICE typename S::Bits* dx_of(const BackwardArguments& a, u64 index) {
    return (typename S::Bits*)a.dx + index * a.cols;
}

// Row of any length and any scores, in memory.
template <class Gradient, class S, template <class> class By, u32 WARPS>
struct BackwardRow {
    typedef typename S::Bits Bits;
    typedef OrderedSums<Places<S, By, WARPS>, 1> Terms;
    static const u32 COUNT = By<S>::COUNT;
    Held<S, By, WARPS, 0> held;
    const Bits* dy;
    Bits* dx;

    DEVICE BackwardRow(const BackwardArguments& a, u64 index)
        : held(x_of<S>(a, index), (u32)a.cols), dy(dy_of<Gradient, S>(a, index)), dx(dx_of<S>(a, index)) {}

    // Writes the gradients of a row whose maximum is finite. Returns false if any gradient is not finite.
    DEVICE bool write(const SoftmaxExp& exp, BackwardShared<WARPS>& shared, Terms& terms) {
        const u32 cols = held.cols;
        const auto power = [&](float x) { return exp.power<false>(shared.tables, x); };
        const Units units = sum_exps<WARPS, true>(cols, shared.units, [&](auto& sum) {
            held.each([&](u32, const float* x) {
                for (u32 i = 0; i < COUNT; i++) {
                    sum.add(power(x[i]));
                }
                if (sum.count >= 256) {
                    sum.collect();
                }
            });
        });
        const double reciprocal = 1.0 / sum_of_units(units, cols);
        double sums[1];
        if constexpr (Gradient::IS_OF_ROWS) {
            sums[0] = (double)S::widen(*dy);
        } else {
            sum_pieces(held, terms, sums, [&](u32 column, const float* x, auto lane) {
                float of_results[COUNT];
                By<S>::load(dy + column, of_results);
                for (u32 i = 0; i < COUNT; i++) {
                    const double of_result = is_kept(x[i]) ? (double)of_results[i] : 0.0;
                    lane(i)[0] = Gradient::with_term(lane(i)[0], (double)power(x[i]), of_result);
                }
            });
        }
        const double of_row = Gradient::MEAN ? sums[0] * reciprocal : sums[0];
        if (!(fabs(of_row) < (double)INFINITE)) {
            return false;
        }
        held.each([&](u32 column, const float* x) {
            float of_results[COUNT] = {};
            u32 bits[COUNT];
            if (!Gradient::IS_OF_ROWS) {
                By<S>::load(dy + column, of_results);
            }
            for (u32 i = 0; i < COUNT; i++) {
                const double y = (double)power(x[i]) * reciprocal;
                const double gradient = Gradient::of(y, (double)of_results[i], of_row);
                bits[i] = is_kept(x[i]) ? narrow_once<S>(gradient) : 0;
            }
            By<S>::store(dx + column, bits);
        });
        return true;
    }

    // Returns whether an incoming gradient of the row is NaN. Gradients at masked columns do not count.
    DEVICE bool has_nan(u32* partial) {
        if (Gradient::IS_OF_ROWS) {
            const float of_row = S::widen(*dy);
            return of_row != of_row;
        }
        u32 own = 0;
        held.each([&](u32 column, const float* x) {
            float of_results[COUNT];
            By<S>::load(dy + column, of_results);
            for (u32 i = 0; i < COUNT; i++) {
                own |= is_kept(x[i]) && of_results[i] != of_results[i];
            }
        });
        return over_block<WARPS>(own, partial, [](u32 own, u32 distance) {
            for (; distance > 0; distance /= 2) {
                own |= lane_beside(own, distance);
            }
            return own;
        });
    }

    // Writes 0 to masked columns, and NaN to all others.
    DEVICE void spoil() {
        held.each([&](u32 column, const float* x) {
            u32 bits[COUNT];
            for (u32 i = 0; i < COUNT; i++) {
                bits[i] = is_kept(x[i]) ? S::NOT_A_NUMBER : 0;
            }
            By<S>::store(dx + column, bits);
        });
    }

    static DEVICE bool is_kept(float x) { return x != -INFINITE; }

    // Writes the gradients of the row.
    DEVICE void finish(const BackwardArguments& a, u64 index, BackwardShared<WARPS>& shared, Terms& terms) {
        const Extremes found = extremes(held, shared.extremes);
        bool is_nan = found.is_nan();
        if (found.is_live()) {
            SoftmaxExp exp(found.max, found.min);
            exp.narrow = false;
            exp.fill(shared.tables);
            __syncthreads();
            if (write(exp, shared, terms)) {
                return;
            }
            is_nan = has_nan(shared.nans);
        }
        // A fully masked row has no unmasked column, so this writes 0 everywhere.
        spoil();
        count_guards(a.guards, index, is_nan, found.is_masked());
    }
};

// Returns an element of a piece of 16 bytes.
template <class S>
DEVICE float element_of(const u32* words, u32 k) {
    if (sizeof(typename S::Bits) == 4) {
        return float_of(words[k]);
    }
    return k % 2 == 0 ? S::low_of(words[k / 2]) : S::high_of(words[k / 2]);
}

// Computes the gradients of a row from its exponentials and its incoming gradients. `of_row` is the row's sum, mean or
// incoming gradient.
template <class Gradient, class S>
struct PieceGradients {
    typedef typename S::Bits Bits;
    const double reciprocal, of_row;
    const typename Gradient::Near near;

    DEVICE PieceGradients(double reciprocal, double of_row, u32 halvings)
        : reciprocal(reciprocal), of_row(of_row), near(reciprocal, of_row, halvings) {}

    DEVICE u32 exact(float e, float dy) const {
        return narrow_once<S>(Gradient::of((double)e * reciprocal, (double)dy, of_row));
    }

    // Stores the gradients of a piece of 16 bytes. `dy` has the piece's incoming gradients.
    DEVICE void store(Bits* to, const float* e, const u32* dy) const {
        if constexpr (sizeof(Bits) == 4) {
            u32 bits[4];
            for (u32 k = 0; k < 4; k++) {
                bits[k] = exact(e[k], float_of(dy[k]));
            }
            Vectors<S>::store(to, bits);
        } else {
            u32 rounded[4];
            const u32 mask = round_near<S>(near, e, dy, rounded);
            Vectors<S>::store_words(to, {rounded[0], rounded[1], rounded[2], rounded[3]});
            // If `of_row` and all incoming gradients of the piece are 0, the results are 0, which is exact.
            if (mask != 0 && !(of_row == 0.0 && ((dy[0] | dy[1] | dy[2] | dy[3]) & ~S::SIGNS) == 0)) {
                each_in_mask<S>(mask, e, dy, [&](u32 k, float e, float dy) { to[k] = (Bits)exact(e, dy); });
            }
        }
    }
};

// The block's first row in registers. Its scores have a small range, and none is masked. The exponentials replace the
// scores. Registers also hold the first `KEPT` pieces of incoming gradients of each thread. Further pieces of incoming
// gradients are read twice.
template <class Gradient, class S, u32 WARPS, u32 HELD, u32 KEPT>
struct HeldGradients {
    typedef typename S::Bits Bits;
    typedef RegisterRow<S, WARPS, HELD> Row;
    typedef typename Row::At At;
    static const u32 COUNT = Row::COUNT, WORDS = Row::WORDS, STEPS = HELD / At::PIECES;
    static const bool READS_DY = !Gradient::IS_OF_ROWS;
    const BackwardArguments& a;
    Row row;
    u32 kept[READS_DY && KEPT > 0 ? KEPT : 1][WORDS];

    DEVICE HeldGradients(const BackwardArguments& a) : a(a), row(x_of<S>(a, blockIdx.x), (u32)a.cols) {
        const Bits* const dy = own(a.dy);
        UNROLLED
        for (u32 i = 0; i < HELD; i++) {
            if (READS_DY && is_there(i)) {
                if (is_kept(i)) {
                    load_words<S>(dy + row.offset(i), kept[is_kept(i) ? i : 0]);
                } else {
                    prefetch(dy + row.offset(i));
                }
            }
        }
    }

    // Returns the address of the thread's first piece, in the tensor at `address`.
    DEVICE Bits* own(u64 address) const { return (Bits*)address + ((u64)recomputed(blockIdx.x) * row.cols + row.first()); }

    static DEVICE bool is_kept(u32 i) { return (int)i < (int)KEPT; }

    DEVICE bool is_there(u32 i) const { return At::column(i) < row.cols; }

    // Calls `f` with the incoming gradients of a piece. `dy` is the address of the thread's first piece.
    template <class F>
    DEVICE void with_dy(const Bits* dy, u32 i, F f) const {
        u32 words[WORDS] = {};
        if (READS_DY && !is_kept(i)) {
            load_words<S>(dy + row.offset(i), words);
        }
        for (u32 w = 0; w < WORDS && READS_DY && is_kept(i); w++) {
            words[w] = recomputed(kept[is_kept(i) ? i : 0][w]);
        }
        f(words);
    }

    // Writes the sum of each tile's terms to shared memory. A tiled sum prescribes in which lane each element is added.
    DEVICE void sum_tiles(double* tiles) const {
        const u32 LANES = 64 / At::GROUP;
        const Bits* const dy = this->own(a.dy);
        UNROLLED
        for (u32 step = 0; step < STEPS; step++) {
            double own[LANES] = {};
            UNROLLED
            for (u32 i = step * At::PIECES; i < (step + 1) * At::PIECES; i++) {
                if (is_there(i)) {
                    with_dy(dy, i, [&](const u32* words) {
                        for (u32 k = 0; k < COUNT; k++) {
                            own[k] = Gradient::with_term(own[k], row.values[i][k], (double)element_of<S>(words, k));
                        }
                    });
                }
            }
            for (u32 width = LANES / 2; width > 0; width /= 2) {
                for (u32 k = 0; k < width; k++) {
                    own[k] = own[2 * k] + own[2 * k + 1];
                }
            }
            const double tile = fold(own[0], At::GROUP);
            if (threadIdx.x % At::GROUP == 0) {
                tiles[step * At::tiles() + threadIdx.x / At::GROUP] = tile;
            }
        }
    }

    // Returns the tiled sum of the row, given the sums of its tiles.
    static DEVICE double sum_of(const double* tiles) {
        const u32 count = STEPS * At::tiles();
        return fold_lanes([&](u32 lane) {
            const double first = lane < count ? tiles[lane] : 0.0;
            return STEPS * At::TILES > 64 && lane + 64 < count ? first + tiles[lane + 64] : first;
        });
    }

    // Writes the gradients.
    DEVICE void write(double reciprocal, double of_row, u32 halvings) {
        const PieceGradients<Gradient, S> gradients(reciprocal, of_row, halvings);
        each_piece([&](Bits* to, const float* e, const u32* words) { gradients.store(to, e, words); });
    }

    // Calls `f` with the address of each result piece, its exponentials and its incoming gradients.
    template <class F>
    DEVICE void each_piece(F f) const {
        const Bits* const dy = own(a.dy);
        Bits* const dx = own(a.dx);
        UNROLLED
        for (u32 i = 0; i < HELD; i++) {
            if (is_there(i)) {
                with_dy(dy, i, [&](const u32* words) { f(dx + row.offset(i), row.values[i], words); });
            }
        }
    }
};

// Computes the gradients of the block's rows from `index` on. Each row is read three times.
template <class Gradient, class S, template <class> class By, u32 WARPS>
DEVICE void backward_again(const BackwardArguments& a, u64 index) {
    typedef BackwardRow<Gradient, S, By, WARPS> Row;
    __shared__ BackwardShared<WARPS> shared;
    __shared__ typename Row::Terms terms;
    for (; index < a.rows; index += gridDim.x) {
        Row(a, index).finish(a, index, shared, terms);
        __syncthreads();
    }
}

// Computes the gradients of rows that fit in registers. Only the block's first row is processed in registers, because a
// loop over rows would need more registers for values that are the same for all rows.
template <class Gradient, class S, u32 WARPS, u32 HELD, u32 KEPT>
DEVICE void backward_held(const BackwardArguments& a) {
    typedef HeldGradients<Gradient, S, WARPS, HELD, KEPT> Row;
    // Maximum length of a row in registers. The sums of all rows up to this length have the same unit.
    const u32 MOST = WARPS * WARP * HELD * Row::COUNT;
    __shared__ Keys partial_extremes[WARPS];
    __shared__ Parts partial_units[WARPS];
    __shared__ double tiles[Row::STEPS * Row::At::TILES];
    u64 next = blockIdx.x;
    Row row(a);
    const Extremes found = extremes(row.row, partial_extremes);
    if (SoftmaxExp::is_narrow(found.max, found.min)) {
        const SoftmaxExp exp(found.max, found.min);
        const u32 halvings = binades(found);
        const u64 units = make_exps(row.row, exp, exp.lane_tables());
        if constexpr (!Gradient::IS_OF_ROWS) {
            row.sum_tiles(tiles);
        }
        const double reciprocal = 1.0 / sum_of_units({total<WARPS>(units, partial_units).whole(), 0}, MOST);
        const double of_dy = Gradient::IS_OF_ROWS ? (double)S::widen(*dy_of<Gradient, S>(a, blockIdx.x)) : Row::sum_of(tiles);
        const double of_row = Gradient::MEAN ? of_dy * reciprocal : of_dy;
        if (fabs(of_row) < (double)INFINITE) {
            row.write(reciprocal, of_row, halvings);
            next += gridDim.x;
        }
    }
    // Few rows remain. The block's first row remains if its range is wide or its results are not finite. Later rows
    // exist only if there are more rows than blocks.
    backward_again<Gradient, S, Singles, WARPS>(a, recomputed(next));
}
