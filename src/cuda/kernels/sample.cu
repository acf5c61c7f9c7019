// Samples a token of each row of logits, as `src/cpu/sample.rs` defines it. A mass is the weight of a token, rounded to
// an integer, so the order of a sum of masses does not matter. One block processes a short row. A long row takes four
// kernels: in each of the first three, several blocks read the row, and in the fourth, one block completes it.
#include "sample_filters.cuh"

// Returns whether a penalised token is outside the vocabulary.
template <u32 WARPS>
DEVICE bool has_unknown_token(const SampleRequest& request, u32 cols, u32* partial) {
    if (request.prompt_len + request.output_len == 0) {
        return false;
    }
    u32 own = 0;
    for (u32 i = threadIdx.x; i < request.prompt_len + request.output_len; i += WARPS * WARP) {
        const bool is_prompt = i < request.prompt_len;
        const u32* from = (const u32*)(is_prompt ? request.prompt : request.output);
        own |= from[is_prompt ? i : i - request.prompt_len] >= cols;
    }
    __syncthreads();
    return over_block<WARPS>(own, partial, [](u32 own, u32 distance) {
        for (; distance > 0; distance /= 2) {
            own |= lane_beside(own, distance);
        }
        return own;
    });
}

template <class S, u32 WARPS>
DEVICE SampleOutcome sample_row(const SampleArguments& a, u64 index, SampleShared<WARPS>& shared) {
    const SampleRequest& request = ((const SampleRequest*)a.requests)[index];
    if (has_unknown_token<WARPS>(request, a.cols, shared.words)) {
        return {UNKNOWN_TOKEN, 0, 0, 0};
    }
    if (request.penalises && request.prompt_len + request.output_len > 0 && !a.adjusted) {
        return {NOT_ADJUSTED, 0, 0, 0};
    }
    SampleRow<S, WARPS> row(a, request, index, shared);
    if (row.top != row.top) {
        return {HAS_NAN, row.first_nan(), 0, 0};
    }
    if (row.top == -INFINITE) {
        return {NOTHING_LEFT, 0, 0, 0};
    }
    const double heat = request.filters > 0 && request.filter[0].kind == TEMPERATURE ? request.filter[0].value : 1.0;
    ROLLED
    for (u32 i = 0; i < request.filters && row.top < INFINITE; i++) {
        row.filter(request.filter[i], i == row.plan.lead, heat);
    }
    if (row.top == INFINITE) {
        // The tokens whose logit is +inf are drawn with equal probabilities, and the filters do not apply.
        row.least = INFINITE;
    }
    const SampleOutcome outcome = row.draw(random_bits(request));
    if (a.kept && threadIdx.x == 0) {
        ((SampleKept*)a.kept)[index] = {row.inverse, row.top, row.least, row.first, row.last};
    }
    return outcome;
}

template <class S, u32 WARPS>
DEVICE void sample(const SampleArguments& a) {
    __shared__ SampleShared<WARPS> shared;
    fill(shared.tables);
    __syncthreads();
    for (u64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const SampleOutcome outcome = sample_row<S, WARPS>(a, row, shared);
        if (threadIdx.x == 0) {
            ((SampleOutcome*)a.outcomes)[row] = outcome;
        }
        __syncthreads();
    }
}

// Rounds the new value of a finite logit to f32, and keeps it finite. A logit that is not finite is unchanged.
DEVICE float changed(float z, double to) {
    const double LIMIT = 0x1.fffffep127;
    to = to > LIMIT ? LIMIT : to < -LIMIT ? -LIMIT : to;
    return fabsf(z) < INFINITE ? (float)to : z;
}

// Applies the penalties to z, the logit of a token of the history. `count` is how often the token occurs, excluding a
// prompt that is not counted.
DEVICE float penalised(const SampleRequest& request, float z, u32 count) {
    z = changed(z, z > 0.0f ? (double)z / request.repetition : (double)z * request.repetition);
    const float frequency = changed(0.0f, (double)count * request.frequency);
    if (request.penalises == 2) {
        return changed(z, (double)z - (double)changed(0.0f, (double)frequency + request.presence));
    }
    if (count > 0) {
        z = changed(z, (double)z - (double)frequency);
        z = changed(z, (double)z - request.presence);
    }
    return z;
}

// Copies rows of logits to f32 and applies the penalties of their requests, as `src/sampler/adjust.rs` defines them.
// Each block processes one row. The output row first holds an integer for each token: twice the number of the token's
// counted occurrences, plus 1 if the token is in a prompt that is not counted.
template <class S>
DEVICE void adjust(const AdjustArguments& a) {
    const u32 THREADS = 256;
    for (u64 row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const SampleRequest& request = ((const SampleRequest*)a.requests)[row];
        const typename S::Bits* from = (const typename S::Bits*)a.logits + row * a.cols;
        u32* counts = (u32*)a.adjusted + row * a.cols;
        for (u64 i = threadIdx.x; i < a.cols; i += THREADS) {
            counts[i] = 0;
        }
        __syncthreads();
        const auto each = [&](u64 tokens, u32 count, auto f) {
            for (u32 i = threadIdx.x; i < count && request.penalises; i += THREADS) {
                const u32 token = ((const u32*)tokens)[i];
                if (token < a.cols) {
                    f(counts + token);
                }
            }
        };
        const auto count = [](u32* to) { atomicAdd(to, 2u); };
        if (request.penalises == 2) {
            each(request.prompt, request.prompt_len, count);
        } else {
            each(request.prompt, request.prompt_len, [](u32* to) { *to = 1; });
        }
        __syncthreads();
        each(request.output, request.output_len, count);
        __syncthreads();
        for (u64 i = threadIdx.x; i < a.cols; i += THREADS) {
            const float z = S::widen(from[i]);
            ((float*)counts)[i] = counts[i] > 0 ? penalised(request, z, counts[i] / 2) : z;
        }
        __syncthreads();
    }
}

DEVICE void advance(const AdvanceArguments& a) {
    if (threadIdx.x == 0) {
        *(u64*)a.counter += 1;
    }
}

#define SAMPLE(TYPE, NAME)                                                                                             \
    ENTRY(sample_##NAME##_8, SampleArguments, 256, (sample<TYPE, 8>(arguments)))                                       \
    ENTRY(sample_##NAME##_16, SampleArguments, 512, (sample<TYPE, 16>(arguments)))                                     \
    ENTRY_OF_PARTS(sample_survey_##NAME, (each_part<TYPE>(arguments, [](auto& part) { part.survey(); })))              \
    ENTRY_OF_PARTS(sample_measure_##NAME, (each_part<TYPE>(arguments, [](auto& part) { part.measure(); })))            \
    ENTRY(sample_list_##NAME, SampleArguments, 256,                                                                    \
          (each_part<TYPE>(arguments, [](auto& part) { part.list(); })))                                               \
    ENTRY(sample_adjust_##NAME, AdjustArguments, 256, (adjust<TYPE>(arguments)))

SAMPLE(F32, f32)
SAMPLE(F16, f16)
SAMPLE(BF16, bf16)
ENTRY(sample_advance, AdvanceArguments, 32, (advance(arguments)))
