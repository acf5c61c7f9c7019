// Weights of a block of keys: exponentials of the logits, relative to the block's largest logit.
#pragma once
#include "attention_decode.cuh"

// Replaces a row's products by weights, with zeros for masked keys. All lanes of a warp make this call together. The
// visible keys are `low..high` of the block.
DEVICE BlockEnd weigh(const DecodeArguments& a, float* row, u32 low, u32 high) {
    const u32 HELD = KEYS / WARP, lane = threadIdx.x % WARP;
    float scores[HELD], max = -INFINITE;
    bool is_finite = !a.in_wide;
    for (u32 i = 0; i < HELD; i++) {
        const u32 key = i * WARP + lane;
        const float score = (key < high ? row[key] : 0.0f) * (float)a.scale;
        const bool is_visible = (low <= key) & (key < high);
        is_finite &= !is_visible | (fabsf(score) < INFINITE);
        scores[i] = is_visible ? score : -INFINITE;
        max = scores[i] > max ? scores[i] : max;
    }
    is_finite = __all_sync(0xffffffffu, is_finite);
    max = of_key(largest_of_warp(key_of(max)));
    const SoftmaxExp exp(is_finite ? max : 0.0f, -INFINITE);
    const LaneTables tables = exp.lane_tables();
    UnitSum sum;
    for (u32 i = 0; i < HELD; i++) {
        const float weight = exp.power<false>(tables, is_finite ? scores[i] : -INFINITE);
        sum.add(weight);
        row[i * WARP + lane] = weight;
    }
    sum.collect();
    const u64 units = total<1>(sum.units, nullptr).whole();
    return {(double)max, is_finite ? (double)units * 0x1p-45 : -1.0};
}

// Replaces products by weights as `weigh` does, for logits with a softcap.
DEVICE BlockEnd weigh_capped(const DecodeArguments& a, float* row, u32 low, u32 high) {
    const u32 lane = threadIdx.x % WARP;
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
            const double wide = logit(score);
            const float z = (float)wide;
            is_exact = is_exact && (double)z == wide;
            wide_max = larger(wide, wide_max);
            max = z > max ? z : max;
        }
    }
    is_finite = __all_sync(0xffffffffu, is_finite);
    is_exact = __all_sync(0xffffffffu, is_exact);
    max = of_key(largest_of_warp(key_of(max)));
    for (u32 distance = WARP / 2; distance > 0; distance /= 2) {
        wide_max = larger(lane_beside(wide_max, distance), wide_max);
    }
    const SoftmaxExp exp(is_exact && is_finite ? max : 0.0f, -INFINITE);
    const LaneTables tables = exp.lane_tables();
    UnitSum sum;
    ROLLED
    for (u32 key = lane; key < KEYS; key += WARP) {
        float z = -INFINITE, rest = 0.0f;
        if (low <= key && key < high && is_finite) {
            double wide = logit(row[key]);
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
