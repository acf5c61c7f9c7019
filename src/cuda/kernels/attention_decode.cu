// Attention of one query for each sequence and head. The first kernel computes a result for each block of keys, and the
// second one merges these results (`attention_merge.cuh`).
//
// A thread block processes the query heads that share a key head, up to `ROWS` of them, so that each key and value is
// read once. A score is the sum of several chains of multiply-adds over features, and each chain has its own thread. A
// weighted sum is the sum of several chains over keys, and each chain has its own warp. A thread uses each number that
// it loads from shared memory in several multiplications. Otherwise, the loads would take longer than the
// multiplications.
#include "attention_merge.cuh"
#include "attention_weights.cuh"

// Number of columns of the weighted sums that a warp computes at a time.
const u32 COLUMNS = 4 * WARP;
// Distance between the chains of a query. With this distance, threads of neighbouring chains read different banks of
// shared memory.
const u32 CHAIN_STRIDE = CHAIN + 4;
// Number of rows whose chains are added at a time.
const u32 SUMMED_ROWS = 4;

// A block of keys, and the offsets of its keys and values in bytes. An offset is `NOWHERE` for a key that is masked, or
// whose page is not in the cache.
struct Block {
    u32 index;
    u64 keys[KEYS], values[KEYS];
};

// Query heads of a sequence that share a key head, and the keys that they see. A `Unit` is kept in shared memory,
// because all registers are in use.
struct Unit {
    u64 index, sequence;
    u32 key_head, first_head, rows;
    KeyRange range;

    DEVICE PagePosition position(const DecodeArguments& a, u32 key) const {
        return PagePosition(a, sequence, key, range.contains(key));
    }
};

template <u32 N>
struct alignas(4 * N) Numbers {
    float v[N];
};

template <u32 ROWS>
struct DecodeShared {
    static const u32 SUMMED = ROWS < SUMMED_ROWS ? ROWS : SUMMED_ROWS;
    // The block of keys that the threads process, and the one after it.
    Block block, next;
    Unit unit;
    BlockEnd ends[ROWS];
    // Products of queries and keys, later replaced by weights.
    alignas(16) float weights[ROWS][KEYS];
    alignas(16) float queries[ROWS][CHAINS * CHAIN_STRIDE];
    // While queries and keys are multiplied: partial sums of each warp's products, one for each chain of features.
    // While values are added: partial weighted sums, one for each chain of keys.
    alignas(16) float partial[CHAINS][SUMMED][COLUMNS];
};

// Neighbouring features of a key or a value, as they are stored. They are widened where they are used, because the
// stored form takes fewer registers.
template <class S, template <class> class By, u32 N>
struct Piece {
    typedef typename S::Bits Bits;
    static const bool IS_PACKED = By<S>::COUNT > 1;
    static const u32 WORDS = IS_PACKED ? N * sizeof(Bits) / 4 : N;
    u32 words[WORDS];

    // Loads the elements with indices below `count`, and sets the others to zero. An access that moves several elements
    // loads all of them if the first one is below `count`.
    DEVICE void load(const Bits* from, u32 count) {
        for (u32 i = 0; i < WORDS; i++) {
            words[i] = !IS_PACKED && i < count ? from[i] : 0;
        }
        if constexpr (IS_PACKED && WORDS % 4 == 0) {
            for (u32 i = 0; i < WORDS; i += 4) {
                if (count > i * 4 / sizeof(Bits)) {
                    const uint4 v = ((const uint4*)from)[i / 4];
                    words[i] = v.x, words[i + 1] = v.y, words[i + 2] = v.z, words[i + 3] = v.w;
                }
            }
        } else if constexpr (IS_PACKED) {
            static_assert(WORDS == 2, "a load moves 8 or 16 bytes");
            if (count > 0) {
                const u64 word = *(const u64*)from;
                words[0] = (u32)word, words[1] = (u32)(word >> 32);
            }
        }
    }

    DEVICE float at(u32 i) const {
        if constexpr (IS_PACKED && sizeof(Bits) == 2) {
            return i % 2 == 0 ? S::low_of(words[i / 2]) : S::high_of(words[i / 2]);
        } else {
            return S::widen(words[i]);
        }
    }
};

// Returns the number of threads that compute the products of a key: one for each chain, rounded up to a power of two.
DEVICE u32 lanes_of(const DecodeArguments& a) {
    const u32 features = recomputed(a.features);
    return features <= CHAIN ? 1 : features <= 2 * CHAIN ? 2 : features <= 4 * CHAIN ? 4 : 8;
}

// Attention of up to `ROWS` query heads.
template <class S, template <class> class By, u32 ROWS>
struct Decode {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    // Number of features of a key that a thread loads at a time. On an H100, these numbers are the fastest.
    static const u32 OF_PIECE = COUNT == 1 ? 4 : ROWS == 1 ? 2 * COUNT : COUNT == 4 ? 4 * COUNT : COUNT;
    typedef Piece<S, By, OF_PIECE> KeyPiece;
    typedef Piece<S, By, 4> ValuePiece;
    // Number of values that a thread loads at a time.
    static const u32 STEP = ROWS == 4 && ValuePiece::WORDS == 2 ? 8 : 4;
    const DecodeArguments& a;
    DecodeShared<ROWS>& shared;

    // Copies the queries to shared memory, in chains padded with zeros.
    DEVICE void load_queries(const Unit& unit, u32 lanes) const {
        const u32 feature = threadIdx.x;
        static_assert(MOST_FEATURES == KEYS, "a thread copies one feature of each query");
        if (feature < lanes * CHAIN) {
            float values[ROWS];
            UNROLLED
            for (u32 row = 0; row < ROWS; row++) {
                const u32 head = unit.first_head + (row < unit.rows ? row : unit.rows - 1);
                const Bits* query = (const Bits*)a.q + unit.sequence * a.q_sequence + head * a.q_head;
                values[row] = feature < a.features ? S::widen(query[feature]) : 0.0f;
            }
            UNROLLED
            for (u32 row = 0; row < ROWS; row++) {
                shared.queries[row][feature / CHAIN * CHAIN_STRIDE + feature % CHAIN] = values[row];
            }
        }
    }

    // Sets `block` to the offsets of the keys and values in block number `index`.
    DEVICE void store_block(Block& block, const Unit& unit, u32 index) const {
        const PagePosition position = unit.position(a, index * KEYS + threadIdx.x);
        const auto in_bytes = [&](u64 at) { return at != NOWHERE ? at * sizeof(Bits) : NOWHERE; };
        block.keys[threadIdx.x] = in_bytes(position.in(a, a.k, unit.key_head));
        block.values[threadIdx.x] = in_bytes(position.in(a, a.v, unit.key_head));
    }

    // Computes the products of the queries and the keys. A thread computes one chain of features for each of `TILE`
    // keys. Variables that are needed before and after the chain are computed again after the chain, because all
    // registers are in use.
    template <u32 TILE>
    DEVICE void products() const {
        const u32 N = OF_PIECE;
        ROLLED
        for (u32 base = seldom_thread() / WARP * (TILE * WARP / lanes_of(a)); base < count();
             base += CHAINS * TILE * WARP / lanes_of(a)) {
            const u32 lanes = lanes_of(a), lane = seldom_thread() % WARP, chain = lane % lanes;
            const u32 first = base + lane / lanes * TILE;
            const float* query = &shared.queries[0][chain * CHAIN_STRIDE];
            float sums[ROWS][TILE];
            UNROLLED
            for (u32 k = 0; k < TILE; k++) {
                // The products of a key without an offset are NaN. If the key is visible, the block is then computed in
                // f64.
                const float start = shared.block.keys[first + k] != NOWHERE ? 0.0f : float_of(0x7fffffff);
                UNROLLED
                for (u32 row = 0; row < ROWS; row++) {
                    sums[row][k] = start;
                }
            }
            const auto load = [&](KeyPiece (&pieces)[TILE], u32 i) {
                const u32 column = chain * CHAIN + i, features = column < a.features ? a.features - column : 0;
                const u64* const own = &shared.block.keys[recomputed(first)];
                UNROLLED
                for (u32 k = 0; k < TILE; k++) {
                    const char* key = (const char*)a.k.data + own[k];
                    pieces[k].load((const Bits*)key + column, own[k] != NOWHERE ? features : 0);
                }
            };
            const auto multiply = [&](const KeyPiece (&pieces)[TILE], u32 first) {
                UNROLLED
                for (u32 i = 0; i < N; i += 4) {
                    UNROLLED
                    for (u32 row = 0; row < ROWS; row++) {
                        const Four q = *(const Four*)(query + row * (CHAINS * CHAIN_STRIDE) + first + i);
                        UNROLLED
                        for (u32 j = 0; j < 4; j++) {
                            UNROLLED
                            for (u32 k = 0; k < TILE; k++) {
                                sums[row][k] = fmaf(q.v[j], pieces[k].at(i + j), sums[row][k]);
                            }
                        }
                    }
                }
            };
            // While a piece is multiplied, the next one is loaded.
            KeyPiece even[TILE], odd[TILE];
            load(even, 0);
            ROLLED
            for (u32 i = 0; i < CHAIN; i += 2 * N) {
                load(odd, i + N);
                multiply(even, i);
                if (i + 2 * N < CHAIN) {
                    load(even, i + 2 * N);
                }
                multiply(odd, i + N);
            }
            UNROLLED
            for (u32 row = 0; row < ROWS; row += shared.SUMMED) {
                add_products(row, base, &sums[row]);
            }
        }
    }

    // Adds the chains of a warp's products in order, for `SUMMED` rows, beginning with `row`. Stores the products of
    // the warp's keys, beginning with the key `base`.
    template <u32 TILE>
    DEVICE void add_products(u32 row, u32 base, const float (*sums)[TILE]) const {
        const u32 thread = seldom_thread(), lane = thread % WARP, lanes = lanes_of(a), groups = WARP / lanes;
        const u32 chains = (recomputed(a.features) + CHAIN - 1) / CHAIN;
        // Threads that access the shared memory at the same time use different banks.
        const auto place = [&](u32 group, u32 chain) { return group * lanes + ((chain ^ (group / 2)) % lanes); };
        Numbers<TILE>(*const partial)[WARP] = (Numbers<TILE>(*)[WARP])shared.partial[thread / WARP];
        __syncwarp();
        UNROLLED
        for (u32 i = 0; i < shared.SUMMED; i++) {
            Numbers<TILE> own;
            for (u32 k = 0; k < TILE; k++) {
                own.v[k] = sums[i][k];
            }
            partial[i][place(lane / lanes, lane % lanes)] = own;
        }
        __syncwarp();
        ROLLED
        for (u32 i = lane; i < shared.SUMMED * groups; i += WARP) {
            const u32 of_row = i / groups, group = i % groups;
            Numbers<TILE> total = partial[of_row][place(group, 0)];
            ROLLED
            for (u32 chain = 1; chain < chains; chain++) {
                const Numbers<TILE> other = partial[of_row][place(group, chain)];
                for (u32 k = 0; k < TILE; k++) {
                    total.v[k] += other.v[k];
                }
            }
            *(Numbers<TILE>*)&shared.weights[row + of_row][base + group * TILE] = total;
        }
    }

    // Computes the weighted sum of the values that belong to this block of keys, and stores it in the slot of that
    // block.
    DEVICE void weighted_sums(u32 slot) const {
        const u32 count = this->count();
        const u32 warp = seldom_thread() / WARP, lane = seldom_thread() % WARP, chains = (count + CHAIN - 1) / CHAIN;
        const u32 first = warp * CHAIN, end = count < first + CHAIN ? count : first + CHAIN;
        ROLLED
        for (u32 base = 0; base < a.of_values; base += COLUMNS) {
            const u32 column = base + 4 * lane, features = column < a.of_values ? a.of_values - column : 0;
            const char* own = (const char*)a.v.data + column * sizeof(Bits);
            const auto load = [&](ValuePiece (&values)[STEP], u32 key) {
                UNROLLED
                for (u32 i = 0; i < STEP; i++) {
                    const u64 at = shared.block.values[key + i];
                    values[i].load((const Bits*)(own + at), at != NOWHERE ? features : 0);
                }
            };
            float sums[ROWS][4] = {};
            const auto add = [&](const ValuePiece (&values)[STEP], u32 key) {
                UNROLLED
                for (u32 i = 0; i < STEP; i += 4) {
                    UNROLLED
                    for (u32 row = 0; row < ROWS; row++) {
                        const Four weights = *(const Four*)&shared.weights[row][key + i];
                        for (u32 k = 0; k < 4; k++) {
                            for (u32 j = 0; j < 4; j++) {
                                sums[row][j] = fmaf(weights.v[k], values[i + k].at(j), sums[row][j]);
                            }
                        }
                    }
                }
            };
            ValuePiece even[STEP], odd[STEP];
            u32 key = first;
            if (end == first + CHAIN) {
                load(even, key);
                ROLLED
                for (; key < end; key += 2 * STEP) {
                    load(odd, key + STEP);
                    add(even, key);
                    if (key + 2 * STEP < end) {
                        load(even, key + 2 * STEP);
                    }
                    add(odd, key + STEP);
                }
            }
            // The last chain may be short.
            ROLLED
            for (; key < end; key += STEP) {
                load(even, key);
                UNROLLED
                for (u32 i = 0; i < STEP; i++) {
                    for (u32 row = 0; row < ROWS && key + i < end; row++) {
                        for (u32 j = 0; j < 4; j++) {
                            sums[row][j] = fmaf(shared.weights[row][key + i], even[i].at(j), sums[row][j]);
                        }
                    }
                }
            }
            UNROLLED
            for (u32 row = 0; row < ROWS; row += shared.SUMMED) {
                __syncthreads();
                if (warp < chains) {
                    for (u32 i = 0; i < shared.SUMMED; i++) {
                        const float(&sum)[4] = sums[row + i];
                        *(Four*)&shared.partial[warp][i][4 * lane] = {sum[0], sum[1], sum[2], sum[3]};
                    }
                }
                __syncthreads();
                add_chains(slot, row, base, chains);
            }
        }
    }

    // Adds the sums of a row's chains in order, for each of the rows in `shared.partial`. Stores the results in
    // `COLUMNS` columns. The first column is `base`.
    DEVICE void add_chains(u32 slot, u32 row, u32 base, u32 chains) const {
        ROLLED
        for (u32 i = seldom_thread(); i < shared.SUMMED * COLUMNS; i += KEYS) {
            const u32 of_row = i / COLUMNS, column = i % COLUMNS;
            if (row + of_row < shared.unit.rows && base + column < a.of_values) {
                float sum = shared.partial[0][of_row][column];
                ROLLED
                for (u32 chain = 1; chain < chains; chain++) {
                    sum += shared.partial[chain][of_row][column];
                }
                if (!(fabsf(sum) < INFINITE)) {
                    shared.ends[row + of_row].sum = -1.0;
                }
                ((float*)a.sums)[slot_of(row + of_row, slot) * a.of_values + base + column] = sum;
            }
        }
    }

    DEVICE u64 slot_of(u32 row, u32 slot) const {
        return (shared.unit.sequence * a.heads + shared.unit.first_head + row) * a.slots + slot;
    }

    // Returns how many of the block's keys the unit sees. They are the first keys of the block.
    DEVICE u32 count() const {
        const u32 rest = shared.unit.range.high - shared.block.index * KEYS;
        return rest < KEYS ? rest : KEYS;
    }

    // Processes `shared.block`, and replaces it by the next block.
    DEVICE void attend() const {
        const Unit& unit = shared.unit;
        Block &block = shared.block, &next = shared.next;
        if (ROWS > 1 && a.features > 2 * CHAIN) {
            products<ROWS == 1 || COUNT == 4 ? 2 : 4>();
        } else {
            products<2>();
        }
        const u32 next_index = block.index + a.splits;
        if (next_index < unit.range.end_block()) {
            store_block(next, unit, next_index);
        }
        __syncthreads();
        const u32 warp = seldom_thread() / WARP;
        if (warp < ROWS) {
            const u32 first = block.index * KEYS, low = unit.range.low > first ? unit.range.low - first : 0;
            float* row = shared.weights[warp];
            const BlockEnd end = a.softcap > 0.0 ? weigh_capped(a, row, low, count()) : weigh(a, row, low, count());
            if (threadIdx.x % WARP == 0) {
                shared.ends[warp] = end;
            }
        }
        __syncthreads();
        const u32 slot = block.index - unit.range.first_block();
        weighted_sums(slot);
        __syncthreads();
        if (threadIdx.x < unit.rows) {
            ((BlockEnd*)a.ends)[slot_of(threadIdx.x, slot)] = shared.ends[threadIdx.x];
        }
        if (next_index < unit.range.end_block()) {
            block.keys[threadIdx.x] = next.keys[threadIdx.x];
            block.values[threadIdx.x] = next.values[threadIdx.x];
        }
        if (threadIdx.x == 0) {
            block.index = next_index;
        }
        __syncthreads();
    }
};

template <class S, template <class> class By, u32 ROWS>
DEVICE void attention_decode(const DecodeArguments& a) {
    __shared__ DecodeShared<ROWS> shared;
    const Decode<S, By, ROWS> decode = {a, shared};
    u64 index = blockIdx.x;
    ROLLED
    while (true) {
        const u32 group = recomputed(a.heads) / a.key_heads, parts = (group + ROWS - 1) / ROWS;
        const u64 unit_index = index / a.splits, sequence = unit_index / (a.key_heads * parts);
        if (sequence >= a.sequences) {
            return;
        }
        const u32 of_sequence = (u32)(unit_index % (a.key_heads * parts)), part = of_sequence % parts;
        const u32 key_head = of_sequence / parts, first_head = key_head * group + part * ROWS;
        const u32 rows = group - part * ROWS < ROWS ? group - part * ROWS : ROWS;
        const Unit unit = {index, sequence, key_head, first_head, rows, KeyRange(a, sequence)};
        const u32 first = unit.range.first_block() + (u32)(index % a.splits);
        if (!unit.range.fits || first >= unit.range.end_block()) {
            index += gridDim.x;
            continue;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            shared.unit = unit;
            shared.block.index = first;
        }
        decode.store_block(shared.block, unit, first);
        decode.load_queries(unit, lanes_of(a));
        __syncthreads();
        ROLLED
        while (shared.block.index < shared.unit.range.end_block()) {
            decode.attend();
        }
        index = shared.unit.index + gridDim.x;
    }
}

#define ATTENTION_DECODE(TYPE, NAME)                                                                                       \
    ENTRY_OF_BLOCKS(attention_decode_##NAME##_any, DecodeArguments, 256, 3, (attention_decode<TYPE, Singles, 1>(arguments))) \
    ENTRY_OF_BLOCKS(attention_decode_##NAME##_1, DecodeArguments, 256, 4, (attention_decode<TYPE, Vectors, 1>(arguments)))   \
    ENTRY_OF_BLOCKS(attention_decode_##NAME##_4, DecodeArguments, 256, 2, (attention_decode<TYPE, Vectors, 4>(arguments)))   \
    ENTRY_OF_BLOCKS(attention_decode_##NAME##_8, DecodeArguments, 256, 2, (attention_decode<TYPE, Vectors, 8>(arguments)))   \
    ENTRY_OF_BLOCKS(attention_merge_##NAME, DecodeArguments, 256, 2, (attention_merge<TYPE>(arguments)))

ATTENTION_DECODE(F32, f32)
ATTENTION_DECODE(F16, f16)
ATTENTION_DECODE(BF16, bf16)
