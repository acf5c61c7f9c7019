// Row of logits as the sampler's kernels read it, sums over a block, and the list of candidate tokens.
#pragma once
#include "sample.cuh"

// Returns the sum over the threads of a block. The sums of the block's warps stay in `partial`.
template <u32 WARPS>
DEVICE u64 sum_of_block(u64 own, u64* partial) {
    __syncthreads();
    return over_block<WARPS>(own, partial, [](u64 own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            own += lane_beside(own, distance);
        }
        return own;
    });
}

// Returns the sum over the threads before this one. `total` becomes the sum over all threads.
template <u32 WARPS>
DEVICE u64 sum_before(u64 own, u64* partial, u64& total) {
    const u32 lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    u64 upto = own;
    for (u32 distance = 1; distance < WARP; distance *= 2) {
        const u64 before = __shfl_sync(0xffffffffu, upto, (lane - distance) % WARP);
        upto += lane >= distance ? before : 0;
    }
    __syncthreads();
    if (lane == WARP - 1) {
        partial[warp] = upto;
    }
    __syncthreads();
    const u64 of_warp = partial[lane % WARPS];
    u64 before = lane % WARPS < warp ? of_warp : 0;
    total = of_warp;
    for (u32 distance = WARPS / 2; distance > 0; distance /= 2) {
        before += lane_beside(before, distance);
        total += lane_beside(total, distance);
    }
    return before + upto - own;
}

// Finds the byte at which the running sum reaches `needed`. `sums` has a sum for each byte. The running sum starts at
// `reached`, and adds the bytes' sums from byte 255 down to byte 0. Only the first warp searches.
template <u32 WARPS>
DEVICE void find_digit(SampleShared<WARPS>& shared, const u64* sums, u64 needed, u64 reached) {
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

// Logits of a row, in pieces of sixteen aligned bytes, and the tokens that are allowed. The first and the last piece
// may extend beyond the row. A step of a warp reads one piece in each lane.
template <class S>
struct LogitRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT;
    static const u32 STEP_COLS = WARP * COUNT;
    // Number of lanes that together read a group of neighbouring columns, and number of such groups in a step.
    static const u32 GROUP = 8, GROUPS = WARP / GROUP;
    // Word in which all logits are -inf.
    static const u32 NOTHING = S::INFINITE_WORD | S::SIGNS;
    const Bits* x;
    const u32* allowed;
    const u32 cols;
    // Number of columns by which the first piece begins before the row.
    const u32 before;
    const u32 steps;

    DEVICE LogitRow(u64 logits, u32 cols, u64 allowed, u64 row)
        : x((const Bits*)logits + row * cols), allowed((const u32*)allowed), cols(cols),
          before((u32)((u64)x % 16) / (u32)sizeof(Bits)), steps((before + cols + STEP_COLS - 1) / STEP_COLS) {}

    // First column of a piece. For the columns before the row, the result wraps to a large number.
    DEVICE u32 column(u32 piece) const { return piece * COUNT - before; }

    DEVICE bool is_whole(u32 piece) const { return column(piece) < cols && cols - column(piece) >= COUNT; }

    // Reads a piece. Columns outside the row are -inf.
    DEVICE uint4 read(u32 piece) const {
        const u32 from = column(piece);
        if (is_whole(piece)) {
            return *(const uint4*)(x + from);
        }
        const u32 SHIFT = 128 / COUNT % 32, REST = (32 - SHIFT) % 32;
        uint4 words = {};
        ROLLED
        for (u32 i = COUNT; i > 0; i--) {
            const u32 at = from + i - 1;
            const u32 bits = at < cols ? x[at] : NOTHING >> REST;
            if (COUNT == 4) {
                words = {bits, words.x, words.y, words.z};
            } else {
                words = {words.x << SHIFT | bits, words.y << SHIFT | words.x >> REST,
                         words.z << SHIFT | words.y >> REST, words.w << SHIFT | words.z >> REST};
            }
        }
        return words;
    }

    // Writes -inf over the logits of tokens that are not allowed.
    DEVICE uint4 masked(u32 piece, uint4 words) const {
        const u32 from = column(piece);
        u32 bits = 0;
        if (from < cols) {
            bits = allowed[from / 32] >> (from % 32);
            if (from % 32 > 32 - COUNT && from / 32 < (cols - 1) / 32) {
                bits |= allowed[from / 32 + 1] << (32 - from % 32);
            }
        } else if (piece == 0) {
            bits = allowed[0] << before;
        }
        const auto keep = [&](u32 word, u32 bits) {
            const u32 mask = COUNT == 4 ? 0u - (bits & 1) : (bits & 1) * 0xffff | (bits >> 1 & 1) * 0xffff0000;
            return (word & mask) | (NOTHING & ~mask);
        };
        const u32 EACH = COUNT / 4;
        return {keep(words.x, bits), keep(words.y, bits >> EACH), keep(words.z, bits >> 2 * EACH),
                keep(words.w, bits >> 3 * EACH)};
    }

    // Returns the i-th logit of a piece.
    static DEVICE float of_piece(const uint4& v, u32 i) {
        const u32 word = i / (COUNT / 4), bits = word < 2 ? (word == 0 ? v.x : v.y) : word == 2 ? v.z : v.w;
        return i % (COUNT / 4) == 0 ? S::low_of(bits) : S::high_of(bits);
    }

    DEVICE float logit(u32 i) const {
        return !allowed || allowed[i / 32] >> (i % 32) & 1 ? S::widen(x[i]) : -INFINITE;
    }

    // In the warp's steps `from..to`, calls `f` with each piece that this lane reads, and with the piece's words. Two
    // pieces are loaded before the current piece is processed.
    template <class F>
    DEVICE void each_piece(u32 from, u32 to, F f) const {
        uint4 next = {}, second = {};
        const u32 end = to < steps ? to : steps;
        ROLLED
        for (u32 step = from; step < end + 2; step++) {
            const uint4 words = next;
            next = second;
            if (step < end) {
                second = read(step * WARP + threadIdx.x % WARP);
            }
            if (step >= from + 2) {
                const u32 piece = (step - 2) * WARP + threadIdx.x % WARP;
                f(piece, allowed ? masked(piece, words) : words);
            }
        }
    }

    // Calls `f` with the index and the logit of each token that this lane reads in the warp's steps `from..to`.
    template <class F>
    DEVICE void each(u32 from, u32 to, F f) const {
        each_piece(from, to, [&](u32 piece, uint4 words) {
            // Processes one word at a time, so that the code of `f` is not repeated for each element of the piece.
            ROLLED
            for (u32 word = 0; word < 4; word++) {
                const u32 index = column(piece) + word * (COUNT / 4);
                if (index < cols) {
                    f(index, S::low_of(words.x));
                }
                if (COUNT == 8 && index + 1 < cols) {
                    f(index + 1, S::high_of(words.x));
                }
                words = {words.y, words.z, words.w, 0};
            }
        });
    }
};

// Division of a row into runs of steps. A warp reads the steps of a run.
template <class S>
struct Runs {
    u32 count, share; // Number of runs, and of steps in a run

    DEVICE Runs(const LogitRow<S>& logits, u32 count) : count(count), share((logits.steps + count - 1) / count) {}

    // First column of a run.
    DEVICE u32 start(const LogitRow<S>& logits, u32 run) const {
        const u32 column = logits.column(run * share * WARP);
        return run == 0 ? 0 : column < logits.cols ? column : logits.cols;
    }
    DEVICE u32 of(const LogitRow<S>& logits, u32 index) const {
        return (index + logits.before) / (share * LogitRow<S>::STEP_COLS);
    }
};

// List of candidate tokens in shared memory.
template <u32 WARPS>
struct Candidates {
    SampleShared<WARPS>& shared;
    u32 count;

    DEVICE void clear() {
        __syncthreads();
        if (threadIdx.x == 0) {
            shared.listed = 0;
        }
        __syncthreads();
    }

    DEVICE void add(u32 index, float z) {
        const u32 place = atomicAdd(&shared.listed, 1u);
        if (place < MOST_LISTED) {
            shared.list[place] = (u64)key_of(z) << 32 | ~index;
        }
    }

    // Completes a list after all threads have added tokens. Returns false if there were too many tokens; the list is
    // then empty.
    DEVICE bool complete() {
        __syncthreads();
        return complete(shared.listed);
    }

    // Completes a list of `listed` tokens.
    DEVICE bool complete(u32 listed) {
        const bool fits = listed <= MOST_LISTED;
        count = fits ? listed : 0;
        sort();
        return fits;
    }

    // Sorts the list in descending order by a bitonic network.
    DEVICE void sort() {
        u32 size = 1;
        while (size < count) {
            size *= 2;
        }
        for (u32 i = count + threadIdx.x; i < size; i += WARPS * WARP) {
            shared.list[i] = 0;
        }
        ROLLED
        for (u32 run = 2; run <= size; run *= 2) {
            ROLLED
            for (u32 distance = run / 2; distance > 0; distance /= 2) {
                __syncthreads();
                ROLLED
                for (u32 pair = threadIdx.x; pair < size / 2; pair += WARPS * WARP) {
                    const u32 low = pair + (pair & ~(distance - 1)), high = low + distance;
                    const u64 a = shared.list[low], b = shared.list[high];
                    if ((a < b) == ((low & run) == 0)) {
                        shared.list[low] = b;
                        shared.list[high] = a;
                    }
                }
            }
        }
        __syncthreads();
    }

    DEVICE u32 key(u32 place) const { return (u32)(shared.list[place] >> 32); }
    DEVICE float logit(u32 place) const { return logit_of(key(place)); }
    DEVICE u32 index(u32 place) const { return ~(u32)shared.list[place]; }

    // Returns the sum of `of(index, logit)` over the list.
    template <class Term>
    DEVICE u64 sum(Term of) {
        u64 own = 0;
        ROLLED
        for (u32 i = threadIdx.x; i < count; i += WARPS * WARP) {
            own += of(index(i), logit(i));
        }
        return sum_of_block<WARPS>(own, shared.sums);
    }

    // Returns the logit at which the running sum of `of(index, logit)` reaches `needed`. The total must reach `needed`.
    template <class Term>
    DEVICE float reach(u64 needed, Term of) {
        const u32 share = (count + WARPS * WARP - 1) / (WARPS * WARP);
        const u32 from = threadIdx.x * share < count ? threadIdx.x * share : count;
        const u32 to = from + share < count ? from + share : count;
        u64 own = 0, total;
        ROLLED
        for (u32 i = from; i < to; i++) {
            own += of(index(i), logit(i));
        }
        u64 upto = sum_before<WARPS>(own, shared.sums, total);
        if (upto < needed && needed <= upto + own) {
            u32 i = from;
            ROLLED
            for (; i < to; i++) {
                upto += of(index(i), logit(i));
                if (upto >= needed) {
                    break;
                }
            }
            shared.digit = key(i);
        }
        __syncthreads();
        return logit_of(shared.digit);
    }
};
