// Gradients of functions of one element: the gradient of the result times the derivative, as
// `src/cpu/elementwise_backward.rs` defines them. The first operand is x, the second the gradient.
#pragma once
#include "approx_derivative.cuh"
#include "derivative.cuh"
#include "derivative_pair.cuh"
#include "elementwise.cuh"

// Returns `dx`, the product of the gradient `dy` and a derivative. If `dy` is zero and x is a number, the result is
// `dy`, however large the derivative is.
DEVICE double unless_zero(double x, double dy, double dx) { return dy == 0.0 && x == x ? dy : dx; }

// Defines the gradient of a function from its derivative in f64, from an interval around the derivative for 16-bit
// types, and from its derivative as a float-float pair.
#define GRADIENT(NAME, DERIVATIVE, NEAR, PAIR)                                                                         \
    struct NAME {                                                                                                      \
        typedef PairTables Tables;                                                                                     \
        static const bool OF_TWO = true, HAS_NEAR = true, HAS_PAIR = true;                                             \
        DEVICE NAME(const ElementwiseArguments&) {}                                                                    \
        DEVICE double operator()(double x, double dy) const {                                                          \
            return unless_zero(x, dy, times_derivative(dy, DERIVATIVE));                                               \
        }                                                                                                              \
        template <class S>                                                                                             \
        DEVICE Interval near(float x, float dy) const {                                                                \
            return times_gradient<S>(x, dy, NEAR);                                                                     \
        }                                                                                                              \
        DEVICE Sides sides(const PairTables& tables, float x, float dy) const {                                        \
            return gradient_sides(x, dy, PAIR);                                                                        \
        }                                                                                                              \
    };

// Defines a gradient that is computed in f64 only. It is 0 for x outside of the range from `options[0]` to
// `options[1]`.
#define GRADIENT_WITHIN(NAME, PRODUCT)                                                                                 \
    struct NAME {                                                                                                      \
        static const bool OF_TWO = true, HAS_NEAR = false, HAS_PAIR = false;                                           \
        const double min, max;                                                                                         \
        DEVICE NAME(const ElementwiseArguments& a) : min(a.options[0]), max(a.options[1]) {}                           \
        DEVICE double operator()(double x, double dy) const {                                                          \
            dy = x < min || max < x ? 0.0 : dy;                                                                        \
            return unless_zero(x, dy, PRODUCT);                                                                        \
        }                                                                                                              \
    };
