// Rows of norms in the registers of a block. A group of threads holds one tile of a tiled sum. Each thread holds four
// pieces of the tile, as words that it has read and not converted. Such a row is read once, and one barrier serves all
// its sums.
#pragma once
#include "norm.cuh"

// Largest number of threads of a block.
const u32 TILE_ROW_THREADS = 1024;

// Loads a word from global memory if a condition holds, and otherwise returns another value. Unlike loads behind
// branches, several such loads can be in flight at a time.
DEVICE u32 load_if(bool condition, const void* from, u32 otherwise) {
#ifdef __CUDACC__
    u32 word = otherwise;
    asm("{ .reg .pred p; setp.ne.u32 p, %1, 0; @p ld.global.u32 %0, [%2]; }" : "+r"(word) : "r"((u32)condition), "l"(from));
    return word;
#else
    return condition ? *(const u32*)from : otherwise;
#endif
}

template <class S>
struct TileRow {
    typedef typename S::Bits Bits;
    typedef Places<S, Vectors, 1> At;
    static const u32 COUNT = At::COUNT, GROUP = At::GROUP, PIECES = At::PIECES, WORDS = 4, IN_WORD = COUNT / WORDS;
    u32 words[PIECES][WORDS];

    // `first` returns the column of the thread's first piece, and `offset` the distance of the i-th piece from the
    // first. Pointers to rows are advanced by the first column, so that all accesses of a thread to a row share one
    // address.
    static DEVICE u32 first() { return threadIdx.x / GROUP * 256 + threadIdx.x % GROUP * COUNT; }
    static constexpr DEVICE u32 offset(u32 i) { return i * (GROUP * COUNT); }
    static DEVICE bool is_there(u32 i, u32 cols) { return first() + offset(i) < cols; }

    // Loads the thread's pieces, starting at `own`. Pieces behind the end of the row are zero.
    DEVICE void load(const Bits* own, u32 cols) {
        UNROLLED
        for (u32 i = 0; i < PIECES; i++) {
            if (is_there(i, cols)) {
                load(i, own + offset(i));
            } else {
                words[i][0] = words[i][1] = words[i][2] = words[i][3] = 0;
            }
        }
    }

    // Loads the thread's pieces of a later row into the L2 cache.
    static DEVICE void prefetch(const Bits* own, u32 cols) {
#ifdef __CUDACC__
        // Two threads share a sector of the cache, so only every second thread prefetches.
        const u32 end = seldom_thread() % 2 == 0 ? cols : 0;
        UNROLLED
        for (u32 i = 0; i < PIECES; i++) {
            if (is_there(i, end)) {
                asm volatile("prefetch.global.L2 [%0];" : : "l"(own + offset(i)));
            }
        }
#endif
    }

    DEVICE void load(u32 i, const Bits* piece) {
        const uint4 v = *(const uint4*)piece;
        words[i][0] = v.x, words[i][1] = v.y, words[i][2] = v.z, words[i][3] = v.w;
    }

    DEVICE void fill(u32 i, float value) {
        for (u32 w = 0; w < WORDS; w++) {
            words[i][w] = S::narrow_two(value, value);
        }
    }

    // Hides from the compiler that the words do not change. Otherwise, the compiler would keep converted elements in
    // registers. Converted elements take more registers than the words.
    DEVICE void forget_elements() {
#ifdef __CUDACC__
        for (u32 i = 0; i < PIECES; i++) {
            asm volatile("" : "+r"(words[i][0]), "+r"(words[i][1]), "+r"(words[i][2]), "+r"(words[i][3]));
        }
#endif
    }

    // Element `k` of a word.
    DEVICE float value(u32 i, u32 w, u32 k) const { return k == 0 ? S::low_of(words[i][w]) : S::high_of(words[i][w]); }

    // Element `k` of a piece.
    DEVICE float value(u32 i, u32 k) const { return value(i, k / IN_WORD, k % IN_WORD); }

    DEVICE void widen(u32 i, float* values) const {
        for (u32 k = 0; k < COUNT; k++) {
            values[k] = value(i, k);
        }
    }

    // Calls `f` for each piece that is in the row. The arguments are the piece's index and its distance from the
    // thread's first piece.
    template <class F>
    static DEVICE void each(u32 cols, F f) {
        UNROLLED
        for (u32 i = 0; i < PIECES; i++) {
            if (is_there(i, cols)) {
                f(i, offset(i));
            }
        }
    }
};

// Shared memory for `N` tiled sums, of blocks of up to `THREADS` threads. Two sets alternate, so that one barrier for
// each use suffices: before a set is written again, all threads have passed the barrier of the other set.
template <class S, u32 N, u32 THREADS = TILE_ROW_THREADS>
struct TileSums {
    static const u32 TILES = THREADS / TileRow<S>::GROUP;
    double tiles[2][N][TILES];

    // Each group of threads computes `N` sums over its tile, and stores the sums in set `turn`. The caller needs a
    // barrier before it calls `total`. `add` receives the index of a piece, the index of a word in the piece, and `N`
    // sums for each element of the word. `add` adds the elements' terms to these sums.
    template <class Add>
    DEVICE void store(u32 turn, Add add) {
        typedef TileRow<S> Row;
        double of_words[Row::WORDS][N];
        UNROLLED
        for (u32 w = 0; w < Row::WORDS; w++) {
            double own[2][N] = {};
            UNROLLED
            for (u32 i = 0; i < Row::PIECES; i++) {
                add(i, w, own);
            }
            for (u32 n = 0; n < N; n++) {
                of_words[w][n] = Row::IN_WORD == 1 ? own[0][n] : own[0][n] + own[1][n];
            }
        }
        for (u32 n = 0; n < N; n++) {
            const double own = (of_words[0][n] + of_words[1][n]) + (of_words[2][n] + of_words[3][n]);
            const double tile = fold(own, Row::GROUP);
            const u32 thread = seldom_thread();
            if (thread % Row::GROUP == 0) {
                tiles[turn][n][thread / Row::GROUP] = tile;
            }
        }
    }

    // Waits for all threads. Each thread then computes all sums of set `turn`. `turn` becomes the other set.
    DEVICE void totals(u32& turn, double (&sums)[N]) const {
        __syncthreads();
        for (u32 n = 0; n < N; n++) {
            sums[n] = total(turn, n);
        }
        turn ^= 1;
    }

    // Computes sum `n` of set `turn`. Every thread gets the result.
    DEVICE double total(u32 turn, u32 n) const {
        const double* of = tiles[turn][n];
        const u32 count = recomputed(blockDim.x) / TileRow<S>::GROUP;
        return fold_lanes([&](u32 lane) {
            const double first = lane < count ? of[lane] : 0.0;
            return TILES > 64 && count > 64 ? first + of[64 + lane] : first;
        });
    }
};

// Computes the sum of a row's elements, and the sum of their squares. Every thread gets both sums.
template <class S, u32 THREADS>
DEVICE void find_sums(TileRow<S>& row, TileSums<S, 2, THREADS>& shared, u32& turn, double (&sums)[2]) {
    shared.store(turn, [&](u32 i, u32 w, double(*sums)[2]) {
        for (u32 k = 0; k < TileRow<S>::IN_WORD; k++) {
            add_powers((double)row.value(i, w, k), sums[k]);
        }
    });
    shared.totals(turn, sums);
    row.forget_elements();
}

// Computes the sum of the deviations from a mean, and the sum of their squares. Every thread gets both sums.
template <class S, u32 THREADS>
DEVICE void find_sums_about(TileRow<S>& row, u32 cols, double mean, TileSums<S, 2, THREADS>& shared, u32& turn,
                            double (&sums)[2]) {
    shared.store(turn, [&](u32 i, u32 w, double(*sums)[2]) {
        for (u32 k = 0; k < TileRow<S>::IN_WORD && TileRow<S>::is_there(i, cols); k++) {
            add_powers((double)row.value(i, w, k) - mean, sums[k]);
        }
    });
    shared.totals(turn, sums);
    row.forget_elements();
}

// Reads an operand at the thread's columns. With `IS_OWN`, the operand must have the rows' type or be absent, so each
// read is one instruction. Kernels choose `IS_OWN` once, because a branch at each read would keep reads from
// overlapping.
template <class S, bool IS_OWN>
struct TileOperand {
    typedef typename S::Bits Bits;
    typedef TileRow<S> Row;
    const Operand& operand;
    const u32 first;

    DEVICE TileOperand(const Operand& operand) : operand(operand), first(recomputed(Row::first())) {}

    template <class T>
    DEVICE const T* at(u32 offset) const { return (const T*)operand.at + first + offset; }

    static DEVICE bool serves(const Operand& operand) { return sizeof(Bits) == 4 || operand.type != F32_OPERAND; }

    DEVICE u32 missing() const { return S::narrow_two(operand.missing, operand.missing); }

    // Loads the words of the piece that is `offset` elements after the thread's first piece.
    DEVICE void load(u32 offset, u32 (&words)[Row::WORDS]) const {
        uint4 v = {missing(), missing(), missing(), missing()};
        if (operand.type != NO_OPERAND) {
            v = *(const uint4*)at<Bits>(offset);
        }
        words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
    }

    // Loads the values of the piece that is `offset` elements after the thread's first piece.
    DEVICE void values(u32 offset, float* to) const {
        if constexpr (IS_OWN) {
            Row row;
            load(offset, row.words[0]);
            row.widen(0, to);
        } else {
            operand.load<S, Row::COUNT>(Row::first() + offset, to);
        }
    }

    // Loads the values of one word, which begins `offset` elements after the start of the thread's first piece. If the
    // word is not in the row, the values are any finite numbers.
    DEVICE void of_word(u32 offset, bool is_there, float* to) const {
        const bool is_wide = !IS_OWN && operand.type == F32_OPERAND;
        const bool is_own = operand.type != NO_OPERAND && !is_wide;
        const u32 word = load_if(is_there && is_own, at<Bits>(offset), missing());
        to[0] = S::low_of(word);
        to[Row::IN_WORD - 1] = S::high_of(word);
        if constexpr (!IS_OWN) {
            for (u32 k = 0; k < Row::IN_WORD; k++) {
                const u32 wide = load_if(is_there && is_wide, at<float>(offset + k), 0);
                to[k] = is_wide ? float_of(wide) : to[k];
            }
        }
    }
};
