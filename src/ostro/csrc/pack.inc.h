// Floats to codes: one group of 32 columns of a panel, a lane to an output (checkpoint/packing.py has the method). The
// driver rounds the scales between the two kernels, `fit_scales` and `encode_group`.
//
// The bits are those of the NumPy definition on every kernel set: sums run over the columns in their order, products
// are not fused with them, and levels are whole numbers, whose sums are exact in any order. A search of ten scales asks
// for the nearest of 16 levels eleven times a weight. In general that is the sum of the steps that lie below it,
//     level(x) = levels[0] + sum over i of (levels[i + 1] - levels[i]) [x > middle[i]],
// 45 operations; where levels are one apart (INT4) it is rounding and clipping, 8. Measured on two threads of a busy
// Zen 4 machine, in millions of weights a second: P8 860, INT4 260, NF4 100 (AVX2 800, 250, 88; NumPy 140, 2, 2).

namespace {

using namespace ostro;

constexpr int COLUMNS = 32, OUTPUTS = 16;
constexpr float SMALLEST = 0x1p-32f;  // a group whose largest weight is not above this becomes zero

// Of two levels equally near the lower.
template <bool ONE_APART>
ALWAYS_INLINE Vec nearest_level(const Levels& a, Vec x) {
    if constexpr (ONE_APART) {
        const Vec r = vround(x), down = vkeep_above(vsub(r, x), vset(0x1.fffffep-2f), vset(1.0f));
        return vmin(vmax(vsub(r, down), vset(a.first)), vset(a.last));
    } else {
        Vec sum = vset(a.first), other = vzero();
        unroll<15>([&](auto i) {
            Vec& part = i % 2 ? other : sum;
            part = vadd(part, vkeep_above(x, vset(a.middles[i]), vset(a.steps[i])));
        });
        return vadd(sum, other);
    }
}

template <bool ONE_APART>
ALWAYS_INLINE Vec nearest_code(const Levels& a, Vec x) {
    if constexpr (ONE_APART) return vsub(nearest_level<true>(a, x), vset(a.first));
    Vec sum = vzero(), other = vzero();
    unroll<15>([&](auto i) {
        Vec& part = i % 2 ? other : sum;
        part = vadd(part, vkeep_above(x, vset(a.middles[i]), vset(1.0f)));
    });
    return vadd(sum, other);
}

// A number for each of the 16 outputs.
struct PerOutput {
    float v[OUTPUTS];
};

// For every output the codes that w * inverse asks for: what they take off the squared error, and their best scale.
template <bool ONE_APART>
void fit(const float* w, const Levels& a, const PerOutput& inverse, PerOutput* gain, PerOutput* fitted) {
    for (int n = 0; n < OUTPUTS; n += L) {
        const Vec by = vload(inverse.v + n);
        Vec dot = vzero(), square = vzero();
        for (int k = 0; k < COLUMNS; ++k) {
            const Vec x = vload(w + OUTPUTS * k + n), level = nearest_level<ONE_APART>(a, vmul(x, by));
            dot = vadd(dot, vmul(x, level));
            square = vadd(square, vmul(level, level));
        }
        vstore(gain->v + n, vkeep_above(square, vzero(), vdiv(vmul(dot, dot), square)));
        vstore(fitted->v + n, vkeep_above(square, vzero(), vdiv(dot, square)));
    }
}

// The weight of largest magnitude with its sign; of two the positive one.
inline PerOutput largest_weights(const float* w) {
    PerOutput out;
    for (int n = 0; n < OUTPUTS; n += L) {
        Vec high = vload(w + n), low = high;
        for (int k = 1; k < COLUMNS; ++k) {
            const Vec x = vload(w + OUTPUTS * k + n);
            high = vmax(x, high), low = vmin(x, low);
        }
        const Vec reach = vsub(vzero(), low), largest = vmax(reach, high);
        const Vec negative = vkeep_above(reach, high, largest);
        vstore(out.v + n, vsub(largest, vadd(negative, negative)));
    }
    return out;
}

inline PerOutput inverse_of(const PerOutput& scale) {
    PerOutput out;
    for (int n = 0; n < OUTPUTS; ++n) out.v[n] = scale.v[n] != 0.0f ? 1.0f / scale.v[n] : 0.0f;
    return out;
}

template <bool ONE_APART>
PerOutput search_scale(const float* w, const Levels& a) {
    const PerOutput largest = largest_weights(w);
    PerOutput best = {}, scale = {}, inverse, gain, fitted;
    for (const float target : a.targets) {
        for (int n = 0; n < OUTPUTS; ++n) {
            const float x = largest.v[n];
            inverse.v[n] = (x > 0.0f ? x : -x) > SMALLEST ? target / x : 0.0f;
        }
        fit<ONE_APART>(w, a, inverse, &gain, &fitted);
        for (int n = 0; n < OUTPUTS; ++n) {
            const bool better = gain.v[n] > best.v[n];
            best.v[n] = better ? gain.v[n] : best.v[n];
            scale.v[n] = better ? fitted.v[n] : scale.v[n];
        }
    }
    fit<ONE_APART>(w, a, inverse_of(scale), &gain, &fitted);
    return fitted;
}

// Four columns to a word, from codes that are whole floats below 256: (4, 16) to 16 words.
inline void store_words(const float* codes, uint8_t* out) {
    uint32_t words[OUTPUTS];
    for (int n = 0; n < OUTPUTS; ++n) {
        words[n] = (uint32_t)(int32_t)codes[n] | (uint32_t)(int32_t)codes[n + 16] << 8 |
                   (uint32_t)(int32_t)codes[n + 32] << 16 | (uint32_t)(int32_t)codes[n + 48] << 24;
    }
    memcpy(out, words, sizeof words);
}

template <bool ONE_APART>
void encode4(const QuantizeTask& t, const PerOutput& inverse) {
    for (int v = 0; v < 4; ++v) {
        float bytes[4 * OUTPUTS];  // both halves of a byte together
        for (int b = 0; b < 4; ++b) {
            const float *low = t.w + OUTPUTS * (8 * v + b), *high = low + 4 * OUTPUTS;
            for (int n = 0; n < OUTPUTS; n += L) {
                const Vec by = vload(inverse.v + n);
                const Vec first = nearest_code<ONE_APART>(*t.levels, vmul(vload(low + n), by));
                const Vec second = nearest_code<ONE_APART>(*t.levels, vmul(vload(high + n), by));
                vstore(bytes + OUTPUTS * b + n, vadd(first, vmul(second, vset(16.0f))));
            }
        }
        store_words(bytes, t.codes + 64 * v);
    }
}

void encode8(const QuantizeTask& t, const PerOutput& inverse) {
    for (int v = 0; v < 8; ++v) {
        float bytes[4 * OUTPUTS];
        for (int b = 0; b < 4; ++b) {
            for (int n = 0; n < OUTPUTS; n += L) {
                const Vec q = vround(vmul(vload(t.w + OUTPUTS * (4 * v + b) + n), vload(inverse.v + n)));
                const Vec clipped = vmin(vmax(q, vset(-127.0f)), vset(127.0f));
                vstore(bytes + OUTPUTS * b + n, vadd(clipped, vset(128.0f)));
            }
        }
        store_words(bytes, t.codes + 64 * v);
    }
}

void fit_scales(const QuantizeTask& t) {
    PerOutput scale;
    if (t.levels == nullptr) {
        scale = largest_weights(t.w);
        for (float& x : scale.v) x = (x > 0.0f ? x : 0.0f - x) / 127.0f;  // of zeros +0
    } else {
        scale = t.levels->one_apart ? search_scale<true>(t.w, *t.levels) : search_scale<false>(t.w, *t.levels);
    }
    memcpy(t.scales, scale.v, sizeof scale.v);
}

void encode_group(const QuantizeTask& t) {
    PerOutput scale;
    memcpy(scale.v, t.scales, sizeof scale.v);
    const PerOutput inverse = inverse_of(scale);
    if (t.levels == nullptr) return encode8(t, inverse);
    t.levels->one_apart ? encode4<true>(t, inverse) : encode4<false>(t, inverse);
}

}  // namespace
