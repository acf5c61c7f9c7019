// Filters of the sampler, and the draw. A filter keeps a prefix of the tokens, ordered by logit, and by index among
// equal logits.
//
// The whole row is not sorted. If few tokens can be kept, they are listed and sorted in shared memory, and only the
// draw reads the row again. If many are kept, a histogram of the logits leaves few tokens undecided, which are listed
// and sorted. If the undecided tokens are too many for the list, a radix search finds the end of the prefix, with one
// pass over the row for each byte of the logits.
//
// If several blocks have read the row, their results replace the first passes.
#pragma once
#include "sample_groups.cuh"

// Tokens of a row that the filters have kept so far.
template <class S, u32 WARPS>
struct SampleRow {
    static const u32 THREADS = WARPS * WARP;
    // Whether several blocks have read the row.
    static const bool HAS_PARTS = THREADS == MOST_RUNS;
    const LogitRow<S> logits;
    SampleShared<WARPS>& shared;
    // Memory that the kernels for parts of the row have written. Valid if `HAS_PARTS`.
    SampleWork* const work;
    const Runs<S> part_runs, warp_runs;
    SamplePlan plan;
    Candidates<WARPS> list;
    // Largest and smallest logit of the row. `own_top` is the largest logit among the tokens that this thread reads, or
    // among its groups of columns.
    float top, bottom, own_top;
    Masses masses;
    double inverse; // 1 / temperature
    // Kept prefix: all logits above `least`, and those equal to `least` at indices `first..=last`.
    float least;
    u32 first, last;
    // `is_listed`: the list holds every kept token. `has_outside`: `outside` is the number of kept tokens outside of
    // the list, and `shared.runs` has the masses of the runs at 1 / temperature = `outside_inverse`.
    bool is_listed, has_outside;
    double outside_inverse;
    u64 outside;
    Runs<S> runs;

    DEVICE SampleRow(const SampleArguments& a, const SampleRequest& request, u64 row, SampleShared<WARPS>& shared)
        : logits(a.logits, a.cols, request.allowed, row), shared(shared), work((SampleWork*)(a.work + row * a.stride)),
          part_runs(logits, HAS_PARTS ? a.parts * PART_WARPS : WARPS), warp_runs(logits, WARPS), list{shared, 0},
          masses{shared.tables, 0.0, a.cols}, inverse(1.0), least(LOWEST), first(0), last(0xffffffff),
          is_listed(false), has_outside(false), outside_inverse(1.0), outside(0), runs(warp_runs) {
        survey(a.parts);
        masses.max = (double)top;
        if (HAS_PARTS) {
            plan.choose(request);
            plan.start(request, masses, top);
        }
    }

    DEVICE u64 mass(float z, double inverse) const { return masses.of(z, inverse); }
    DEVICE u64 amount_of(float z, const Amount& amount) const { return amount.is_mass ? mass(z, amount.inverse) : 1; }
    DEVICE bool is_kept(u32 i, float z) const {
        return z > least || (z == least && first <= i && i <= last);
    }

    // Calls `f` with the index and the logit of each token of this thread.
    template <class F>
    DEVICE void each(F f) const {
        const u32 warp = threadIdx.x / WARP;
        logits.each(warp * warp_runs.share, (warp + 1) * warp_runs.share, f);
    }

    // Returns the sum of `of(index, logit)` over the row. Stores the sum over each warp's tokens in `shared.sums`.
    template <class Term>
    DEVICE u64 sum(Term of) {
        u64 own = 0;
        each([&](u32 i, float z) { own += of(i, z); });
        return sum_of_block<WARPS>(own, shared.sums);
    }

    // Copies `shared.sums` to `shared.runs`. The last call of `sum` left there, for each warp's run of tokens, the mass
    // of the tokens that are not in the list of candidates. `own` is the number of this thread's tokens that are not in
    // the list.
    DEVICE void keep_sums(u64 own) {
        runs = warp_runs;
        if (threadIdx.x < WARPS) {
            shared.runs[threadIdx.x] = shared.sums[threadIdx.x];
        }
        outside = sum_of_block<WARPS>(own, shared.sums);
    }

    // Loads the masses of the tokens outside of the list. The kernels for parts of the row have computed them.
    DEVICE void load_sums() {
        runs = part_runs;
        const bool is_run = threadIdx.x < runs.count;
        shared.runs[threadIdx.x] = is_run ? work->masses[threadIdx.x] : 0;
        outside = sum_of_block<WARPS>(is_run ? work->kept[threadIdx.x] : 0, shared.sums);
    }

    // Returns the first index in `from..to` at which the running sum of the terms `of(i)` is larger than the number
    // `above`. There must be such an index.
    template <class Term>
    DEVICE u32 locate(u32 from, u32 to, u64 above, Term of) {
        ROLLED
        while (to - from > 16 * THREADS) {
            const u32 len = (to - from + WARPS - 1) / WARPS;
            const u32 own_from = from + threadIdx.x / WARP * len;
            const u32 own_to = own_from + len < to ? own_from + len : to;
            u64 own = 0;
            ROLLED
            for (u32 i = own_from + threadIdx.x % WARP; i < own_to; i += 4 * WARP) {
                // Loads four logits before using the first, so that the loads overlap.
                float z[4];
                for (u32 j = 0; j < 4; j++) {
                    z[j] = i + j * WARP < own_to ? logits.logit(i + j * WARP) : -INFINITE;
                }
                for (u32 j = 0; j < 4; j++) {
                    own += of(i + j * WARP, z[j]);
                }
            }
            sum_of_block<WARPS>(own, shared.sums);
            u32 warp = 0;
            ROLLED
            while (warp + 1 < WARPS && shared.sums[warp] <= above) {
                above -= shared.sums[warp];
                warp++;
            }
            from += warp * len;
            to = from + len < to ? from + len : to;
        }
        // Each thread adds up neighbouring tokens.
        const u32 len = (to - from + THREADS - 1) / THREADS;
        u32 i = from + threadIdx.x * len;
        const u32 end = i + len < to ? i + len : to;
        u64 own = 0, total;
        ROLLED
        for (u32 j = i; j < end; j++) {
            own += of(j, logits.logit(j));
        }
        u64 upto = sum_before<WARPS>(own, shared.sums, total);
        if (upto <= above && above < upto + own) {
            ROLLED
            for (; i < end; i++) {
                upto += of(i, logits.logit(i));
                if (upto > above) {
                    break;
                }
            }
            shared.digit = i;
        }
        __syncthreads();
        return shared.digit;
    }

    // Lists all tokens of a short row, or at least the `k` largest of a long row. For a long row, returns false if `k`
    // is too large, or if too many other tokens would be listed.
    DEVICE bool list_largest(u64 k) {
        float from = LOWEST;
        if (logits.cols > MOST_LISTED) {
            if (k > THREADS / 2) {
                return false;
            }
            // If the largest logits of k threads reach a value, at least k tokens reach it.
            if (HAS_PARTS) {
                own_top = largest_of_groups<THREADS>(logits, *work);
            }
            from = fmaxf(from, k == 1 ? top : reached_by_threads(shared, own_top, (u32)k));
            if (HAS_PARTS) {
                return list_of_groups(logits, *work, list, from);
            }
        }
        list.clear();
        each([&](u32 i, float z) {
            if (z >= from) {
                list.add(i, z);
            }
        });
        return list.complete();
    }

    // Counts the kept tokens in bins of logits. Returns the sum of the amounts of all kept tokens.
    DEVICE u64 fill_bins(const Amount& amount) {
        const Bins bins(top, bottom, inverse);
        __syncthreads();
        for (u32 bin = threadIdx.x; bin < BINS; bin += THREADS) {
            shared.bins[bin] = 0;
        }
        __syncthreads();
        return sum([&](u32 i, float z) {
            if (!is_kept(i, z)) {
                return (u64)0;
            }
            atomicAdd(&shared.bins[bins.of(z)], 1u);
            return amount_of(z, amount);
        });
    }

    // Loads the bins that the kernels for parts of the row have filled. Returns the sum of the amounts of all tokens in
    // these bins.
    DEVICE u64 load_bins(const Amount& amount) {
        for (u32 bin = threadIdx.x; bin < BINS; bin += THREADS) {
            shared.bins[bin] = work->bins[bin];
        }
        return amount.is_mass
            ? sum_of_block<WARPS>(threadIdx.x < part_runs.count ? work->totals[threadIdx.x] : 0, shared.sums)
            : work->range.total;
    }

    // Lists the kept tokens that are in the bins of `range`. Returns the sum of the amounts of the tokens above these
    // bins.
    DEVICE u64 list_bins(const Bins& bins, const BinRange& range, const Amount& amount) {
        list.clear();
        u32 above = 0;
        const u64 base = sum([&](u32 i, float z) {
            const u32 bin = bins.of(z);
            if (bin > range.last || !is_kept(i, z)) {
                return (u64)0;
            }
            if (bin >= range.first) {
                list.add(i, z);
                return (u64)0;
            }
            above++;
            return amount_of(z, amount);
        });
        keep_sums(above);
        has_outside = list.complete() && amount.is_mass;
        return base;
    }

    // Loads the list of tokens that earlier kernels have made, each from a part of the row. The tokens belong to a
    // range of bins. Returns the sum of the amounts of all tokens in higher bins.
    DEVICE u64 load_list(const Amount& amount) {
        const u32 listed = work->listed;
        for (u32 i = threadIdx.x; i < listed && i < MOST_LISTED; i += THREADS) {
            shared.list[i] = work->list[i];
        }
        load_sums();
        if (threadIdx.x == 0) {
            shared.listed = listed;
        }
        has_outside = list.complete();
        return amount.is_mass ? sum_of_block<WARPS>(shared.runs[threadIdx.x], shared.sums) : outside;
    }

    // Lists the kept tokens of the bins in which the running sum of the amounts reaches `needed`. `base` becomes the
    // sum of the amounts above these bins. Returns false if too many tokens would be listed, or if three estimates miss
    // the bins.
    DEVICE bool list_around(u64 needed, bool is_prepared, u64& base, const Amount& amount) {
        const Bins bins(top, bottom, inverse);
        u64 off = 0;
        ROLLED
        for (u32 attempt = 0; attempt < 3; attempt++) {
            BinRange range;
            if (is_prepared && attempt == 0) {
                range = work->range;
                base = load_list(amount);
            } else {
                const auto bounds = [&](u64, u64& from, u64& to) { Bins::bounds(needed, off, amount, from, to); };
                range = bins.template range_of<WARPS>(shared.bins, amount, masses, bounds, shared.range, shared.sums);
                base = list_bins(bins, range, amount);
            }
            if (shared.listed > MOST_LISTED) {
                return false;
            }
            const u64 upto = base + list.sum([&](u32, float z) { return amount_of(z, amount); });
            if (base < needed && needed <= upto) {
                is_listed = range.first == 0;
                return true;
            }
            off = needed <= base ? range.before - base : range.after - upto;
        }
        return false;
    }

    // Shortens the sequence of kept tokens: the shortest prefix with a sum of amounts of at least `needed` stays.
    // Before the call, the sum over all kept tokens must be at least `needed`, and the list or the histogram must
    // contain them.
    DEVICE void shorten(u64 needed, bool is_prepared, bool keeps_equals, bool highest_first, const Amount& amount) {
        u64 base = 0, reached, at_end;
        float lowest;
        outside_inverse = inverse;
        const bool in_list = is_listed || list_around(needed, is_prepared, base, amount);
        if (in_list) {
            const auto kept = [&](u32 i, float z) { return is_kept(i, z) ? amount_of(z, amount) : 0; };
            lowest = list.reach(needed - base, kept);
            reached = base + list.sum([&](u32 i, float z) { return z > lowest ? kept(i, z) : 0; });
            at_end = list.sum([&](u32 i, float z) { return z == lowest ? kept(i, z) : 0; });
        } else {
            has_outside = false;
            lowest = search(needed, reached, at_end, amount);
        }
        // Several tokens may have the lowest kept logit. Keeps only as many of them as the sum needs.
        const u64 each_of_them = amount_of(lowest, amount);
        const u64 count = (needed - reached + each_of_them - 1) / each_of_them;
        const u64 equals = at_end / each_of_them;
        const bool is_same = lowest == least;
        u32 from = 0, to = 0xffffffff;
        if (count < equals && !keeps_equals) {
            const u64 place = highest_first ? equals - count : count - 1;
            u32 end;
            if (in_list) {
                const u64 before = list.sum([&](u32 i, float z) {
                    return (u64)(z > lowest || (z == lowest && is_same && i < first));
                });
                end = list.index((u32)(before + place));
            } else {
                end = locate(0, logits.cols, place, [&](u32 i, float z) {
                    return (u64)(z == lowest && is_kept(i, z));
                });
            }
            from = highest_first ? end : 0;
            to = highest_first ? 0xffffffff : end;
        }
        first = is_same && first > from ? first : from;
        last = is_same && last < to ? last : to;
        least = lowest;
    }

    // Returns the logit at which the running sum of the kept tokens' amounts reaches `needed`. `reached` becomes the
    // sum over the tokens with larger logits, and `at_end` the sum over the tokens with this logit. Reads the row once
    // for each byte of `key_of`.
    DEVICE float search(u64 needed, u64& reached, u64& at_end, const Amount& amount) {
        u64* const sums = shared.list;
        u32 digits = 0;
        reached = 0;
        ROLLED
        for (u32 shift = 32; shift > 0;) {
            shift -= 8;
            __syncthreads();
            if (threadIdx.x < 256) {
                sums[threadIdx.x] = 0;
            }
            __syncthreads();
            each([&](u32 i, float z) {
                const u32 key = key_of(z);
                if ((u64)key >> (shift + 8) == digits && is_kept(i, z)) {
                    atomicAdd(&sums[key >> shift & 255], amount_of(z, amount));
                }
            });
            __syncthreads();
            find_digit(shared, sums, needed, reached);
            __syncthreads();
            reached = shared.reached;
            digits = digits << 8 | shared.digit;
        }
        at_end = shared.at_end;
        return logit_of(digits);
    }

    // Keeps the tokens whose mass is at least `least_mass`. `least_mass` must not exceed the largest mass.
    DEVICE void cut_below(u64 least_mass) {
        const float lowest = masses.lowest(least_mass, inverse);
        if (lowest > least) {
            least = lowest;
            first = 0;
            last = 0xffffffff;
        }
    }

    // Applies a filter. `heat` is 1 / temperature if the first filter sets a temperature, and 1 otherwise.
    DEVICE void filter(const SampleFilter& filter, bool is_lead, double heat) {
        if (filter.kind == TEMPERATURE) {
            inverse = filter.value;
            return;
        }
        has_outside = false;
        if (filter.kind == MIN_P && filter.value <= 1.0) {
            cut_below(ceil_of_product(filter.value, masses.one()));
            return;
        }
        const Amount amount = {filter.kind == TOP_P, inverse};
        const bool is_prepared = HAS_PARTS && is_lead && plan.kind == LIST_FROM_BINS;
        // Mass of all tokens at 1 / temperature = `heat`.
        u64 all = 0;
        const bool of_all = amount.is_mass && filter.flags & 2;
        if (of_all && !(is_prepared && least == LOWEST && heat == inverse)) {
            all = sum([&](u32, float z) { return z != -INFINITE ? mass(z, heat) : 0; });
        }
        const u64 k = filter.kind == TOP_K ? (u64)filter.value : 1;
        is_listed = is_listed || (!is_prepared && list_largest(amount.is_mass ? ~0ull : k));
        const u64 kept = is_listed
            ? list.sum([&](u32 i, float z) { return is_kept(i, z) ? amount_of(z, amount) : 0; })
            : is_prepared ? load_bins(amount) : fill_bins(amount);
        const u64 needed = amount.is_mass ? ceil_of_product(filter.value, all > 0 ? all : kept) : k;
        // The call of `shorten` is necessary even if `needed` equals `kept`, because `shorten` excludes the tokens that
        // are not listed.
        if (needed <= kept) {
            shorten(needed, is_prepared, !amount.is_mass && filter.flags & 1, amount.is_mass && filter.flags & 1,
                    amount);
        }
    }

    // Draws a kept token with probability proportional to its mass.
    DEVICE SampleOutcome draw(u64 random) {
        // All tokens whose logit is +inf have the same mass.
        const auto mass_of = [&](u32 i, float z) {
            return !is_kept(i, z) ? 0 : top == INFINITE ? masses.one() : mass(z, inverse);
        };
        __syncthreads();
        if (is_listed) {
            shared.runs[threadIdx.x] = 0;
            outside = 0;
        } else if (!has_outside || outside_inverse != inverse) {
            list.count = 0;
            if (HAS_PARTS && plan.kind == SUMS_OF_RUNS) {
                load_sums();
            } else {
                u32 own = 0;
                sum([&](u32 i, float z) {
                    own += is_kept(i, z);
                    return mass_of(i, z);
                });
                keep_sums(own);
            }
        }
        __syncthreads();
        ROLLED
        for (u32 i = threadIdx.x; i < list.count; i += THREADS) {
            const u32 token = list.index(i);
            atomicAdd(&shared.runs[runs.of(logits, token)], mass_of(token, list.logit(i)));
        }
        const u64 kept = outside + list.sum([&](u32 i, float z) { return (u64)is_kept(i, z); });
        // The drawn token is in the run in which the running sum of the masses exceeds the target. If another kernel
        // changes the logits meanwhile, there may be no such run.
        if (threadIdx.x == 0) {
            shared.digit = 0;
            shared.reached = 0;
        }
        u64 total;
        const u64 own = threadIdx.x < runs.count ? shared.runs[threadIdx.x] : 0;
        const u64 before = sum_before<WARPS>(own, shared.sums, total);
        const u64 target = __umul64hi(random, total);
        if (before <= target && target < before + own) {
            shared.digit = threadIdx.x;
            shared.reached = target - before;
        }
        __syncthreads();
        const u32 run = shared.digit;
        const u64 above = shared.reached;
        const u32 token = locate(runs.start(logits, run), runs.start(logits, run + 1), above, mass_of);
        return {DRAWN, token, (u32)kept, 0};
    }

    // Finds the extremes of the logits. The largest is NaN if there is a NaN.
    DEVICE void survey(u32 parts) {
        own_top = -INFINITE;
        if (HAS_PARTS) {
            const Extremes extremes(*work, parts);
            top = extremes.top;
            bottom = extremes.bottom;
            return;
        }
        float lowest = INFINITE;
        each([&](u32, float z) {
            own_top = max_or_nan(own_top, z);
            lowest = fminf(lowest, z);
        });
        const auto largest = [](float own, u32 distance) {
            for (; distance > 0; distance /= 2) {
                own = max_or_nan(own, lane_beside(own, distance));
            }
            return own;
        };
        __syncthreads();
        top = over_block<WARPS>(own_top, shared.floats, largest);
        __syncthreads();
        bottom = -over_block<WARPS>(-lowest, shared.floats, largest);
    }

    // Returns the index of the first NaN. There must be one.
    DEVICE u32 first_nan() {
        u32 own = 0xffffffff;
        each([&](u32 i, float z) { own = z != z && i < own ? i : own; });
        __syncthreads();
        return over_block<WARPS>(own, shared.words, [](u32 own, u32 distance) {
            for (; distance > 0; distance /= 2) {
                const u32 beside = lane_beside(own, distance);
                own = beside < own ? beside : own;
            }
            return own;
        });
    }
};
