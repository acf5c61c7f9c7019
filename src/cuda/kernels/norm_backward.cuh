// Argument of the kernels of the norms' gradients.
#pragma once
#include "common.cuh"

struct NormBackwardArguments {
    u64 x, dy, dx;      // [rows, cols]
    u64 weight;         // [cols]
    u64 moments;        // [rows, 3]: means, factors and shifts; or 0
    u64 tiles;          // [ceil(rows / 256), 2, cols]: sums over rows of dy n, and of dy
    u64 dweight, dbias; // [cols], or 0
    u64 rows;
    double weight_offset, eps;
    u32 cols;
    u32 weight_type, dweight_type, dbias_type;
    u32 is_centred;
    u32 is_rounded; // Whether dweight uses n rounded to the rows' type.
};
