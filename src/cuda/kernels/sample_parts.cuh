// Kernels in which several blocks read a row. Their results go to the block that completes the row.
//
// Kernels run one after the other. A block reads memory that another block wrote only if that block wrote it in an
// earlier kernel. Within a kernel, blocks of a row communicate by integer atomics alone. So the results do not depend
// on the order of the blocks, except for the order of the list, which is sorted later.
#pragma once
#include "sample_bins.cuh"

const u32 PART_WARPS = 8;

// Defines a kernel whose blocks read parts of rows, and limits its registers so that a multiprocessor can run four
// blocks at a time.
#ifdef __CUDACC__
#define ENTRY_OF_PARTS(NAME, BODY)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256, 4) NAME(const SampleArguments arguments) { BODY; }
#else
#define ENTRY_OF_PARTS(NAME, BODY) ENTRY(NAME, SampleArguments, 256, BODY)
#endif

// Memory that the threads of a part share.
struct PartShared {
    u64 list[MOST_LISTED];
    Tables tables;
    u64 sums[PART_WARPS];
    BinRange range;
    float floats[PART_WARPS];
    u32 bins[BINS];
    u32 listed, place;
};

// Sum of the masses of a thread's tokens, in two 32-bit halves, like `UnitSum`. The unit of the masses depends on the
// row's length. A sum may have at most 511 terms.
struct MassSum {
    u32 high, low;

    // Returns 1.5 times a power of two. Its unit in the last place is the unit of the masses.
    static DEVICE float grid(const Masses& masses) { return masses.is_long() ? 1.5f / (1 << 19) : 1.5f / (1 << 22); }

    DEVICE u64 units(u32 count, const Masses& masses) const {
        const u32 high_sum = high - count * bits_of(1.0f);
        const int low_sum = (int)(low - count * bits_of(grid(masses)));
        return ((u64)high_sum << (masses.is_long() ? 19 : 22)) + (u64)(long long)low_sum;
    }
};

// Returns `v` if z >= least, otherwise 0. With a conditional expression, the compiler would compute `v` in a branch for
// each token, so that the computations for several tokens could not overlap.
DEVICE float if_kept(float v, float z, float least) {
#ifdef __CUDACC__
    float kept;
    asm("{ .reg .pred p; setp.ge.f32 p, %2, %3; selp.f32 %0, %1, 0f00000000, p; }"
        : "=f"(kept)
        : "f"(v), "f"(z), "f"(least));
    return kept;
#else
    return z >= least ? v : 0.0f;
#endif
}

// Computes the weights of kept tokens as `weight_of` does, with fewer instructions.
struct KeptWeights {
    const LaneTables tables;
    double max, inverse;
    float least, above_grid; // Tokens below `least` have weight 0

    // `kept` is the lowest kept logit. Let the exponent of a logit be (logit - max) / temperature. `add` is exact for
    // exponents of at least -64. Masses round to 0 for exponents of at most -32.5. So the exponent of `least` must be
    // at least -64, and the exponent of the next lower f32 at most -32.5. The f32 whose exponent is nearest to -48 has
    // both properties, unless neighbouring f32 are so far apart that its exponent is below -64. Then the next larger
    // f32 has both properties.
    DEVICE KeptWeights(const Masses& masses, double inverse, float kept)
        : tables{masses.tables.of(threadIdx.x)}, max(masses.max), inverse(inverse),
          above_grid(1.0f + MassSum::grid(masses)) {
        float deep = fmaxf((float)(max - 48.0 / inverse), LOWEST);
        if (((double)deep - max) * inverse < -64.0) {
            deep = logit_of(key_of(deep) + 1);
        }
        least = fmaxf(deep, kept);
    }

    // Adds the mass of a token to the sum `all`. If `in_part` is true, also adds the mass to the sum `part`. All lanes
    // of the warp make this call together.
    DEVICE void add(float z, MassSum& all, MassSum& part, bool in_part) const {
        const double x = ((double)z - max) * inverse;
        const float SHIFTER = 12582912.0f;
        const float j = fmaf((float)x, float_of(0x4138aa3b), SHIFTER);
        const Entry entry = tables.of(bits_of(j));
        // Converts the integer j - SHIFTER to f64. An f64 from 2^52 to 2^53 holds an integer in its low bits.
        const double TO_WIDE = 4503599627370496.0 + 1262485504.0; // 2^52 + bits_of(SHIFTER)
        const double n = __longlong_as_double((long long)((u64)0x43300000 << 32 | bits_of(j))) - TO_WIDE;
        const float r = (float)fma(n, -STEP, x) + entry.low;
        const float q = fmaf(fmaf(float_of(0x3d2aad66), r, float_of(0x3e2a9c39)), r, 0.5f);
        const float t = fmaf(r * r, q, r);
        const float s = float_of(bits_of(entry.power) + (bits_of(j) << 20));
        const float e = if_kept(fmaf(t, s, s), z, least);
        const float u = e + 1.0f;
        const u32 low = bits_of(e + (above_grid - u));
        all.high += bits_of(u);
        all.low += low;
        part.high += in_part ? bits_of(u) : 0;
        part.low += in_part ? low : 0;
    }
};

DEVICE u64 sum_of_lanes(u64 own) {
    for (u32 distance = WARP / 2; distance > 0; distance /= 2) {
        own += lane_beside(own, distance);
    }
    return own;
}

// Extremes of the logits of a row. The largest is NaN if there is a NaN.
struct Extremes {
    float top, bottom;

    DEVICE Extremes(const SampleWork& work, u32 parts) : top(-INFINITE), bottom(INFINITE) {
        for (u32 part = threadIdx.x % WARP; part < parts; part += WARP) {
            top = max_or_nan(top, work.tops[part]);
            bottom = fminf(bottom, work.bottoms[part]);
        }
        for (u32 distance = WARP / 2; distance > 0; distance /= 2) {
            top = max_or_nan(top, lane_beside(top, distance));
            bottom = fminf(bottom, lane_beside(bottom, distance));
        }
    }
};

// Part of a row that a block reads.
template <class S>
struct Part {
    const SampleArguments& a;
    const u64 row;
    const u32 part;
    const SampleRequest& request;
    const LogitRow<S> logits;
    SampleWork& work;
    PartShared& shared;
    const Runs<S> runs;
    // Index of the warp's run.
    const u32 run;
    SamplePlan plan;

    DEVICE Part(const SampleArguments& a, u64 index, PartShared& shared)
        : a(a), row(index / a.parts), part((u32)(index % a.parts)), request(((const SampleRequest*)a.requests)[row]),
          logits(a.logits, a.cols, request.allowed, row), work(*(SampleWork*)(a.work + row * a.stride)), shared(shared),
          runs(logits, a.parts * PART_WARPS), run(part * PART_WARPS + threadIdx.x / WARP) {
        plan.choose(request);
    }

    template <class F>
    DEVICE void each_piece(F f) const {
        logits.each_piece(run * runs.share, (run + 1) * runs.share, f);
    }

    // Calls `f` with each logit of a piece. Columns outside the row are -inf.
    template <class F>
    static DEVICE void each_of(const uint4& v, F f) {
        const u32 words[4] = {v.x, v.y, v.z, v.w};
        for (u32 i = 0; i < 4; i++) {
            f(S::low_of(words[i]));
            if (LogitRow<S>::COUNT == 8) {
                f(S::high_of(words[i]));
            }
        }
    }

    // Number of logits in the lane's pieces.
    DEVICE u32 count() const {
        const u32 from = run * runs.share, to = from + runs.share < logits.steps ? from + runs.share : logits.steps;
        return from < to ? (to - from) * logits.COUNT : 0;
    }

    // Finds the extremes of the part, and the largest logit of each group.
    DEVICE void survey() {
        float* groups = work.groups();
        u32 largest = logits.NOTHING, smallest = S::INFINITE_WORD;
        float bottom = INFINITE;
        each_piece([&](u32 piece, const uint4& v) {
            u32 top = S::largest(S::largest(v.x, v.y), S::largest(v.z, v.w));
            if (logits.is_whole(piece)) {
                smallest = S::smallest(smallest, S::smallest(S::smallest(v.x, v.y), S::smallest(v.z, v.w)));
            } else {
                ROLLED
                for (u32 i = 0; i < logits.COUNT; i++) {
                    const u32 at = logits.column(piece) + i;
                    bottom = at < logits.cols ? fminf(bottom, logits.logit(at)) : bottom;
                }
            }
            largest = S::largest(largest, top);
            for (u32 distance = 1; distance < logits.GROUP; distance *= 2) {
                top = S::largest(top, lane_beside(top, distance));
            }
            if (threadIdx.x % logits.GROUP == 0) {
                groups[piece / logits.GROUP] = max_or_nan(S::low_of(top), S::high_of(top));
            }
        });
        const auto reduce = [](float own, u32 distance) {
            for (; distance > 0; distance /= 2) {
                own = max_or_nan(own, lane_beside(own, distance));
            }
            return own;
        };
        bottom = fminf(bottom, fminf(S::low_of(smallest), S::high_of(smallest)));
        const float top = over_block<PART_WARPS>(max_or_nan(S::low_of(largest), S::high_of(largest)), shared.floats,
                                                 reduce);
        __syncthreads();
        bottom = -over_block<PART_WARPS>(-bottom, shared.floats, reduce);
        if (threadIdx.x == 0) {
            work.tops[part] = top;
            work.bottoms[part] = bottom;
            if (part == 0) {
                work.listed = 0;
            }
        }
        for (u32 bin = part * PART_WARPS * WARP + threadIdx.x; bin < BINS; bin += a.parts * PART_WARPS * WARP) {
            work.bins[bin] = 0;
        }
    }

    // Applies the filters that precede the filter of the plan, and returns the row's `Masses`.
    DEVICE Masses started(const Extremes& extremes) {
        fill(shared.tables);
        __syncthreads();
        const Masses masses = {shared.tables, (double)extremes.top, a.cols};
        plan.start(request, masses, extremes.top);
        return masses;
    }

    // Computes the masses of the runs, or fills the bins, depending on the plan.
    DEVICE void measure() {
        if (plan.kind == NOTHING_PLANNED) {
            return;
        }
        const Extremes extremes(work, a.parts);
        const Masses masses = started(extremes);
        const u32 lane = threadIdx.x % WARP;
        if (plan.kind == SUMS_OF_RUNS) {
            const KeptWeights weights(masses, plan.inverse, plan.least);
            MassSum sum = {}, none = {};
            u32 kept = 0;
            const bool keeps_all = extremes.bottom >= plan.least;
            each_piece([&](u32, const uint4& v) {
                if (!keeps_all) {
                    each_of(v, [&](float z) { kept += z >= plan.least; });
                }
                each_of(v, [&](float z) { weights.add(z, sum, none, false); });
            });
            const u64 of_run = sum_of_lanes(sum.units(count(), masses));
            kept = sum_of_warp(kept);
            if (lane == 0) {
                work.masses[run] = of_run;
                work.kept[run] = keeps_all ? runs.start(logits, run + 1) - runs.start(logits, run) : kept;
            }
        } else if (plan.kind == LIST_FROM_BINS) {
            const Bins bins(extremes.top, extremes.bottom, plan.inverse);
            for (u32 bin = threadIdx.x; bin < BINS; bin += PART_WARPS * WARP) {
                shared.bins[bin] = 0;
            }
            __syncthreads();
            each_piece([&](u32, const uint4& v) {
                each_of(v, [&](float z) {
                    if (z >= plan.least) {
                        atomicAdd(&shared.bins[bins.of(z)], 1u);
                    }
                });
            });
            __syncthreads();
            for (u32 bin = threadIdx.x; bin < BINS; bin += PART_WARPS * WARP) {
                if (shared.bins[bin] > 0) {
                    atomicAdd(&work.bins[bin], shared.bins[bin]);
                }
            }
        }
    }

    // Lists the tokens in the bins where the planned filter may end, and computes the masses of the other tokens.
    DEVICE void list() {
        if (plan.kind != LIST_FROM_BINS) {
            return;
        }
        const Extremes extremes(work, a.parts);
        const Masses masses = started(extremes);
        if (plan.kind != LIST_FROM_BINS) {
            return;
        }
        const Bins bins(extremes.top, extremes.bottom, plan.inverse);
        const Amount amount = plan.amount(request);
        const double value = request.filter[plan.lead].value;
        const auto needed = [&](u64 total, u64& from, u64& to) {
            Bins::bounds(amount.is_mass ? ceil_of_product(value, total) : (u64)value, 0, amount, from, to);
        };
        const BinRange range = bins.range_of<PART_WARPS>(work.bins, amount, masses, needed, shared.range, shared.sums);
        if (threadIdx.x == 0) {
            shared.listed = 0;
            if (part == 0) {
                work.range = range;
            }
        }
        __syncthreads();
        // Tokens are listed if their logit is at least `low` and below `high`.
        const auto from_bin = [&](u32 bin) {
            return lowest_such(extremes.top, [&](float z) { return bins.of(z) <= bin; });
        };
        const float low = fmaxf(from_bin(range.last), plan.least);
        const float high = range.first == 0 ? INFINITE : fmaxf(from_bin(range.first - 1), plan.least);
        const KeptWeights weights(masses, plan.inverse, plan.least);
        MassSum all = {}, above = {};
        u32 kept = 0;
        each_piece([&](u32 piece, const uint4& v) {
            u32 listed = 0, bit = 1;
            each_of(v, [&](float z) {
                const bool is_above = z >= high;
                kept += is_above;
                listed |= z >= low && !is_above ? bit : 0;
                bit <<= 1;
                weights.add(z, all, above, is_above);
            });
            ROLLED
            for (; listed > 0; listed &= listed - 1) {
                const u32 i = (u32)__ffs((int)listed) - 1;
                const u32 place = atomicAdd(&shared.listed, 1u);
                if (place < MOST_LISTED) {
                    shared.list[place] = (u64)key_of(logits.of_piece(v, i)) << 32 | ~(logits.column(piece) + i);
                }
            }
        });
        const u64 total = sum_of_lanes(all.units(count(), masses)), outside = sum_of_lanes(above.units(kept, masses));
        kept = sum_of_warp(kept);
        if (threadIdx.x % WARP == 0) {
            work.totals[run] = total;
            work.masses[run] = outside;
            work.kept[run] = kept;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            shared.place = atomicAdd(&work.listed, shared.listed);
        }
        __syncthreads();
        const u32 place = shared.place;
        for (u32 i = threadIdx.x; i < shared.listed && place + i < MOST_LISTED; i += PART_WARPS * WARP) {
            work.list[place + i] = shared.list[i];
        }
    }
};

// Calls `act` with each part that this block processes.
template <class S, class Act>
DEVICE void each_part(const SampleArguments& a, Act act) {
    __shared__ PartShared shared;
    for (u64 index = blockIdx.x; index < a.rows * a.parts; index += gridDim.x) {
        Part<S> part(a, index, shared);
        act(part);
        __syncthreads();
    }
}
