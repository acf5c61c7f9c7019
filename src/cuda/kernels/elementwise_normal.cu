// The error function and gelu of elements.
#include "elementwise.cuh"
#include "normal.cuh"

FUNCTION(Erf, erf_wide(x))
FUNCTION_NEAR(Gelu, gelu_wide(x), near_gelu(x))

ELEMENTWISE(Erf, erf)
ELEMENTWISE(Gelu, gelu)
