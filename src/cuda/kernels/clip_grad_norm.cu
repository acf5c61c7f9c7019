// Clips the norm of all elements of many tensors, as `src/cpu/clip_grad_norm.rs` defines it. A tiled sum adds the
// squares of each tensor. A second tiled sum adds the results of all tensors.
//
// Four kernels run one after the other without waiting for the host. The kernels compute the sums of tiles, the sums of
// tensors, the factor, and the elements multiplied by the factor. In the first and the last kernel, a block processes a
// run of 32 tiles of a tensor at a time.
#include "sum.cuh"
#include "wide.cuh"

struct Tensor {
    u64 address, len;
    u64 first_run; // Number of runs in the tensors before this one.
    u64 type;      // 0: f32, 1: f16, 2: bf16
};

struct ClipArguments {
    u64 tensors; // [count]
    u64 count;
    u64 runs;    // Number of runs in all tensors.
    u64 tiles;   // [runs, 32], f64: sums of tiles
    u64 parts;   // [count], f64: sums of tensors
    u64 norm;    // [1], f64
    u64 scale;   // [2], f64: the factor, and 1 if elements are multiplied, else 0
    u64 refuses; // Whether a norm that is not finite leaves all elements unchanged.
    u64 torch;   // Whether the factor is max_norm / (norm + 1e-6), instead of max_norm / norm.
    double max_norm;
};

const u32 WARPS = 8, TILES_OF_RUN = 32, RUN = TILES_OF_RUN * 256;

template <class S, class Act>
DEVICE void with_run(const Tensor& tensor, u64 run, Act act) {
    const typename S::Bits* from = (const typename S::Bits*)tensor.address + run * RUN;
    const u64 left = tensor.len - run * RUN;
    const u32 cols = left < RUN ? (u32)left : RUN;
    if (tensor.address % 16 == 0 && cols % Vectors<S>::COUNT == 0) {
        act(Held<S, Vectors, WARPS, 0>(from, cols));
    } else {
        act(Held<S, Singles, WARPS, 0>(from, cols));
    }
}

// Calls `act` with each run that this thread block processes. A run is a group of neighbouring elements of a tensor.
template <class Act>
DEVICE void each_run(const ClipArguments& a, Act act) {
    const Tensor* tensors = (const Tensor*)a.tensors;
    for (u64 run = blockIdx.x; run < a.runs; run += gridDim.x) {
        // Finds the last tensor whose first run is at most `run`. An empty tensor has the same `first_run` as the next
        // tensor, so an empty tensor is never found.
        u64 low = 0, high = a.count;
        while (high - low > 1) {
            const u64 middle = low + (high - low) / 2;
            if (tensors[middle].first_run <= run) {
                low = middle;
            } else {
                high = middle;
            }
        }
        const Tensor tensor = tensors[low];
        const auto with = [&](auto held) { act(run, held); };
        if (tensor.type == 0) {
            with_run<F32>(tensor, run - tensor.first_run, with);
        } else if (tensor.type == 1) {
            with_run<F16>(tensor, run - tensor.first_run, with);
        } else {
            with_run<BF16>(tensor, run - tensor.first_run, with);
        }
    }
}

template <class S, template <class> class By>
DEVICE void sum_tiles(Held<S, By, WARPS, 0>& held, double* sums) {
    typedef Places<S, By, WARPS> At;
    const u32 LANES = 64 / At::GROUP;
    ROLLED
    for (u32 step = 0; step < TILES_OF_RUN / At::TILES; step++) {
        double own[LANES] = {};
        held.each_of_tile(step, [&](u32 piece, u32, const float* x) {
            for (u32 i = 0; i < At::COUNT; i++) {
                double& sum = own[At::COUNT == 1 ? piece % 2 : i];
                sum = fma((double)x[i], (double)x[i], sum);
            }
        });
        double tile;
        if (At::COUNT == 1) {
            // Folds lanes 0 to 31 and lanes 32 to 63 separately, and then adds the two results.
            tile = fold(own[0], WARP) + fold(own[1], WARP);
        } else {
            for (u32 width = LANES / 2; width > 0; width /= 2) {
                for (u32 i = 0; i < width; i++) {
                    own[i] = own[2 * i] + own[2 * i + 1];
                }
            }
            tile = fold(own[0], At::GROUP);
        }
        if (threadIdx.x % At::GROUP == 0) {
            sums[step * At::TILES + threadIdx.x / At::GROUP] = tile;
        }
    }
}

DEVICE void tiles_of(const ClipArguments& a) {
    each_run(a, [&](u64 run, auto& held) { sum_tiles(held, (double*)a.tiles + run * TILES_OF_RUN); });
}

// Sums the 64 lanes of a tiled sum. Each of the block's 64 threads passes one lane.
DEVICE double fold_block(double own) {
    __shared__ double lanes[64];
    __syncthreads();
    lanes[threadIdx.x] = own;
    __syncthreads();
    return fold_lanes([&](u32 lane) { return lanes[lane]; });
}

DEVICE void parts_of(const ClipArguments& a) {
    const u32 AT_ONCE = 8;
    for (u64 index = blockIdx.x; index < a.count; index += gridDim.x) {
        const Tensor tensor = ((const Tensor*)a.tensors)[index];
        const double* sums = (const double*)a.tiles + tensor.first_run * TILES_OF_RUN;
        const u64 tiles = (tensor.len + 255) / 256;
        double own = 0.0;
        ROLLED
        for (u64 first = threadIdx.x; first < tiles; first += 64 * AT_ONCE) {
            double terms[AT_ONCE];
            for (u32 i = 0; i < AT_ONCE; i++) {
                terms[i] = first + 64 * i < tiles ? sums[first + 64 * i] : 0.0;
            }
            for (u32 i = 0; i < AT_ONCE; i++) {
                own += terms[i];
            }
        }
        const double part = fold_block(own);
        if (threadIdx.x == 0) {
            ((double*)a.parts)[index] = part;
        }
    }
}

// Splits a positive number into a mantissa from 1 to 2 and an exponent.
DEVICE double mantissa(double v, int& exponent) {
    const bool is_tiny = v < 0x1p-1022;
    const u64 bits = bits_of_wide(is_tiny ? v * 0x1p54 : v);
    exponent = (int)(bits >> 52) - (is_tiny ? 1023 + 54 : 1023);
    return wide_of((bits & 0x000fffffffffffff) | ONE_BITS);
}

// Computes max_norm / norm.
DEVICE double ratio(double max_norm, double norm) {
    if (max_norm == 0.0) {
        return 0.0;
    }
    int of_max, of_norm;
    const double fraction = mantissa(max_norm, of_max) / mantissa(norm, of_norm);
    const int exponent = of_max - of_norm;
    // Elements are f32, f16 or bf16, so below 2^128. If the factor is below 2^-1000, every product rounds to zero.
    return exponent < -1000 ? 0.0 : fraction * power_of_two((u64)(long long)exponent);
}

// Returns whether elements must be multiplied, and sets the factor `scale`.
DEVICE bool scales(const ClipArguments& a, double norm, double& scale) {
    if (norm < INFINITE) {
        const double compared = a.torch ? norm + 1e-6 : norm;
        scale = ratio(a.max_norm, compared);
        return compared > a.max_norm;
    }
    scale = a.max_norm / norm;
    return a.torch && !a.refuses;
}

DEVICE void settle(const ClipArguments& a) {
    const double* parts = (const double*)a.parts;
    double own = 0.0;
    ROLLED
    for (u64 tile = 0; tile * 256 < a.count; tile++) {
        double in_tile = 0.0;
        for (u32 i = 0; i < 4; i++) {
            const u64 at = tile * 256 + i * 64 + threadIdx.x;
            in_tile += at < a.count ? parts[at] : 0.0;
        }
        const double sum = fold_block(in_tile);
        own += threadIdx.x == tile % 64 ? sum : 0.0;
    }
    const double norm = sqrt(fold_block(own));
    if (threadIdx.x == 0) {
        double scale;
        const bool does = scales(a, norm, scale);
        *(double*)a.norm = norm == norm ? norm : NOT_A_NUMBER;
        ((double*)a.scale)[0] = scale;
        ((double*)a.scale)[1] = does ? 1.0 : 0.0;
    }
}

template <class S, template <class> class By>
DEVICE void multiply_run(Held<S, By, WARPS, 0>& held, double scale) {
    typename S::Bits* to = (typename S::Bits*)held.row;
    held.each([&](u32 column, const float* x) {
        u32 bits[By<S>::COUNT];
        for (u32 i = 0; i < By<S>::COUNT; i++) {
            bits[i] = store_wide<S>((double)x[i] * scale);
        }
        By<S>::store(to + column, bits);
    });
}

DEVICE void multiply(const ClipArguments& a) {
    const double* scale = (const double*)a.scale;
    if (scale[1] == 1.0) {
        each_run(a, [&](u64, auto& held) { multiply_run(held, scale[0]); });
    }
}

ENTRY(clip_grad_norm_tiles, ClipArguments, 256, (tiles_of(arguments)))
ENTRY(clip_grad_norm_parts, ClipArguments, 64, (parts_of(arguments)))
ENTRY(clip_grad_norm_settle, ClipArguments, 64, (settle(arguments)))
ENTRY(clip_grad_norm_multiply, ClipArguments, 256, (multiply(arguments)))
