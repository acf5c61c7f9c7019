// Filters of the sampler and the draw. A filter keeps a prefix of the tokens, ordered by logit, and by index among equal
// logits.
//
// The whole row is not sorted. Where few tokens can be kept, they are listed and sorted in shared memory, and the row is
// not read again. Where many are kept, a histogram of the logits leaves few tokens undecided, which are listed and
// sorted. If those are too many for the list, a radix search finds the end of the prefix, with one pass over the row for
// each byte of the logits.
#pragma once
#include "sample_row.cuh"

// Tokens of a row that the filters have kept so far.
template <class S, u32 WARPS>
struct SampleRow {
    static const u32 THREADS = WARPS * WARP;
    const LogitRow<S, WARPS> logits;
    SampleShared<WARPS>& shared;
    Candidates<WARPS> list;
    // Largest and smallest logit above -inf, and the largest of this thread.
    float top, bottom, own_top;
    double max, inverse; // Largest logit, and 1 / temperature
    // Kept prefix: all keys above `least`, and those equal to `least` at indices `first..=last`.
    u32 least, first, last;
    // Smallest mass that min-p keeps, computed at 1 / temperature = `cut_inverse`.
    u64 cut;
    double cut_inverse;
    // Whether the list holds every kept token. Otherwise, `has_outside` tells whether it holds those that are not counted
    // by `outside` and `shared.outside`, at 1 / temperature = `outside_inverse`.
    bool is_listed, has_outside;
    double outside_inverse;
    u64 outside;
    // Number of bins per unit of the logits, and size of a bin.
    float bins_per_unit;
    double bin_size;

    DEVICE SampleRow(const SampleArguments& a, const SampleRequest& request, u64 row, SampleShared<WARPS>& shared)
        : logits((const typename S::Bits*)a.logits + row * a.cols, (const u32*)request.allowed, a.cols), shared(shared),
          list{shared, 0}, max(0.0), inverse(1.0), least(0), first(0), last(0xffffffff), cut(0), cut_inverse(1.0),
          is_listed(false), has_outside(false), outside_inverse(1.0), outside(0) {}

    DEVICE u64 one() const { return (u64)1 << (logits.cols <= 1u << 18 ? 45 : 42); }

    // Mass of a token whose logit is `below` the largest.
    DEVICE u64 mass_below(double below, double inverse) const {
        const float e = weight_of(below * inverse);
        const double SHIFTER = 4503599627370496.0; // 2^52
        return (u64)(__double_as_longlong((double)e * (double)one() + SHIFTER) - __double_as_longlong(SHIFTER));
    }
    DEVICE u64 mass(float z, double inverse) const { return mass_below((double)z - max, inverse); }
    DEVICE bool is_kept(u32 i, u32 key) const {
        return key != key_of(-INFINITE) && (key > least || (key == least && first <= i && i <= last)) &&
               (cut == 0 || mass(logit_of(key), cut_inverse) >= cut);
    }

    // Returns the sum of `of(index, logit)` over the row. The sums of the warps' parts stay in `shared.sums`.
    template <class Term>
    DEVICE u64 sum(Term of) {
        u64 own = 0;
        logits.each([&](u32 i, float z) { own += of(i, z); });
        return sum_of_block<WARPS>(own, shared.sums);
    }

    // Returns the first token from `from` on, in order of index, at which the running sum of `of` exceeds `above`. The sum
    // must exceed it before `to`.
    template <class Term>
    DEVICE u32 locate(u32 from, u32 to, u64 above, Term of) {
        ROLLED
        while (to - from > 1) {
            const u32 len = (to - from + WARPS - 1) / WARPS;
            const u32 own_from = from + threadIdx.x / WARP * len;
            const u32 own_to = own_from + len < to ? own_from + len : to;
            u64 own = 0;
            for (u32 i = own_from + threadIdx.x % WARP; i < own_to; i += WARP) {
                own += of(i, logits.logit(i));
            }
            sum_of_block<WARPS>(own, shared.sums);
            u32 warp = 0;
            while (warp + 1 < WARPS && shared.sums[warp] <= above) {
                above -= shared.sums[warp];
                warp++;
            }
            from += warp * len;
            to = from + len < to ? from + len : to;
        }
        return from;
    }

    // Lists the tokens for which `is_listed(index, key)` is true. Returns false if they are too many.
    template <class Wanted>
    DEVICE bool list_all(Wanted is_wanted) {
        list.clear();
        logits.each([&](u32 i, float z) {
            const u32 key = key_of(z);
            if (is_wanted(i, key)) {
                list.add(i, key);
            }
        });
        return list.complete();
    }

    // Lists all tokens of a short row. Of a long row, it lists at least the `k` largest, if k is small. Returns false if
    // k is too large, or if too many other tokens would be listed.
    DEVICE bool list_largest(u64 k) {
        u32 from = key_of(-INFINITE) + 1;
        if (logits.cols > MOST_LISTED) {
            if (k > THREADS / 2) {
                return false;
            }
            // The k threads with the largest logits have k tokens that are not below the k-th of these logits.
            __syncthreads();
            shared.list[threadIdx.x] = (u64)key_of(own_top) << 32;
            list.count = THREADS;
            list.sort();
            const u32 least_key = list.key((u32)k - 1);
            from = from > least_key ? from : least_key;
        }
        return list_all([&](u32, u32 key) { return key >= from; });
    }

    DEVICE u32 bin_of(float z) const {
        const float INTEGERS = 8388608.0f; // 2^23
        return bits_of(fminf((top - z) * bins_per_unit, (float)(BINS - 1)) + INTEGERS) % BINS;
    }

    // Counts the kept tokens in bins of logits. Returns the sum of `amount`.
    template <class Amount>
    DEVICE u64 fill_bins(Amount amount) {
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
            const u32 key = key_of(z);
            if (!is_kept(i, key)) {
                return (u64)0;
            }
            atomicAdd(&shared.bins[bin_of(z)], 1u);
            return amount(key);
        });
    }

    // Finds the bins in which the running sum of `amount` reaches `needed`, as far as counts tell. `center` returns the
    // amount of a token in the middle of a bin. `off` is the error of an earlier estimate.
    template <class Center>
    DEVICE void find_bins(u64 needed, u64 off, u64 slack, Center center) {
        const u32 SHARE = BINS / THREADS;
        u64 own[SHARE], upto = 0;
        for (u32 i = 0; i < SHARE; i++) {
            const u32 bin = threadIdx.x * SHARE + i;
            own[i] = shared.bins[bin] * center(bin);
            upto += own[i];
        }
        upto = sum_before<WARPS>(upto, shared.sums);
        // Sums wrap, so that an error may be negative.
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

    // Lists the kept tokens in whose bins the running sum of `amount` reaches `needed`. `base` becomes the sum over the
    // tokens above them. Returns false if too many would be listed.
    template <class Amount, class Center>
    DEVICE bool list_around(u64 needed, bool is_exact, u64& base, Amount amount, Center center) {
        u64 off = 0;
        ROLLED
        for (u32 attempt = 0; attempt < 3; attempt++) {
            find_bins(needed, off, is_exact ? 0 : needed >> 9, center);
            const u32 first_bin = shared.first_bin, last_bin = shared.last_bin;
            list.clear();
            u32 above = 0;
            base = sum([&](u32 i, float z) {
                const u32 key = key_of(z), bin = bin_of(z);
                if (bin > last_bin || !is_kept(i, key)) {
                    return (u64)0;
                }
                if (bin >= first_bin) {
                    list.add(i, key);
                    return (u64)0;
                }
                above++;
                return amount(key);
            });
            if (threadIdx.x < WARPS) {
                shared.outside[threadIdx.x] = shared.sums[threadIdx.x];
            }
            outside = sum_of_block<WARPS>(above, shared.sums);
            if (!list.complete()) {
                return false;
            }
            const u64 upto = base + list.sum([&](u32, u32 key) { return amount(key); });
            if (base < needed && needed <= upto) {
                return true;
            }
            off = needed <= base ? shared.before_bins - base : shared.after_bins - upto;
        }
        return false;
    }

    // Keeps the shortest prefix in which the sum of `amount` reaches `needed`. The sum over all kept tokens must reach
    // it. Unless all kept tokens are listed, `fill_bins` must have counted them.
    template <class Amount, class Center>
    DEVICE void shorten(u64 needed, bool keeps_equals, bool highest_first, bool is_exact, Amount amount, Center center) {
        u64 base = 0, reached, at_end;
        u32 least_key;
        const bool in_list = is_listed || list_around(needed, is_exact, base, amount, center);
        has_outside = in_list && !is_listed && !is_exact;
        outside_inverse = inverse;
        if (in_list) {
            const auto kept = [&](u32 i, u32 key) { return is_kept(i, key) ? amount(key) : 0; };
            least_key = list.reach(needed - base, kept);
            reached = base + list.sum([&](u32 i, u32 key) { return key > least_key ? kept(i, key) : 0; });
            at_end = list.sum([&](u32 i, u32 key) { return key == least_key ? kept(i, key) : 0; });
        } else {
            search(needed, least_key, reached, at_end, amount);
        }
        // Keeps only as many tokens with the lowest kept logit as are needed.
        const u64 each_of_them = amount(least_key);
        const u64 count = (needed - reached + each_of_them - 1) / each_of_them;
        const u64 equals = at_end / each_of_them;
        const bool is_same = least_key == least;
        u32 from = 0, to = 0xffffffff;
        if (count < equals && !keeps_equals) {
            const u64 place = highest_first ? equals - count : count - 1;
            u32 end;
            if (in_list) {
                const u64 before = list.sum([&](u32 i, u32 key) {
                    return (u64)(key > least_key || (key == least_key && is_same && i < first));
                });
                end = list.index((u32)(before + place));
            } else {
                end = locate(0, logits.cols, place, [&](u32 i, float z) {
                    return (u64)(key_of(z) == least_key && is_kept(i, key_of(z)));
                });
            }
            from = highest_first ? end : 0;
            to = highest_first ? 0xffffffff : end;
        }
        first = is_same && first > from ? first : from;
        last = is_same && last < to ? last : to;
        least = least_key;
    }

    // Finds the key at which the sum of `amount` over the kept tokens reaches `needed`, the sum before it, and the sum of
    // the tokens with this key. Reads the row once for each byte of the key.
    template <class Amount>
    DEVICE void search(u64 needed, u32& digits, u64& reached, u64& at_end, Amount amount) {
        u64* const sums = shared.list;
        reached = 0;
        digits = 0;
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
                if ((u64)key >> (shift + 8) == digits && is_kept(i, key)) {
                    atomicAdd(&sums[key >> shift & 255], amount(key));
                }
            });
            __syncthreads();
            find_digit(sums, needed, reached);
            __syncthreads();
            reached = shared.reached;
            digits = digits << 8 | shared.digit;
        }
        at_end = shared.at_end;
    }

    // Finds the byte at which the sum reaches `needed`. The sum starts at `reached` and adds `sums` from the last one
    // down. Only the first warp computes it.
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

    // Returns the sum of `amount` over the kept tokens, and counts them in bins unless they are listed.
    template <class Amount>
    DEVICE u64 total(Amount amount) {
        return is_listed ? list.sum([&](u32 i, u32 key) { return is_kept(i, key) ? amount(key) : 0; })
                         : fill_bins(amount);
    }

    DEVICE void filter(const SampleFilter& filter, u64 all) {
        if (filter.kind == TEMPERATURE) {
            inverse = filter.value;
            return;
        }
        has_outside = false;
        const double heat = inverse;
        if (filter.kind == TOP_K || (filter.kind == MIN_P && filter.value > 1.0)) {
            const u64 k = filter.kind == TOP_K ? (u64)filter.value : 1;
            is_listed = is_listed || list_largest(k);
            const auto count_of = [](u32) { return (u64)1; };
            // Shortens a prefix of k tokens too, because tokens that are not listed must not count as kept.
            if (k <= total(count_of)) {
                shorten(k, filter.flags & 1, false, true, count_of, count_of);
            }
        } else if (filter.kind == TOP_P) {
            is_listed = is_listed || (logits.cols <= MOST_LISTED && list_largest(0));
            const auto mass_of = [&](u32 key) { return mass(logit_of(key), heat); };
            const u64 kept = total(mass_of);
            const u64 needed = ceil_of_product(filter.value, filter.flags & 2 ? all : kept);
            if (needed <= kept) {
                shorten(needed, false, filter.flags & 1, false, mass_of,
                        [&](u32 bin) { return mass_below(-(double)bin * bin_size, heat); });
            }
        } else {
            cut = ceil_of_product(filter.value, one());
            cut_inverse = inverse;
        }
    }

    // Draws a kept token with probability proportional to its mass.
    DEVICE SampleOutcome draw(u64 random) {
        const auto mass_of = [&](u32 i, u32 key) { return is_kept(i, key) ? mass(logit_of(key), inverse) : 0; };
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
                const u32 key = key_of(z);
                if (!is_kept(i, key)) {
                    return (u64)0;
                }
                own++;
                return mass(z, inverse);
            });
            if (threadIdx.x < WARPS) {
                shared.outside[threadIdx.x] = shared.sums[threadIdx.x];
            }
            outside = sum_of_block<WARPS>(own, shared.sums);
        }
        const u64 kept = outside + list.sum([&](u32 i, u32 key) { return (u64)is_kept(i, key); });
        // Returns the mass of the warps before `warp`.
        const auto before = [&](u32 warp) {
            const u32 end = logits.start(warp);
            u64 mass = list.sum([&](u32 i, u32 key) { return i < end ? mass_of(i, key) : 0; });
            for (u32 i = 0; i < warp; i++) {
                mass += shared.outside[i];
            }
            return mass;
        };
        const u64 target = __umul64hi(random, before(WARPS));
        // The token is in the part of warp `part`. The mass before that part is `below`.
        u32 part = 0;
        u64 below = 0;
        ROLLED
        for (u32 step = WARPS / 2; step > 0; step /= 2) {
            const u64 mass = before(part + step);
            below = mass <= target ? mass : below;
            part += mass <= target ? step : 0;
        }
        const u32 token = locate(logits.start(part), logits.start(part + 1), target - below,
                                 [&](u32 i, float z) { return mass_of(i, key_of(z)); });
        return {DRAWN, token, (u32)kept, 0};
    }

    // Finds the extremes of the logits. Returns whether there is a NaN, and whether there is a penalised token outside the
    // vocabulary, as bits 0 and 1.
    DEVICE u32 survey(const SampleRequest& request) {
        own_top = -INFINITE;
        float lowest = INFINITE;
        u32 nan = 0, unknown = 0;
        logits.each([&](u32, float z) {
            own_top = fmaxf(own_top, z);
            lowest = z > -INFINITE ? fminf(lowest, z) : lowest;
            nan |= z != z;
        });
        for (u32 i = threadIdx.x; i < request.prompt_len + request.output_len; i += THREADS) {
            const bool is_prompt = i < request.prompt_len;
            const u32* from = (const u32*)(is_prompt ? request.prompt : request.output);
            unknown |= from[is_prompt ? i : i - request.prompt_len] >= logits.cols;
        }
        const auto largest = [](float own, u32 distance) {
            for (; distance > 0; distance /= 2) {
                own = fmaxf(own, lane_beside(own, distance));
            }
            return own;
        };
        __syncthreads();
        top = over_block<WARPS>(own_top, shared.floats, largest);
        __syncthreads();
        bottom = -over_block<WARPS>(-lowest, shared.floats, largest);
        max = (double)top;
        return over_block<WARPS>(nan | unknown << 1, shared.words, [](u32 own, u32 distance) {
            for (; distance > 0; distance /= 2) {
                own |= lane_beside(own, distance);
            }
            return own;
        });
    }
};
