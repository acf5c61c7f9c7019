// The error function and gelu of elements.
#include "elementwise.cuh"
#include "normal.cuh"
#include "normal_pair.cuh"

FUNCTION_PAIR(Erf, erf_wide(x), near_erf(x), erf_sides)
FUNCTION_PAIR(Gelu, gelu_wide(x), near_gelu<S>(x), gelu_sides)

ELEMENTWISE(Erf, erf)
ELEMENTWISE(Gelu, gelu)
