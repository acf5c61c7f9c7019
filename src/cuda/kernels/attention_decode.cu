// Attention of one query of each sequence and head. The first kernel computes the blocks of keys, and the second one
// merges them.
//
// A thread block processes the query heads that share a key head, up to `ROWS` of them, so that each key and value is
// read once. For a score, one thread adds each chain of features. For a weighted sum, one warp adds each chain of keys.
#include "attention_decode.cuh"

// Number of columns of the weighted sums that a warp computes at a time.
const u32 COLUMNS = 4 * WARP;
// Distance between the chains of a query. With this distance, threads of neighbouring chains read different banks of
// shared memory.
const u32 CHAIN_STRIDE = CHAIN + 4;
// A thread loads the results of this many blocks of keys at a time, and then merges them.
const u32 LOADED = 16;
// Number of rows whose chains are added at a time.
const u32 SUMMED_ROWS = 4;

template <u32 ROWS>
struct DecodeShared {
    static const u32 SUMMED = ROWS < SUMMED_ROWS ? ROWS : SUMMED_ROWS;
    u64 at[KEYS];
    BlockEnd ends[ROWS];
    // Products of queries and keys, later replaced by weights.
    alignas(16) float weights[ROWS][KEYS];
    alignas(16) float queries[ROWS][CHAINS * CHAIN_STRIDE];
    // Weighted sums of the values, one for each chain of keys.
    float partial[CHAINS][SUMMED][COLUMNS];
};

// Loads four elements. If accesses move one element, loads only `count` of them, and sets the other values to 0.
template <class S, template <class> class By>
DEVICE void load_four(const typename S::Bits* from, u32 count, float* values) {
    if constexpr (By<S>::COUNT == 1) {
        for (u32 i = 0; i < 4; i++) {
            values[i] = i < count ? S::widen(from[i]) : 0.0f;
        }
    } else if constexpr (By<S>::COUNT == 4) {
        By<S>::load(from, values);
    } else {
        const u64 word = *(const u64*)from;
        for (u32 i = 0; i < 4; i++) {
            values[i] = S::widen((u32)(word >> (16 * i)) & 0xffff);
        }
    }
}

// Loads neighbouring weights. If `N` is a multiple of 4, loads four at a time, and `from` must be aligned to 16 bytes.
template <u32 N>
DEVICE void load_weights(const float* from, float (&weights)[N]) {
    if constexpr (N % 4 == 0) {
        for (u32 i = 0; i < N; i += 4) {
            const Four four = *(const Four*)(from + i);
            for (u32 j = 0; j < 4; j++) {
                weights[i + j] = four.v[j];
            }
        }
    } else {
        for (u32 i = 0; i < N; i++) {
            weights[i] = from[i];
        }
    }
}

// Replaces a row's products by weights, with zeros for masked keys. All lanes of a warp make this call together. The
// visible keys are `low..high` of the block.
DEVICE BlockEnd weigh(const DecodeArguments& a, float* row, u32 low, u32 high) {
    const u32 lane = threadIdx.x % WARP;
    const bool has_softcap = a.softcap > 0.0;
    const auto logit = [&](float score) { return a.softcap * tanh_of((double)score / a.softcap); };
    float max = -INFINITE;
    double wide_max = -(double)INFINITE;
    bool is_finite = !a.in_wide, is_exact = true;
    ROLLED
    for (u32 key = lane; key < high; key += WARP) {
        const float score = row[key] * (float)a.scale;
        if (key >= low) {
            row[key] = score;
            is_finite = is_finite && fabsf(score) < INFINITE;
            float z = score;
            if (has_softcap) {
                const double wide = logit(score);
                z = (float)wide;
                is_exact = is_exact && (double)z == wide;
                wide_max = larger(wide, wide_max);
            }
            max = z > max ? z : max;
        }
    }
    is_finite = __all_sync(0xffffffffu, is_finite);
    is_exact = __all_sync(0xffffffffu, is_exact);
    max = of_key(largest_of_warp(key_of(max)));
    if (has_softcap) {
        for (u32 distance = WARP / 2; distance > 0; distance /= 2) {
            wide_max = larger(lane_beside(wide_max, distance), wide_max);
        }
    }
    const SoftmaxExp exp(is_exact && is_finite ? max : 0.0f, -INFINITE);
    const LaneTables tables = exp.lane_tables();
    UnitSum sum;
    ROLLED
    for (u32 key = lane; key < KEYS; key += WARP) {
        const bool is_visible = low <= key && key < high && is_finite;
        float z = is_visible ? row[key] : -INFINITE, rest = 0.0f;
        if (has_softcap && is_visible) {
            double wide = logit(z);
            z = (float)wide;
            if (!is_exact) {
                // If f32 cannot represent a logit of the row, all logits are replaced by their differences from the
                // maximum, as pairs of f32.
                wide = larger(wide - wide_max, -104.0);
                z = (float)wide;
                rest = (float)(wide - (double)z);
            }
        }
        const float weight = exp.pair(tables, z - exp.shift, rest);
        sum.add(weight);
        row[key] = weight;
    }
    sum.collect();
    const u64 units = total<1>(sum.units, nullptr).whole();
    return {is_exact ? (double)max : wide_max, is_finite ? (double)units * 0x1p-45 : -1.0};
}

// Query heads that share a key head, up to `ROWS` of them, and the keys that they see.
template <class S, template <class> class By, u32 ROWS>
struct Decode {
    typedef typename S::Bits Bits;
    static const u32 COUNT = By<S>::COUNT;
    const DecodeArguments& a;
    DecodeShared<ROWS>& shared;
    const u64 sequence;
    const u32 key_head, first_head, rows;
    const KeyRange range;

    // Copies the queries to shared memory, in chains padded with zeros.
    DEVICE void load_queries(u32 lanes) const {
        ROLLED
        for (u32 i = threadIdx.x; i < ROWS * MOST_FEATURES; i += KEYS) {
            const u32 row = i / MOST_FEATURES, feature = i % MOST_FEATURES;
            if (feature < lanes * CHAIN) {
                const u32 head = first_head + (row < rows ? row : rows - 1);
                const Bits* query = (const Bits*)a.q + sequence * a.q_sequence + head * a.q_head;
                shared.queries[row][feature / CHAIN * CHAIN_STRIDE + feature % CHAIN] =
                    feature < a.features ? S::widen(query[feature]) : 0.0f;
            }
        }
    }

    // Computes the products of the queries and the keys. `lanes` threads share a key, and each computes a chain.
    DEVICE void products(u32 lanes, u32 count) const {
        const u32 chains = (a.features + CHAIN - 1) / CHAIN, chain = threadIdx.x % lanes;
        const u32 first_lane = threadIdx.x % WARP - chain;
        const float* query = &shared.queries[0][chain * CHAIN_STRIDE];
        ROLLED
        for (u32 base = 0; base < count; base += KEYS / lanes) {
            const u32 key = base + threadIdx.x / lanes;
            const u64 at = shared.at[key];
            const Bits* from = (const Bits*)a.k.data + at + chain * CHAIN;
            float keys[CHAIN] = {};
            UNROLLED
            for (u32 i = 0; i < CHAIN; i += COUNT) {
                if (at != NOWHERE && chain * CHAIN + i < a.features) {
                    By<S>::load(from + i, keys + i);
                }
            }
            float sums[ROWS] = {};
            UNROLLED
            for (u32 i = 0; i < CHAIN; i += 4) {
                UNROLLED
                for (u32 row = 0; row < ROWS; row++) {
                    const Four q = *(const Four*)(query + row * (CHAINS * CHAIN_STRIDE) + i);
                    for (u32 j = 0; j < 4; j++) {
                        sums[row] = fmaf(q.v[j], keys[i + j], sums[row]);
                    }
                }
            }
            UNROLLED
            for (u32 row = 0; row < ROWS; row++) {
                float total = __shfl_sync(0xffffffffu, sums[row], first_lane);
                ROLLED
                for (u32 other = 1; other < chains; other++) {
                    total += __shfl_sync(0xffffffffu, sums[row], first_lane + other);
                }
                if (chain == 0) {
                    // A key whose page is not in the cache gets NaN, so that the block is computed in f64.
                    shared.weights[row][key] = at != NOWHERE ? total : float_of(0x7fffffff);
                }
            }
        }
    }

    // For the keys `first..first + N`, which are in one chain, adds the weighted values to the sums of the thread's
    // four features.
    template <u32 N>
    DEVICE void add_keys(u32 first, u32 column, float (&sums)[ROWS][4]) const {
        float values[N][4] = {};
        UNROLLED
        for (u32 i = 0; i < N; i++) {
            const u64 at = shared.at[first + i];
            if (at != NOWHERE && column < a.of_values) {
                load_four<S, By>((const Bits*)a.v.data + at + column, a.of_values - column, values[i]);
            }
        }
        UNROLLED
        for (u32 row = 0; row < ROWS; row++) {
            float weights[N];
            load_weights(&shared.weights[row][first], weights);
            for (u32 i = 0; i < N; i++) {
                for (u32 j = 0; j < 4; j++) {
                    sums[row][j] = fmaf(weights[i], values[i][j], sums[row][j]);
                }
            }
        }
    }

    // Computes the weighted sums of the first `count` values, and stores them in the slot of the block of keys.
    DEVICE void weighted_sums(u32 slot, u32 count) const {
        const u32 STEP = ROWS < 8 ? 8 : 4, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
        const u32 chains = (count + CHAIN - 1) / CHAIN;
        const u32 first = warp * CHAIN, end = count < first + CHAIN ? count : first + CHAIN;
        ROLLED
        for (u32 base = 0; base < a.of_values; base += COLUMNS) {
            const u32 column = base + 4 * lane;
            float sums[ROWS][4] = {};
            u32 key = first;
            ROLLED
            for (; key + STEP <= end; key += STEP) {
                add_keys<STEP>(key, column, sums);
            }
            ROLLED
            for (; key < end; key++) {
                add_keys<1>(key, column, sums);
            }
            UNROLLED
            for (u32 row = 0; row < ROWS; row += shared.SUMMED) {
                __syncthreads();
                if (warp < chains) {
                    for (u32 i = 0; i < shared.SUMMED; i++) {
                        for (u32 j = 0; j < 4; j++) {
                            shared.partial[warp][i][4 * lane + j] = sums[row + i][j];
                        }
                    }
                }
                __syncthreads();
                add_chains(slot, row, base, chains);
            }
        }
    }

    // Adds the sums of a row's chains in order, for each of the rows in `shared.partial`. Stores the results in
    // `COLUMNS` columns from `base` on.
    DEVICE void add_chains(u32 slot, u32 row, u32 base, u32 chains) const {
        ROLLED
        for (u32 i = threadIdx.x; i < shared.SUMMED * COLUMNS; i += KEYS) {
            const u32 of_row = i / COLUMNS, column = i % COLUMNS;
            if (row + of_row < rows && base + column < a.of_values) {
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
        return (sequence * a.heads + first_head + row) * a.slots + slot;
    }

    DEVICE void attend(u32 block, u32 lanes) const {
        const u32 first = block * KEYS, warp = threadIdx.x / WARP;
        const u32 low = range.low > first ? range.low - first : 0;
        const u32 high = range.high - first < KEYS ? range.high - first : KEYS;
        const PagePosition position(a, sequence, first + threadIdx.x, range.contains(first + threadIdx.x));
        __syncthreads();
        shared.at[threadIdx.x] = position.in(a, a.k, key_head);
        __syncthreads();
        products(lanes, high);
        __syncthreads();
        shared.at[threadIdx.x] = position.in(a, a.v, key_head);
        if (warp < ROWS) {
            const BlockEnd end = weigh(a, shared.weights[warp], low, high);
            if (threadIdx.x % WARP == 0) {
                shared.ends[warp] = end;
            }
        }
        __syncthreads();
        const u32 slot = block - range.first_block();
        weighted_sums(slot, high);
        __syncthreads();
        if (threadIdx.x < rows) {
            ((BlockEnd*)a.ends)[slot_of(threadIdx.x, slot)] = shared.ends[threadIdx.x];
        }
    }
};

template <class S, template <class> class By, u32 ROWS>
DEVICE void attention_decode(const DecodeArguments& a) {
    __shared__ DecodeShared<ROWS> shared;
    const u32 group = a.heads / a.key_heads, parts = (group + ROWS - 1) / ROWS;
    const u32 lanes = a.features <= CHAIN ? 1 : a.features <= 2 * CHAIN ? 2 : a.features <= 4 * CHAIN ? 4 : 8;
    const u64 units = a.sequences * a.key_heads * parts;
    ROLLED
    for (u64 index = blockIdx.x; index < units * a.splits; index += gridDim.x) {
        const u64 unit = index / a.splits, sequence = unit / (a.key_heads * parts);
        const u32 of_sequence = (u32)(unit % (a.key_heads * parts)), part = of_sequence % parts;
        const u32 key_head = of_sequence / parts, first_head = key_head * group + part * ROWS;
        const u32 rows = group - part * ROWS < ROWS ? group - part * ROWS : ROWS;
        const Decode<S, By, ROWS> decode = {a, shared, sequence, key_head, first_head, rows, KeyRange(a, sequence)};
        const u32 end = decode.range.fits ? decode.range.end_block() : 0;
        u32 block = decode.range.first_block() + (u32)(index % a.splits);
        if (block < end) {
            __syncthreads();
            decode.load_queries(lanes);
        }
        ROLLED
        for (; block < end; block += a.splits) {
            decode.attend(block, lanes);
        }
    }
}

struct MergeShared {
    WideShared wide;
    BlockEnd ends[KEYS];
    double factors[KEYS];
    u32 is_larger[KEYS];
    u32 narrow;
};

// Merges the results of a row's blocks of keys in order, and stores the row. Each thread computes one feature.
template <class S>
DEVICE void merge_row(const DecodeArguments& a, u64 row, MergeShared& shared) {
    const u64 sequence = row / a.heads;
    const u32 head = (u32)(row % a.heads);
    const KeyRange range(a, sequence);
    float sink_value[1];
    const Operand sinks = {a.sinks, a.sink_type, -INFINITE};
    sinks.load<F32, 1>(head, sink_value);
    double max = (double)sink_value[0], sum = sink_value[0] == -INFINITE ? 0.0 : 1.0, out = 0.0;
    bool is_nan = !range.fits || sink_value[0] != sink_value[0], is_infinite = sink_value[0] == INFINITE;
    const u32 first = range.first_block(), blocks = range.fits ? range.end_block() - first : 0;
    const u64 slots = row * a.slots;
    const auto merge = [&](bool is_larger, double factor, double end_sum, double value) {
        sum = is_larger ? fma(sum, factor, end_sum) : fma(end_sum, factor, sum);
        out = is_larger ? fma(out, factor, value) : fma(value, factor, out);
    };
    u32 at = 0;
    ROLLED
    while (at < blocks) {
        const u32 count = blocks - at < KEYS ? blocks - at : KEYS;
        __syncthreads();
        BlockEnd own = {-(double)INFINITE, 0.0};
        if (threadIdx.x < count) {
            own = ((const BlockEnd*)a.ends)[slots + at + threadIdx.x];
        }
        shared.ends[threadIdx.x] = own;
        if (threadIdx.x == 0) {
            shared.narrow = count;
        }
        __syncthreads();
        if (own.sum < 0.0) {
            atomicMin(&shared.narrow, threadIdx.x);
        }
        __syncthreads();
        const u32 narrow = shared.narrow;
        // Finds the factor of each block up to the first one that is computed in f64.
        double before = max;
        ROLLED
        for (u32 i = 0; i < (threadIdx.x < narrow ? threadIdx.x : narrow); i++) {
            before = larger(shared.ends[i].max, before);
        }
        const bool is_larger = own.max > before;
        shared.factors[threadIdx.x] = merge_weight(is_larger ? before - own.max : own.max - before);
        shared.is_larger[threadIdx.x] = is_larger;
        __syncthreads();
        ROLLED
        for (u32 i = 0; i < narrow; i += LOADED) {
            float values[LOADED] = {};
            for (u32 j = 0; j < LOADED; j++) {
                if (i + j < narrow && threadIdx.x < a.of_values) {
                    values[j] = ((const float*)a.sums)[(slots + at + i + j) * a.of_values + threadIdx.x];
                }
            }
            UNROLLED
            for (u32 j = 0; j < LOADED; j++) {
                if (i + j < narrow) {
                    merge(shared.is_larger[i + j], shared.factors[i + j], shared.ends[i + j].sum, (double)values[j]);
                    max = larger(shared.ends[i + j].max, max);
                }
            }
        }
        at += narrow;
        if (narrow < count) {
            const WideBlock wide = wide_block<S>(a, sequence, head, first + at, range, shared.wide);
            is_nan = is_nan || wide.max != wide.max;
            is_infinite = is_infinite || wide.max == (double)INFINITE;
            if (fabs(wide.max) < (double)INFINITE) {
                const bool is_larger = wide.max > max;
                merge(is_larger, merge_weight(is_larger ? max - wide.max : wide.max - max), wide.sum, wide.value);
                max = larger(wide.max, max);
            }
            at += 1;
        }
    }
    const bool is_masked = !is_nan && !is_infinite && max == -(double)INFINITE;
    if (is_nan || is_infinite || is_masked) {
        count_guards(a.guards, row, is_nan, is_masked);
    }
    if (threadIdx.x < a.of_values) {
        const double most = 0x1.fffffffffffffp1023, mean = out / sum;
        const double clamped = fabs(out) <= most ? larger(smaller(mean, most), -most) : mean;
        const u32 bits = store_wide<S>(is_nan || is_infinite ? NOT_A_NUMBER : is_masked ? 0.0 : clamped);
        typename S::Bits* to = (typename S::Bits*)a.out + sequence * a.out_sequence + head * a.out_head;
        to[threadIdx.x] = (typename S::Bits)bits;
    }
}

template <class S>
DEVICE void attention_merge(const DecodeArguments& a) {
    __shared__ MergeShared shared;
    ROLLED
    for (u64 row = blockIdx.x; row < a.sequences * a.heads; row += gridDim.x) {
        merge_row<S>(a, row, shared);
    }
}

#define ATTENTION_DECODE(TYPE, NAME)                                                                                       \
    ENTRY_OF_BLOCKS(attention_decode_##NAME##_any, DecodeArguments, 256, 2, (attention_decode<TYPE, Singles, 1>(arguments))) \
    ENTRY_OF_BLOCKS(attention_decode_##NAME##_1, DecodeArguments, 256, 2, (attention_decode<TYPE, Vectors, 1>(arguments)))   \
    ENTRY_OF_BLOCKS(attention_decode_##NAME##_4, DecodeArguments, 256, 2, (attention_decode<TYPE, Vectors, 4>(arguments)))   \
    ENTRY_OF_BLOCKS(attention_decode_##NAME##_8, DecodeArguments, 256, 2, (attention_decode<TYPE, Vectors, 8>(arguments)))   \
    ENTRY_OF_BLOCKS(attention_merge_##NAME, DecodeArguments, 256, 2, (attention_merge<TYPE>(arguments)))

ATTENTION_DECODE(F32, f32)
ATTENTION_DECODE(F16, f16)
ATTENTION_DECODE(BF16, bf16)
