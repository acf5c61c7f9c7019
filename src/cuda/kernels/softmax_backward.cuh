// Gradients of softmax, log_softmax and logsumexp of rows, as `src/cpu/scores_backward.rs` and
// `src/cpu/logsumexp_backward.rs` define them. Each block processes one row of scores, which stays in registers if it
// fits. The incoming gradients are read twice.
#pragma once
#include "log_sum.cuh"
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

template <class Gradient, class S, template <class> class By, u32 WARPS, u32 HELD>
struct BackwardRow {
    typedef typename S::Bits Bits;
    typedef OrderedSums<Places<S, By, WARPS>, 1> Terms;
    static const u32 COUNT = By<S>::COUNT;
    // Whether registers hold the row. The values of such a row have a small range, and none is masked. The exponentials
    // replace the values in the registers.
    static const bool NARROW = HELD > 0;
    Held<S, By, WARPS, HELD>& held;
    const Bits* dy;
    Bits* dx;
    const u32 cols;

    // Writes the gradients of a row whose maximum is finite. Returns false if any gradient is not finite.
    DEVICE bool write(const SoftmaxExp& exp, BackwardShared<WARPS>& shared, Terms& terms) {
        const Units units = sum_exps<WARPS, HELD == 0>(cols, shared.units, [&](auto& sum) {
            held.each([&](u32, float* x) {
                for (u32 i = 0; i < COUNT; i++) {
                    const float e = exp.power<NARROW>(shared.tables, x[i]);
                    sum.add(e);
                    x[i] = e;
                }
                if (HELD == 0 && sum.count >= 256) {
                    sum.collect();
                }
            });
        });
        const double reciprocal = 1.0 / sum_of_units(units, cols);
        const auto weight = [&](float x) { return (double)(NARROW ? x : exp.power<false>(shared.tables, x)); };
        double sums[1];
        if constexpr (Gradient::IS_OF_ROWS) {
            sums[0] = (double)S::widen(*dy);
        } else {
            sum_pieces(held, terms, sums, [&](u32 column, const float* x, auto lane) {
                float of_results[COUNT];
                By<S>::load(dy + column, of_results);
                for (u32 i = 0; i < COUNT; i++) {
                    const double of_result = is_kept(x[i]) ? (double)of_results[i] : 0.0;
                    lane(i)[0] += Gradient::term(weight(x[i]), of_result);
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
                const double y = weight(x[i]) * reciprocal;
                const double gradient = Gradient::of(y, (double)of_results[i], of_row);
                bits[i] = is_kept(x[i]) ? narrow_once<S>(gradient) : 0;
            }
            By<S>::store(dx + column, bits);
        });
        return true;
    }

    // Returns whether the gradients read for the row contain a NaN.
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

    // Writes NaN, or 0 at masked columns.
    DEVICE void spoil() {
        held.each([&](u32 column, const float* x) {
            u32 bits[COUNT];
            for (u32 i = 0; i < COUNT; i++) {
                bits[i] = is_kept(x[i]) ? S::NOT_A_NUMBER : 0;
            }
            By<S>::store(dx + column, bits);
        });
    }

    static DEVICE bool is_kept(float x) { return NARROW || x != -INFINITE; }

    DEVICE void write_or_spoil(const SoftmaxExp& exp, u64 guards, u64 index, BackwardShared<WARPS>& shared,
                               Terms& terms) {
        if (!write(exp, shared, terms)) {
            count_guards(guards, index, has_nan(shared.nans), false);
            spoil();
        }
    }
};

// Computes the gradients of rows that fit in registers.
template <class Gradient, class S, u32 WARPS, u32 HELD>
DEVICE void backward_held(const BackwardArguments& a) {
    typedef typename S::Bits Bits;
    typedef BackwardRow<Gradient, S, Vectors, WARPS, HELD> Row;
    typedef BackwardRow<Gradient, S, Singles, WARPS, 0> Any;
    __shared__ BackwardShared<WARPS> shared;
    __shared__ typename Row::Terms terms;
    __shared__ typename Any::Terms terms_of_any;
    const u32 cols = (u32)a.cols;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        const Bits* from = (const Bits*)a.x + index * cols;
        const Bits* dy = (const Bits*)a.dy + index * (Gradient::IS_OF_ROWS ? 1 : cols);
        Bits* dx = (Bits*)a.dx + index * cols;
        Held<S, Vectors, WARPS, HELD> held(from, cols);
        // Rows with a wide range are rare. They are read from memory again, so that the code for them needs no further
        // registers.
        Held<S, Singles, WARPS, 0> again(from, cols);
        Any any = {again, dy, dx, cols};
        const Extremes found = extremes(held, shared.extremes);
        if (found.is_live()) {
            SoftmaxExp exp(found.max, found.min);
            exp.fill(shared.tables);
            __syncthreads();
            if (exp.narrow) {
                Row row = {held, dy, dx, cols};
                row.write_or_spoil(exp, a.guards, index, shared, terms);
            } else {
                any.write_or_spoil(exp, a.guards, index, shared, terms_of_any);
            }
        } else {
            // A fully masked row has no unmasked column, so this writes 0 everywhere.
            any.spoil();
            count_guards(a.guards, index, found.is_nan(), found.is_masked());
        }
        __syncthreads();
    }
}

// Computes the gradients of rows of any length, which are read three times.
template <class Gradient, class S, template <class> class By, u32 WARPS>
DEVICE void backward_again(const BackwardArguments& a) {
    typedef typename S::Bits Bits;
    typedef BackwardRow<Gradient, S, By, WARPS, 0> Row;
    __shared__ BackwardShared<WARPS> shared;
    __shared__ typename Row::Terms terms;
    const u32 cols = (u32)a.cols;
    for (u64 index = blockIdx.x; index < a.rows; index += gridDim.x) {
        Held<S, By, WARPS, 0> held((const Bits*)a.x + index * cols, cols);
        Row row = {held, (const Bits*)a.dy + index * (Gradient::IS_OF_ROWS ? 1 : cols), (Bits*)a.dx + index * cols, cols};
        const Extremes found = extremes(held, shared.extremes);
        if (found.is_live()) {
            SoftmaxExp exp(found.max, found.min);
            exp.narrow = false;
            exp.fill(shared.tables);
            __syncthreads();
            row.write_or_spoil(exp, a.guards, index, shared, terms);
        } else {
            row.spoil();
            count_guards(a.guards, index, found.is_nan(), found.is_masked());
        }
        __syncthreads();
    }
}

#define BACKWARD(GRADIENT, OP, TYPE, NAME)                                                                             \
    ENTRY_AT_MOST(OP##_##NAME##_8x4, BackwardArguments, 256, (backward_held<GRADIENT, TYPE, 8, 4>(arguments)))         \
    ENTRY(OP##_##NAME##_long, BackwardArguments, 512, (backward_again<GRADIENT, TYPE, Vectors, 16>(arguments)))        \
    ENTRY(OP##_##NAME##_any, BackwardArguments, 256, (backward_again<GRADIENT, TYPE, Singles, 8>(arguments)))
