// Gradients of rows of norms, for rows of any length and at any address.
#pragma once
#include "norm_near.cuh"
#include "norm_row.cuh"

template <class S>
struct GradientRow {
    typedef typename S::Bits Bits;
    static const u32 COUNT = Vectors<S>::COUNT;
    StoredRow<S> x, dy;
    const Operand& weight;

    DEVICE GradientRow(const Bits* x, const Bits* dy, u32 cols, const Operand& weight)
        : x(x, cols), dy(dy, cols), weight(weight) {}

    // Computes the sums of h * n and of h.
    DEVICE void sum(const RowGradient& gradient, RowSums<2>& shared, double (&sums)[2]) const {
        const RowPieces<S> of_x(x, 0), of_dy(dy, 0);
        const OperandPieces<S> of_weight(weight, x.cols, 0);
        sum_row<S, COUNT>(x.cols, shared, sums, [&](u32 column, u32, double(&own)[COUNT][2]) {
            float elements[COUNT], gradients[COUNT], weights[COUNT];
            of_x.load(column, elements);
            of_dy.load(column, gradients);
            of_weight.template load<S, COUNT>(column, weights);
            // Behind the end of the row, dy is 0, so the terms are 0 or NaN. The terms are NaN only if the row's
            // factors are NaN, and then all terms of the row are NaN.
            for (u32 k = 0; k < COUNT; k++) {
                gradient.add(elements[k], gradient.h(gradients[k], weights[k]), own[k]);
            }
        });
    }

    // Writes the gradients. Most elements of 16-bit types are computed in f32, if the row allows it.
    DEVICE void write(const RowGradient& gradient, Bits* to) const {
        if constexpr (sizeof(Bits) == 2) {
            const NearGradient near(gradient);
            if (near.serves) {
                write_near(near, gradient, to);
                return;
            }
        }
        write_wide(gradient, to);
    }

    DEVICE void write_near(const NearGradient& near, const RowGradient& gradient, Bits* to) const {
        const Division<S> parts(to, x.cols);
        const RowPieces<S> of_x(x, parts.head), of_dy(dy, parts.head);
        const OperandPieces<S> of_weight(weight, x.cols, parts.head);
        const auto piece = [&](u32 column) {
            TileRow<S> elements, gradients;
            float weights[COUNT];
            u32 words[4];
            of_x.load(column, elements.words[0]);
            of_dy.load(column, gradients.words[0]);
            of_weight.template load<S, COUNT>(column, weights);
            near.write<S, false>(elements, gradients, 0, weights, words, [&](u32 k) {
                return exact(gradient, parts.head + column + k);
            });
            Vectors<S>::store_words(to + parts.head + column, {words[0], words[1], words[2], words[3]});
        };
        each_result(parts, piece, [&](u32 column) { to[column] = (Bits)exact(gradient, column); });
    }

    // Computes and writes the gradients in f64.
    DEVICE void write_wide(const RowGradient& gradient, Bits* to) const {
        const Division<S> parts(to, x.cols);
        const RowPieces<S> of_x(x, parts.head), of_dy(dy, parts.head);
        const OperandPieces<S> of_weight(weight, x.cols, parts.head);
        const auto piece = [&](u32 column) {
            float elements[COUNT], gradients[COUNT], weights[COUNT];
            u32 bits[COUNT];
            of_x.load(column, elements);
            of_dy.load(column, gradients);
            of_weight.template load<S, COUNT>(column, weights);
            for (u32 k = 0; k < COUNT; k++) {
                bits[k] = gradient.dx<S>(elements[k], gradients[k], weights[k]);
            }
            Vectors<S>::store(to + parts.head + column, bits);
        };
        each_result(parts, piece, [&](u32 column) { to[column] = (Bits)exact(gradient, column); });
    }

    // Computes the gradient of an element in f64.
    DEVICE u32 exact(const RowGradient& gradient, u32 column) const {
        float of_weight[1];
        weight.load<S, 1>(column, of_weight);
        return gradient.dx<S>(S::widen(x.row[column]), S::widen(dy.row[column]), of_weight[0]);
    }
};
