// Histogram of a row's logits. A filter keeps a prefix of the tokens in descending order of their logits. The histogram
// shows in which bins this prefix may end.
#pragma once
#include "sample_row.cuh"

// Quantity that a filter sums over tokens. If `is_mass` is true, a token contributes its mass at the temperature
// 1 / `inverse`. Otherwise, it contributes 1.
struct Amount {
    bool is_mass;
    double inverse;
};

// Bins of equal size, from the largest logit down.
struct Bins {
    float top, per_unit; // Largest logit, and number of bins per unit of the logits
    double size;

    DEVICE Bins(float top, float bottom, double inverse) : top(top) {
        // A token whose logit is more than `reach` below the largest logit has no mass, so one bin suffices for all
        // such tokens.
        const double span = (double)top - (double)bottom, reach = 32.0 / inverse;
        size = (span < reach ? span : reach) / (double)(BINS - 2);
        per_unit = size > 1e-30 ? (float)(1.0 / size) : 1e30f;
    }

    DEVICE u32 of(float z) const {
        const float INTEGERS = 8388608.0f; // 2^23
        return bits_of(fminf((top - z) * per_unit, (float)(BINS - 1)) + INTEGERS) % BINS;
    }

    // Finds the bins in which the running sum of the amounts may reach the sum that a filter needs. Running sums are
    // estimated from the bins' counts. The function `needed` receives the estimated sum over all bins, and sets a lower
    // and an upper bound of the sum that the filter needs. If all tokens up to the last of these bins fit in a list,
    // the range starts at bin 0 instead. The caller needs a barrier before it uses `range` or `sums` again.
    template <u32 WARPS, class Needed>
    DEVICE BinRange range_of(const u32* counts, const Amount& amount, const Masses& masses, Needed needed,
                             BinRange& range, u64* sums) const {
        const u32 SHARE = BINS / (WARPS * WARP);
        const u32 first = threadIdx.x * SHARE;
        u64 own[SHARE], upto = 0, tokens = 0, total, all;
        for (u32 i = 0; i < SHARE; i++) {
            const u32 count = counts[first + i];
            own[i] = count * (amount.is_mass ? masses.below(-(double)(first + i) * size, amount.inverse) : 1);
            upto += own[i];
            tokens += count;
        }
        upto = sum_before<WARPS>(upto, sums, total);
        tokens = sum_before<WARPS>(tokens, sums, all);
        u64 from, to;
        needed(total, from, to);
        for (u32 i = 0; i < SHARE; i++) {
            const u64 before = upto;
            const bool is_end = first + i == BINS - 1;
            upto += own[i];
            tokens += counts[first + i];
            if (before < from && (from <= upto || is_end)) {
                range.first = first + i;
                range.before = before;
            }
            if (before < to && (to <= upto || is_end)) {
                range.last = first + i;
                range.after = upto;
                range.through = tokens;
                range.total = total;
            }
        }
        __syncthreads();
        BinRange found = range;
        if (found.through <= MOST_LISTED) {
            found.first = 0;
            found.before = 0;
        }
        return found;
    }

    // Sets `from` and `to`. The exact sum may reach `needed` where the estimated sum is between these bounds. `off` is
    // the error of the previous estimate. A negative error is stored modulo 2^64, and the sums below wrap.
    static DEVICE void bounds(u64 needed, u64 off, const Amount& amount, u64& from, u64& to) {
        const u64 slack = amount.is_mass ? needed >> 9 : 0;
        from = (long long)(needed + off - slack) > 1 ? needed + off - slack : 1;
        to = (long long)(needed + off + slack) > 1 ? needed + off + slack : 1;
    }
};

// Intermediate results of a row. The kernels that read parts of the row compute them, and the block that completes the
// row uses them.
enum PlanKind { NOTHING_PLANNED, SUMS_OF_RUNS, LIST_FROM_BINS };

// Plan for the kernels that read parts of a row. These kernels prepare the results that `kind` names, for the tokens
// that the filters before filter `lead` keep.
struct SamplePlan {
    u32 kind = NOTHING_PLANNED;
    u32 lead = 0; // Filter whose tokens are listed, if any
    double inverse = 1.0;
    float least = LOWEST;

    // Returns whether the filter needs no sum, because it keeps all tokens whose mass reaches a known limit.
    static DEVICE bool is_bound(const SampleFilter& filter) { return filter.kind == MIN_P && filter.value <= 1.0; }

    // Chooses the kind of results to prepare, and the filter that needs them.
    DEVICE void choose(const SampleRequest& request) {
        lead = 0;
        while (lead < request.filters && (request.filter[lead].kind == TEMPERATURE || is_bound(request.filter[lead]))) {
            lead++;
        }
        const SampleFilter& filter = request.filter[lead];
        if (lead == request.filters) {
            kind = SUMS_OF_RUNS;
        } else if (filter.kind == TOP_P || (filter.kind == TOP_K && filter.value > MOST_OF_GROUPS)) {
            kind = LIST_FROM_BINS;
        }
    }

    // Applies the filters before the chosen one. A row whose largest logit is not finite needs no work.
    DEVICE void start(const SampleRequest& request, const Masses& masses, float top) {
        if (!(fabsf(top) < INFINITE)) {
            kind = NOTHING_PLANNED;
            return;
        }
        ROLLED
        for (u32 i = 0; i < lead; i++) {
            const SampleFilter& filter = request.filter[i];
            if (filter.kind == TEMPERATURE) {
                inverse = filter.value;
            } else {
                least = fmaxf(least, masses.lowest(ceil_of_product(filter.value, masses.one()), inverse));
            }
        }
    }

    DEVICE Amount amount(const SampleRequest& request) const { return {request.filter[lead].kind == TOP_P, inverse}; }
};
