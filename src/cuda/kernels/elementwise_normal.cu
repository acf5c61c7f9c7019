// The error function and gelu of elements.
#include "elementwise.cuh"
#include "normal.cuh"
#include "normal_pair.cuh"

FUNCTION_WITH(Erf, erf_wide(x), x, false, erf_sides(tables, x), true)
FUNCTION_PAIR(Gelu, gelu_wide(x), near_gelu(x), gelu_sides)

ELEMENTWISE(Erf, erf)
ELEMENTWISE(Gelu, gelu)
