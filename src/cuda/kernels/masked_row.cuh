// Rows with a mask and at most one bias, whose logits `src/cpu/scores_masked.rs` defines. A row is divided into pieces,
// and one access moves a piece. If a score is masked by the mask's column range or by its flags, it becomes -inf when
// it is read. Pieces outside of the range are not read.
//
// Flags and biases that a kernel for `Vectors` reads must be aligned as `is_aligned` of `src/cuda/masked.rs` requires.
#pragma once
#include "masked.cuh"

// Sets the top bit of each byte that is not 0.
DEVICE u32 nonzero_bytes(u32 bytes) { return ((bytes & 0x7f7f7f7f) + 0x7f7f7f7f) | bytes; }

// Returns a word in which each byte repeats the top bit of one byte of `bytes`. Nibble i of `selector` chooses the byte
// for byte i of the word: it is 8 plus the index of that byte in `bytes`.
DEVICE u32 top_bits(u32 bytes, u32 selector) {
    u32 word;
#ifdef __CUDACC__
    asm("prmt.b32 %0, %1, 0, %2;" : "=r"(word) : "r"(bytes), "r"(selector));
#else
    word = 0;
    for (u32 i = 0; i < 4; i++) {
        word |= (bytes >> (selector >> (4 * i) & 3) * 8 & 0x80 ? 0xffu : 0) << (8 * i);
    }
#endif
    return word;
}

// Piece of a row: the elements that one access of `By` moves.
template <class By>
struct Piece;

template <class S>
struct Piece<Vectors<S>> {
    static const u32 COUNT = Vectors<S>::COUNT, WORDS = 4, IN_WORD = COUNT / WORDS;
    u32 words[WORDS];

    DEVICE void load(const typename S::Bits* from) {
        const uint4 v = *(const uint4*)from;
        words[0] = v.x, words[1] = v.y, words[2] = v.z, words[3] = v.w;
    }

    DEVICE float at(u32 i) const { return i % IN_WORD == 0 ? S::low_of(words[i / IN_WORD]) : S::high_of(words[i / IN_WORD]); }

    // Returns the flags of the piece's elements, one byte for each.
    static DEVICE u64 flags(const unsigned char* from) { return COUNT == 8 ? *(const u64*)from : *(const u32*)from; }

    // Returns a mask for a word of the piece. All bits of an unmasked element are set, and all bits of a masked element
    // are clear.
    static DEVICE u32 kept(u64 flags, u32 word) {
        const u32 marks = nonzero_bytes((u32)(COUNT == 8 ? flags >> (word / 2 * 32) : flags));
        return top_bits(marks, COUNT == 8 ? 0x9988 + word % 2 * 0x2222 : 0x8888 + word * 0x1111);
    }

    static DEVICE u32 within(u32 column, u32 low, u32 high, u32 word) {
        const u32 first = column + word * IN_WORD, last = first + IN_WORD - 1;
        const u32 of_first = low <= first && first < high ? 0xffffffff : 0, of_last = low <= last && last < high ? 0xffffffff : 0;
        return COUNT == 8 ? (of_first & 0xffff) | (of_last & 0xffff0000) : of_first;
    }

    // Returns a word with all bits set if element i is unmasked, and 0 otherwise. The argument `kept` is a result of
    // the function `kept`.
    static DEVICE u32 of_element(u32 kept, u32 i) {
        return COUNT == 4 ? kept : (u32)((int)(i % 2 == 0 ? kept << 16 : kept) >> 16);
    }

    // Loads the biases from a column on. `TYPE` is the `MaskOperand::type` of the biases. Returns whether f32
    // represents all biases.
    template <u32 TYPE>
    static DEVICE bool biases(u64 from, u32 column, float* to) {
        bool is_exact = true;
        if (TYPE == 0) {
            for (u32 i = 0; i < COUNT; i += 4) {
                Vectors<F32>::load((const u32*)from + column + i, to + i);
            }
        } else if (TYPE == 3) {
            for (u32 i = 0; i < COUNT; i += 2) {
                const uint4 v = *(const uint4*)((const u64*)from + column + i);
                const double wide[2] = {wide_of(v.x | (u64)v.y << 32), wide_of(v.z | (u64)v.w << 32)};
                for (u32 j = 0; j < 2; j++) {
                    to[i + j] = (float)wide[j];
                    is_exact = is_exact && ((double)to[i + j] == wide[j] || wide[j] != wide[j]);
                }
            }
        } else {
            u32 words[COUNT / 2];
            if (COUNT == 8) {
                const uint4 v = *(const uint4*)((const u16*)from + column);
                words[0] = v.x, words[1] = v.y, words[COUNT / 2 - 2] = v.z, words[COUNT / 2 - 1] = v.w;
            } else {
                const u64 v = *(const u64*)((const u16*)from + column);
                words[0] = (u32)v, words[1] = (u32)(v >> 32);
            }
            for (u32 i = 0; i < COUNT; i++) {
                to[i] = TYPE == 1 ? F16::widen(words[i / 2] >> (i % 2 * 16) & 0xffff)
                                  : BF16::widen(words[i / 2] >> (i % 2 * 16) & 0xffff);
            }
        }
        return is_exact;
    }
};

// A single element. Its word holds a 16-bit value twice.
template <class S>
struct Piece<Singles<S>> {
    static const u32 COUNT = 1, WORDS = 1;
    u32 words[WORDS];

    DEVICE void load(const typename S::Bits* from) { words[0] = *from * (sizeof(*from) == 2 ? 0x10001u : 1u); }
    DEVICE float at(u32) const { return S::low_of(words[0]); }
    static DEVICE u64 flags(const unsigned char* from) { return *from; }
    static DEVICE u32 kept(u64 flags, u32) { return flags != 0 ? 0xffffffff : 0; }
    static DEVICE u32 within(u32 column, u32 low, u32 high, u32) { return low <= column && column < high ? 0xffffffff : 0; }
    static DEVICE u32 of_element(u32 kept, u32) { return kept; }
};

// Several pieces that are read together, with the biases of their elements. The bias of a masked element is 0.
template <class By, u32 N, bool HAS_BIAS>
struct Pieces {
    static const u32 COUNT = By::COUNT;
    Piece<By> scores[N];
    float biases[HAS_BIAS ? N : 1][COUNT];
};

template <class S, template <class> class By, u32 WARPS, u32 HELD, bool HAS_BIAS>
struct MaskedRow {
    typedef typename S::Bits Bits;
    typedef Places<S, By, WARPS> At;
    static const u32 COUNT = At::COUNT, WORDS = Piece<By<S>>::WORDS, MASKED = S::INFINITE_WORD | S::SIGNS;
    // Number of pieces that a thread reads together. Rows that are not held in registers are read again by each call of
    // `each`.
    static const u32 AT_ONCE = HELD > 0 ? HELD : COUNT == 1 || HAS_BIAS ? 1 : 2;
    // Number of columns that the i-th pieces of all threads of a warp span together.
    static const u32 SPAN = (WARP / At::GROUP - 1) * 256 + At::GROUP * COUNT;
    typedef Pieces<By<S>, AT_ONCE, HAS_BIAS> Read;

    const Bits* const row;
    const RowMask<HAS_BIAS>& mask;
    const u32 cols;
    Read held;
    // Exponentials of a row in registers.
    float values[HELD > 0 ? HELD : 1][COUNT];
    // Whether f32 represents all biases that were read.
    bool is_of_f32;

    DEVICE MaskedRow(const Bits* row, u32 cols, const RowMask<HAS_BIAS>& mask) : row(row), mask(mask), cols(cols), is_of_f32(true) {
        if (HELD > 0) {
            read(0, held);
        }
    }

    DEVICE bool is_read(u32 column) const { return column < mask.high && column + COUNT > mask.low; }

    // Returns whether any thread of the warp reads the i-th piece. The vote shows the compiler that all threads get the
    // same result.
    DEVICE bool is_live(u32 i) const {
        const u32 first = At::column(i) - threadIdx.x % WARP / At::GROUP * 256 - threadIdx.x % At::GROUP * COUNT;
        return __all_sync(0xffffffffu, first < mask.high && first + SPAN > mask.low);
    }

    // Masks elements of the i-th piece. `kept(word)` is the mask for a word of the piece: elements whose bits are clear
    // become masked.
    template <class Kept>
    DEVICE void keep(Read& to, u32 i, Kept kept) const {
        UNROLLED
        for (u32 w = 0; w < WORDS; w++) {
            const u32 bits = kept(w);
            to.scores[i].words[w] = (to.scores[i].words[w] & bits) | (MASKED & ~bits);
            if (HAS_BIAS) {
                for (u32 e = w * COUNT / WORDS; e < (w + 1) * COUNT / WORDS; e++) {
                    to.biases[i][e] = float_of(bits_of(to.biases[i][e]) & Piece<By<S>>::of_element(bits, e));
                }
            }
        }
    }

    // Reads the pieces from number `first` on.
    DEVICE void read(u32 first, Read& to) {
        UNROLLED
        for (u32 i = 0; i < AT_ONCE; i++) {
            UNROLLED
            for (u32 w = 0; w < WORDS; w++) {
                to.scores[i].words[w] = MASKED;
            }
            if (is_read(At::column(first + i))) {
                to.scores[i].load(row + At::column(first + i));
            }
        }
        if (HAS_BIAS) {
            read_biases(first, to);
        }
        UNROLLED
        for (u32 p = 0; p < PARTS; p++) {
            if (p < mask.keeps && mask.keep_step[p] > 0) {
                u64 flags[AT_ONCE];
                UNROLLED
                for (u32 i = 0; i < AT_ONCE; i++) {
                    const u32 column = At::column(first + i);
                    flags[i] = is_read(column) ? Piece<By<S>>::flags(mask.keep[p] + column) : 0;
                }
                UNROLLED
                for (u32 i = 0; i < AT_ONCE; i++) {
                    keep(to, i, [&](u32 w) { return Piece<By<S>>::kept(flags[i], w); });
                }
            }
        }
        UNROLLED
        for (u32 i = 0; i < AT_ONCE; i++) {
            const u32 column = At::column(first + i);
            if (is_read(column) && (column < mask.low || column + COUNT > mask.high)) {
                keep(to, i, [&](u32 w) { return Piece<By<S>>::within(column, mask.low, mask.high, w); });
            }
        }
    }

    DEVICE void read_biases(u32 first, Read& to) {
        if constexpr (COUNT == 1) {
            const u32 column = At::column(first);
            to.biases[0][0] = 0.0f;
            if (is_read(column)) {
                const double bias = mask.bias_at(0, column);
                to.biases[0][0] = (float)bias;
                is_of_f32 = is_of_f32 && ((double)to.biases[0][0] == bias || bias != bias);
            }
        } else {
            switch (mask.bias_type[0]) {
            case 0:
                return read_biases_of<0>(first, to);
            case 1:
                return read_biases_of<1>(first, to);
            case 2:
                return read_biases_of<2>(first, to);
            default:
                return read_biases_of<3>(first, to);
            }
        }
    }

    template <u32 TYPE>
    DEVICE void read_biases_of(u32 first, Read& to) {
        UNROLLED
        for (u32 i = 0; i < AT_ONCE; i++) {
            UNROLLED
            for (u32 e = 0; e < COUNT; e++) {
                to.biases[i][e] = 0.0f;
            }
            if (is_read(At::column(first + i))) {
                is_of_f32 = Piece<By<S>>::template biases<TYPE>(mask.bias[0], At::column(first + i), to.biases[i]) && is_of_f32;
            }
        }
    }

    // Calls `f` for each piece that at least one thread of the warp reads, with the piece's index, first column, scores
    // and biases. All threads of a warp call `f` together. With `ALL`, also calls `other` for each piece that no thread
    // of the warp reads, with the piece's index and first column.
    template <bool ALL, class F, class Other>
    DEVICE void each_or(F f, Other other) {
        if (HELD > 0) {
            UNROLLED
            for (u32 i = 0; i < AT_ONCE; i++) {
                if (is_live(i)) {
                    f(i, At::column(i), held.scores[i], held.biases[HAS_BIAS ? i : 0]);
                } else if (ALL) {
                    other(i, At::column(i));
                }
            }
            return;
        }
        const u32 step = At::tiles() * 256, first = ALL ? 0 : mask.low / step, end = ALL ? cols : mask.high;
        ROLLED
        for (u32 at = first * At::PIECES; at / At::PIECES * step < end; at += AT_ONCE) {
            // A step has the same first column in all threads, so the threads make the same choice whether to read.
            const u32 column = at / At::PIECES * step;
            const bool is_any = column < mask.high && column + step > mask.low;
            Read now;
            if (is_any) {
                read(at, now);
            }
            UNROLLED
            for (u32 i = 0; i < AT_ONCE; i++) {
                if (is_any && is_live(at + i)) {
                    f(0, At::column(at + i), now.scores[i], now.biases[HAS_BIAS ? i : 0]);
                } else if (ALL) {
                    other(0, At::column(at + i));
                }
            }
        }
    }

    template <class F>
    DEVICE void each(F f) {
        each_or<false>(f, [](u32, u32) {});
    }

    // Returns the largest score, or NaN if one is NaN.
    DEVICE float largest(int* partial) {
        u32 max = MASKED;
        each([&](u32, u32, const Piece<By<S>>& x, const float*) {
            UNROLLED
            for (u32 w = 0; w < WORDS; w++) {
                max = S::largest(max, x.words[w]);
            }
        });
        return of_block(max_or_nan(S::low_of(max), S::high_of(max)), partial);
    }

    static DEVICE float of_block(float own, int* partial) {
        return of_key(over_block<WARPS>(key_of(own), partial, [](int own, u32) { return largest_of_warp(own); }));
    }

    // Writes the same bits to all columns.
    DEVICE void fill(Bits* to, u32 bits) const {
        u32 all[COUNT];
        for (u32 i = 0; i < COUNT; i++) {
            all[i] = bits;
        }
        ROLLED
        for (u32 i = 0; i / At::PIECES * (At::tiles() * 256) < cols; i++) {
            if (At::column(i) < cols) {
                By<S>::store(to + At::column(i), all);
            }
        }
    }
};

// Unevaluated sum of two f32.
struct Pair {
    float high, low;
};

// Normalises a pair, so that `high` is the rounded sum.
DEVICE Pair normalised(const Pair& sum) {
    const float high = sum.high + sum.low;
    return {high, sum.low - (high - sum.high)};
}

// Returns the larger of two normalised pairs. If `other` is NaN, returns `sum`.
DEVICE Pair larger(const Pair& sum, const Pair& other) {
    const bool is_larger = other.high > sum.high || (other.high == sum.high && other.low > sum.low);
    return is_larger ? other : sum;
}

// The following structs compute exponentials 2^64 times too large, and then scale them down, as in `SoftmaxExp::power`.
// Logits below a limit are replaced by the limit. The limit is at least 104 below the maximum, so its exponential is
// less than 0.98 times half of the smallest f32 and rounds to 0. Masked scores are -inf, so their exponentials become 0
// without a test.
const float SCALED_DOWN = 1.0f / 4294967296.0f / 4294967296.0f;

// Exponentials of scores whose products with the scale are exact.
struct ExactLogits {
    const SoftmaxExp exp;
    const LaneTables tables;
    const float scale;

    // `max` is the largest logit.
    DEVICE ExactLogits(float scale, float max) : exp(max, -INFINITE), tables(exp.lane_tables(0.0f)), scale(scale) {}

    DEVICE float power(float x, float) const {
        const float z = fmaf(x, scale, 0.0f - exp.shift);
        return exp.within(tables, fmaxf(z, exp.deepest), [](float low) { return low; }) * SCALED_DOWN;
    }
};

// Product of score and scale. The low part of the scale must be a normal f32 or 0.
struct Products {
    const float scale, scale_low;

    DEVICE explicit Products(double wide) : scale((float)wide), scale_low((float)(wide - (double)scale)) {}

    // Returns the low part of a product.
    DEVICE float rest(float x) const { return fmaf(x, scale_low, fmaf(x, scale, 0.0f - x * scale)); }
    DEVICE Pair of(float x) const { return {x * scale, rest(x)}; }
};

// Exponentials of scores whose products with the scale are float-float pairs.
struct ProductLogits {
    const Products products;
    const SoftmaxExp exp;
    const LaneTables tables;
    // Score whose product with the scale is between 107 and 109 below the maximum. A lower score is replaced by
    // `lowest`, because the low part of the lower score's product might not be finite. The exponential is 0 with and
    // without the replacement.
    const float lowest;

    // `max` is the largest logit, below 256 in magnitude.
    DEVICE ProductLogits(const Products& products, const Pair& max)
        : products(products), exp(max.high, -INFINITE), tables(exp.lane_tables(max.low)),
          lowest((max.high - 108.0f) / products.scale) {}

    DEVICE float power(float x, float) const {
        const Pair z = products.of(fmaxf(x, lowest));
        return exp.within(tables, z.high, [&](float low) { return low + z.low; }) * SCALED_DOWN;
    }
};

// Exponentials of logits. A logit is score * scale + bias.
struct BiasedLogits {
    const Products products;
    const SoftmaxExp exp;
    const LaneTables tables;

    DEVICE BiasedLogits(const Products& products, const Pair& max)
        : products(products), exp(max.high, -INFINITE), tables(exp.lane_tables(max.low)) {}

    static DEVICE Pair logit(const Products& products, float x, float bias) {
        const float product = x * products.scale, sum = product + bias, part = sum - product;
        return {sum, products.rest(x) + ((product - (sum - part)) + (bias - part))};
    }

    // If the element is masked, the sum `z.high` is -inf or NaN, and the result is 0.
    DEVICE float power(float x, float bias) const {
        const Pair z = logit(products, x, bias);
        const float rest = z.high > exp.deepest ? z.low : 0.0f;
        return exp.within(tables, fmaxf(z.high, exp.deepest), [&](float low) { return low + rest; }) * SCALED_DOWN;
    }
};

// Finds the largest logit of a row with one bias.
template <class S, template <class> class By, u32 WARPS, u32 HELD>
struct BiasedMax {
    typedef MaskedRow<S, By, WARPS, HELD, true> Row;
    static const u32 COUNT = Row::COUNT;

    // `max` is the largest logit. If |score * scale| of a logit is 16384 or more, the logit is at most `large`.
    struct Terms {
        Pair max;
        float large;
    };

    // Returns score * scale. If the score is finite but the product overflows to +inf, returns the largest f32
    // instead, because +inf plus a bias of -inf would be NaN.
    static DEVICE float bounded(const Products& products, float x) {
        const float product = x * products.scale, most = fmaxf(float_of(0x7f7fffff), x);
        return most < product ? most : product;
    }

    // Returns the largest logit as a pair. The pair's high part is NaN or infinite if the row needs f64, or has no
    // finite result.
    static DEVICE Pair find(Row& row, const Products& products, int* partial, Terms* partial_terms) {
        float own = -INFINITE, size = 0.0f;
        row.each([&](u32, u32, const Piece<By<S>>& x, const float* biases) {
            UNROLLED
            for (u32 i = 0; i < COUNT; i++) {
                const float product = bounded(products, x.at(i)), z = product + biases[i];
                own = max_or_nan(own, z);
                size = fmaxf(size, z > -INFINITE ? fabsf(product) : 0.0f);
            }
        });
        const float max = Row::of_block(row.is_of_f32 ? own : float_of(0x7fc00000), partial);
        if (!(fabsf(max) < INFINITE)) {
            return {max, 0.0f};
        }
        const float near = max - 1.0f / 256.0f;
        // Reads the row's terms again, only in threads with a logit near the maximum or with a large product. Warps
        // without such a thread skip this pass.
        const Terms terms = terms_of(row, products, near, own >= near || size >= 16384.0f, partial_terms);
        // If |score * scale| is large, its rounding error could exceed the error bound of a pair. Infinity then makes
        // the caller compute the row in f64.
        return terms.large > terms.max.high - 128.0f ? Pair{INFINITE, 0.0f} : terms.max;
    }

    // Finds the largest logit as a pair, among the logits whose rounded value is at least `near`.
    static DEVICE Terms terms_of(Row& row, const Products& products, float near, bool has_terms, Terms* partial) {
        Terms own = {{-INFINITE, -INFINITE}, -INFINITE};
        if (!__all_sync(0xffffffffu, !has_terms)) {
            row.each([&](u32, u32, const Piece<By<S>>& x, const float* biases) {
                UNROLLED
                for (u32 i = 0; i < COUNT; i++) {
                    const float product = bounded(products, x.at(i)), z = product + biases[i];
                    if (fabsf(product) >= 16384.0f && z > -INFINITE) {
                        own.large = fmaxf(own.large, fmaf(fabsf(product), 1.0f / (1 << 22), z));
                    }
                    if (z >= near) {
                        own.max = larger(own.max, normalised(BiasedLogits::logit(products, x.at(i), biases[i])));
                    }
                }
            });
        }
        return over_block<WARPS>(own, partial, [](Terms own, u32 distance) {
            for (; distance > 0; distance /= 2) {
                own.max = larger(own.max, {lane_beside(own.max.high, distance), lane_beside(own.max.low, distance)});
                own.large = fmaxf(own.large, lane_beside(own.large, distance));
            }
            return own;
        });
    }
};
