// Filters of the sampler, and the draw. A filter keeps a prefix of the tokens, ordered by logit, and by index among
// equal logits.
//
// The whole row is not sorted. If few tokens can be kept, they are listed and sorted in shared memory, and only the
// draw reads the row again. If many are kept, a histogram of the logits leaves few tokens undecided, which are listed
// and sorted. If the undecided tokens are too many for the list, a radix search finds the end of the prefix, with one
// pass over the row for each byte of the logits.
#pragma once
#include "sample_row.cuh"

// Quantity that a filter sums over tokens: masses at 1 / temperature = `inverse`, or counts.
struct Amount {
    bool is_mass;
    double inverse;
};

// Tokens of a row that the filters have kept so far.
template <class S, u32 WARPS>
struct SampleRow {
    static const u32 THREADS = WARPS * WARP;
    const LogitRow<S, WARPS> logits;
    SampleShared<WARPS>& shared;
    Candidates<WARPS> list;
    // Largest and smallest logit of the row, and the largest logit among this thread's tokens.
    float top, bottom, own_top;
    double max, inverse; // Largest logit, and 1 / temperature
    // Kept prefix: all logits above `least`, and those equal to `least` at indices `first..=last`.
    float least;
    u32 first, last;
    // `is_listed`: the list holds every kept token. `has_outside`: for the kept tokens outside the list, `outside` is
    // their number, and `shared.outside` are their masses at 1 / temperature = `outside_inverse`.
    bool is_listed, has_outside;
    double outside_inverse;
    u64 outside;
    // Number of bins per unit of the logits, and size of a bin.
    float bins_per_unit;
    double bin_size;

    DEVICE SampleRow(const SampleArguments& a, const SampleRequest& request, u64 row, SampleShared<WARPS>& shared)
        : logits((const typename S::Bits*)a.logits + row * a.cols, (const u32*)request.allowed, a.cols), shared(shared),
          list{shared, 0}, max(0.0), inverse(1.0), least(float_of(0xff7fffff)), first(0), last(0xffffffff),
          is_listed(false), has_outside(false), outside_inverse(1.0), outside(0) {}

    DEVICE u64 one() const { return (u64)1 << (logits.cols <= 1u << 18 ? 45 : 42); }

    // Returns the mass of a token; `below` is its logit minus the largest.
    DEVICE u64 mass_below(double below, double inverse) const {
        const float e = weight_of(shared.tables, below * inverse);
        const double SHIFTER = 4503599627370496.0; // 2^52
        return (u64)(__double_as_longlong((double)e * (double)one() + SHIFTER) - __double_as_longlong(SHIFTER));
    }
    DEVICE u64 mass(float z, double inverse) const { return mass_below((double)z - max, inverse); }
    DEVICE u64 amount_of(float z, const Amount& amount) const { return amount.is_mass ? mass(z, amount.inverse) : 1; }
    DEVICE bool is_kept(u32 i, float z) const {
        return z > least || (z == least && first <= i && i <= last);
    }

    // Returns the sum of `of(index, logit)` over the row. The sums of the warps' parts stay in `shared.sums`.
    template <class Term>
    DEVICE u64 sum(Term of) {
        u64 own = 0;
        logits.each([&](u32 i, float z) { own += of(i, z); });
        return sum_of_block<WARPS>(own, shared.sums);
    }

    // Returns the first index in `from..to` at which the running sum of `of` exceeds `above`. There must be such an
    // index.
    template <class Term>
    DEVICE u32 locate(u32 from, u32 to, u64 above, Term of) {
        ROLLED
        while (to - from > 1) {
            const u32 len = (to - from + WARPS - 1) / WARPS;
            const u32 own_from = from + threadIdx.x / WARP * len;
            const u32 own_to = own_from + len < to ? own_from + len : to;
            u64 own = 0;
            ROLLED
            for (u32 i = own_from + threadIdx.x % WARP; i < own_to; i += 4 * WARP) {
                // Reads four logits before it uses one.
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
        return from;
    }

    // Lists all tokens of a short row, or at least the `k` largest of a long row. For a long row, returns false if `k`
    // is too large, or if too many other tokens would be listed.
    DEVICE bool list_largest(u64 k) {
        float from = float_of(0xff7fffff);
        if (logits.cols > MOST_LISTED) {
            if (k > THREADS / 2) {
                return false;
            }
            // Each thread has a largest logit. At least k tokens reach the k-th largest of these: the largest tokens of
            // k threads.
            __syncthreads();
            shared.list[threadIdx.x] = (u64)key_of(own_top) << 32;
            list.count = THREADS;
            list.sort();
            from = fmaxf(from, list.logit((u32)k - 1));
        }
        list.clear();
        logits.each([&](u32 i, float z) {
            if (z >= from) {
                list.add(i, z);
            }
        });
        return list.complete();
    }

    DEVICE u32 bin_of(float z) const {
        const float INTEGERS = 8388608.0f; // 2^23
        return bits_of(fminf((top - z) * bins_per_unit, (float)(BINS - 1)) + INTEGERS) % BINS;
    }

    // Counts the kept tokens in bins of logits. Returns the sum of their amounts.
    DEVICE u64 fill_bins(const Amount& amount) {
        // Tokens far below the largest have no mass.
        const double span = (double)top - (double)bottom, reach = 32.0 / inverse;
        bin_size = (span < reach ? span : reach) / (double)(BINS - 2);
        bins_per_unit = bin_size > 1e-30 ? (float)(1.0 / bin_size) : 1e30f;
        __syncthreads();
        for (u32 bin = threadIdx.x; bin < BINS; bin += THREADS) {
            shared.bins[bin] = 0;
        }
        __syncthreads();
        return sum([&](u32 i, float z) {
            if (!is_kept(i, z)) {
                return (u64)0;
            }
            atomicAdd(&shared.bins[bin_of(z)], 1u);
            return amount_of(z, amount);
        });
    }

    // Finds the bins in which the running sum of the amounts may reach `needed`. Estimates the sum from the bins'
    // counts, to within `slack`. `off` is the error of the previous estimate.
    DEVICE void find_bins(u64 needed, u64 off, u64 slack, const Amount& amount) {
        const u32 SHARE = BINS / THREADS;
        u64 own[SHARE], upto = 0;
        for (u32 i = 0; i < SHARE; i++) {
            const u32 bin = threadIdx.x * SHARE + i;
            const u64 center = amount.is_mass ? mass_below(-(double)bin * bin_size, amount.inverse) : 1;
            own[i] = shared.bins[bin] * center;
            upto += own[i];
        }
        upto = sum_before<WARPS>(upto, shared.sums);
        // Unsigned sums wrap, so `off` may be negative.
        const u64 from = (long long)(needed + off - slack) > 1 ? needed + off - slack : 1;
        const u64 to = (long long)(needed + off + slack) > 1 ? needed + off + slack : 1;
        for (u32 i = 0; i < SHARE; i++) {
            const u32 bin = threadIdx.x * SHARE + i;
            const u64 before = upto;
            upto += own[i];
            const bool is_end = bin == BINS - 1;
            if (before < from && (from <= upto || is_end)) {
                shared.first_bin = bin;
                shared.before_bins = before;
            }
            if (before < to && (to <= upto || is_end)) {
                shared.last_bin = bin;
                shared.after_bins = upto;
            }
        }
        __syncthreads();
    }

    // Lists the kept tokens of the bins in which the running sum of the amounts reaches `needed`. `base` becomes the
    // sum over the tokens above these bins. Returns false if too many tokens would be listed, or if three estimates
    // miss the bins.
    DEVICE bool list_around(u64 needed, u64& base, const Amount& amount) {
        u64 off = 0;
        ROLLED
        for (u32 attempt = 0; attempt < 3; attempt++) {
            find_bins(needed, off, amount.is_mass ? needed >> 9 : 0, amount);
            const u32 first_bin = shared.first_bin, last_bin = shared.last_bin;
            list.clear();
            u32 above = 0;
            base = sum([&](u32 i, float z) {
                const u32 bin = bin_of(z);
                if (bin > last_bin || !is_kept(i, z)) {
                    return (u64)0;
                }
                if (bin >= first_bin) {
                    list.add(i, z);
                    return (u64)0;
                }
                above++;
                return amount_of(z, amount);
            });
            if (threadIdx.x < WARPS) {
                shared.outside[threadIdx.x] = shared.sums[threadIdx.x];
            }
            outside = sum_of_block<WARPS>(above, shared.sums);
            if (!list.complete()) {
                return false;
            }
            const u64 upto = base + list.sum([&](u32, float z) { return amount_of(z, amount); });
            if (base < needed && needed <= upto) {
                return true;
            }
            off = needed <= base ? shared.before_bins - base : shared.after_bins - upto;
        }
        return false;
    }

    // Keeps the shortest prefix in which the sum of the amounts reaches `needed`. The sum over all kept tokens must
    // reach `needed`. Unless all kept tokens are listed, `fill_bins` must have counted them.
    DEVICE void shorten(u64 needed, bool keeps_equals, bool highest_first, const Amount& amount) {
        u64 base = 0, reached, at_end;
        float lowest;
        const bool in_list = is_listed || list_around(needed, base, amount);
        has_outside = in_list && !is_listed && amount.is_mass;
        outside_inverse = inverse;
        if (in_list) {
            const auto kept = [&](u32 i, float z) { return is_kept(i, z) ? amount_of(z, amount) : 0; };
            lowest = list.reach(needed - base, kept);
            reached = base + list.sum([&](u32 i, float z) { return z > lowest ? kept(i, z) : 0; });
            at_end = list.sum([&](u32 i, float z) { return z == lowest ? kept(i, z) : 0; });
        } else {
            lowest = search(needed, reached, at_end, amount);
        }
        // Keeps only as many tokens with the lowest kept logit as are needed.
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
    // sum before this logit, and `at_end` the sum of the tokens with this logit. Reads the row once for each byte of
    // `key_of`.
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
            logits.each([&](u32 i, float z) {
                const u32 key = key_of(z);
                if ((u64)key >> (shift + 8) == digits && is_kept(i, z)) {
                    atomicAdd(&sums[key >> shift & 255], amount_of(z, amount));
                }
            });
            __syncthreads();
            find_digit(sums, needed, reached);
            __syncthreads();
            reached = shared.reached;
            digits = digits << 8 | shared.digit;
        }
        at_end = shared.at_end;
        return logit_of(digits);
    }

    // Finds the byte at which the running sum reaches `needed`. The running sum starts at `reached`, and adds the
    // `sums` of all bytes from 255 down. Only the first warp computes it.
    DEVICE void find_digit(const u64* sums, u64 needed, u64 reached) {
        if (threadIdx.x >= WARP) {
            return;
        }
        const u32 lane = threadIdx.x;
        u64 own = 0;
        for (u32 i = 0; i < 8; i++) {
            own += sums[255 - lane * 8 - i];
        }
        u64 upto = own;
        for (u32 distance = 1; distance < WARP; distance *= 2) {
            const u64 before = __shfl_sync(0xffffffffu, upto, (lane - distance) % WARP);
            upto += lane >= distance ? before : 0;
        }
        reached += upto - own;
        if (reached < needed && reached + own >= needed) {
            u32 digit = 255 - lane * 8;
            while (reached + sums[digit] < needed) {
                reached += sums[digit];
                digit--;
            }
            shared.reached = reached;
            shared.digit = digit;
            shared.at_end = sums[digit];
        }
    }

    // Keeps the tokens of at least `least_mass`, which must not exceed the largest mass. A binary search over the
    // logits finds the limit, because a larger logit never has a smaller mass.
    DEVICE void cut_below(u64 least_mass) {
        u32 from = key_of(-INFINITE) + 1, to = key_of(top);
        ROLLED
        while (from < to) {
            const u32 middle = from + (to - from) / 2;
            const bool is_heavy = mass(logit_of(middle), inverse) >= least_mass;
            from = is_heavy ? from : middle + 1;
            to = is_heavy ? middle : to;
        }
        if (logit_of(from) > least) {
            least = logit_of(from);
            first = 0;
            last = 0xffffffff;
        }
    }

    DEVICE void filter(const SampleFilter& filter, u64 all) {
        if (filter.kind == TEMPERATURE) {
            inverse = filter.value;
            return;
        }
        has_outside = false;
        if (filter.kind == MIN_P && filter.value <= 1.0) {
            cut_below(ceil_of_product(filter.value, one()));
            return;
        }
        const Amount amount = {filter.kind == TOP_P, inverse};
        const u64 k = filter.kind == TOP_K ? (u64)filter.value : 1;
        is_listed = is_listed || list_largest(amount.is_mass ? ~0ull : k);
        const u64 kept = is_listed
            ? list.sum([&](u32 i, float z) { return is_kept(i, z) ? amount_of(z, amount) : 0; })
            : fill_bins(amount);
        const u64 needed = amount.is_mass ? ceil_of_product(filter.value, filter.flags & 2 ? all : kept) : k;
        // `shorten` also excludes tokens that are not listed, so it is called even if all `kept` tokens are needed.
        if (needed <= kept) {
            shorten(needed, !amount.is_mass && filter.flags & 1, amount.is_mass && filter.flags & 1, amount);
        }
    }

    // Draws a kept token with probability proportional to its mass.
    DEVICE SampleOutcome draw(u64 random) {
        // All tokens whose logit is +inf have the same mass.
        const auto mass_of = [&](u32 i, float z) {
            return !is_kept(i, z) ? 0 : top == INFINITE ? one() : mass(z, inverse);
        };
        if (is_listed) {
            __syncthreads();
            if (threadIdx.x < WARPS) {
                shared.outside[threadIdx.x] = 0;
            }
            outside = 0;
        } else if (!has_outside || outside_inverse != inverse) {
            list.count = 0;
            u32 own = 0;
            sum([&](u32 i, float z) {
                own += is_kept(i, z);
                return mass_of(i, z);
            });
            if (threadIdx.x < WARPS) {
                shared.outside[threadIdx.x] = shared.sums[threadIdx.x];
            }
            outside = sum_of_block<WARPS>(own, shared.sums);
        }
        const u64 kept = outside + list.sum([&](u32 i, float z) { return (u64)is_kept(i, z); });
        // Returns the mass of the kept tokens in the parts of the warps before `warp`.
        const auto before = [&](u32 warp) {
            const u32 end = logits.start(warp);
            u64 mass = list.sum([&](u32 i, float z) { return i < end ? mass_of(i, z) : 0; });
            ROLLED
            for (u32 i = 0; i < warp; i++) {
                mass += shared.outside[i];
            }
            return mass;
        };
        // The drawn token is in the part of the row that warp `part` reads. `below` is the mass before that part.
        u32 part = 0;
        u64 target = 0, below = 0;
        ROLLED
        for (u32 step = WARPS; step > 0; step /= 2) {
            const u64 mass = before(part + step);
            if (step == WARPS) {
                target = __umul64hi(random, mass);
            } else if (mass <= target) {
                below = mass;
                part += step;
            }
        }
        const u32 token = locate(logits.start(part), logits.start(part + 1), target - below, mass_of);
        return {DRAWN, token, (u32)kept, 0};
    }

    // Finds the extremes of the logits. The largest is NaN if there is a NaN.
    DEVICE void survey() {
        own_top = -INFINITE;
        float lowest = INFINITE;
        logits.each([&](u32, float z) {
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
        max = (double)top;
    }

    // Returns the index of the first NaN. There must be one.
    DEVICE u32 first_nan() {
        u32 own = 0xffffffff;
        logits.each([&](u32 i, float z) { own = z != z && i < own ? i : own; });
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
