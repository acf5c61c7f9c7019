// The error function and gelu of elements.
#include "elementwise.cuh"
#include "normal.cuh"

FUNCTION(Erf, erf_wide(x))
FUNCTION(Gelu, gelu_wide(x))

ELEMENTWISE(Erf, erf)
ELEMENTWISE(Gelu, gelu)
