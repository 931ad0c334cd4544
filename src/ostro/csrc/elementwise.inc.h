// Norm, rotation, SwiGLU. Tails run through the same vector code on zero-padded copies, so that the bits of an
// element do not depend on where it lies in its row.

namespace {

using namespace ostro;

// e^x within 2 units in the last place: x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial in r, the exponent set to n.
// Limits: 0 below -87.3 (no subnormals), about 2.4e38 above 88.37 (no infinity); NaN is kept.
inline Vec vexp(Vec input) {
    const Vec low = vset(-87.33654f);
    const Vec x = vmax(low, vmin(vset(88.37626f), input));
    const Vec n = vround(vmul(x, vset(1.44269504f)));
    Vec r = vfma(n, vset(-0.693359375f), x);
    r = vfma(n, vset(2.12194440e-4f), r);
    Vec p = vset(1.9875691500e-4f);
    p = vfma(p, r, vset(1.3981999507e-3f));
    p = vfma(p, r, vset(8.3334519073e-3f));
    p = vfma(p, r, vset(4.1665795894e-2f));
    p = vfma(p, r, vset(1.6666665459e-1f));
    p = vfma(p, r, vset(5.0000001201e-1f));
    p = vadd(vfma(vmul(r, r), p, r), vset(1.0f));
    return vmul(p, vpow2(n));
}

inline Vec load_floats(const float* p, int64_t n) {
    return n >= L ? vload(p) : load_tail<Kind::F32>((const uint8_t*)p, n);
}
inline void store_floats(float* p, Vec v, int64_t n) {
    if (n >= L) {
        vstore(p, v);
    } else {
        store_tail(p, v, n);
    }
}

void rms_norm(const float* x, const float* weight, int64_t D, float eps, float* y) {
    Vec sum = vzero();
    for (int64_t k = 0; k < D; k += L) {
        const Vec v = load_floats(x + k, D - k);
        sum = vfma(v, v, sum);
    }
    const Vec rms = vset(__builtin_sqrtf(hsum(sum) / (float)D + eps));
    for (int64_t k = 0; k < D; k += L) {
        const Vec v = vdiv(load_floats(x + k, D - k), rms);
        store_floats(y + k, vmul(v, load_floats(weight + k, D - k)), D - k);
    }
}

// Pairs (i, i + half) of each head; products and sums are rounded one by one, as NumPy does.
void rotary(float* x, const float* cos, const float* sin, int64_t num_heads, int64_t half) {
    for (int64_t h = 0; h < num_heads; ++h, x += 2 * half) {
        for (int64_t i = 0; i < half; ++i) {
            const float first = x[i], second = x[i + half];
            x[i] = first * cos[i] - second * sin[i];
            x[i + half] = second * cos[i] + first * sin[i];
        }
    }
}

void swiglu(const float* gate, const float* up, int64_t n, float* out) {
    for (int64_t k = 0; k < n; k += L) {
        const Vec g = load_floats(gate + k, n - k);
        const Vec silu = vdiv(g, vadd(vset(1.0f), vexp(vsub(vzero(), g))));
        store_floats(out + k, vmul(silu, load_floats(up + k, n - k)), n - k);
    }
}

void add_scaled(float scale, const float* x, int64_t n, float* out) {
    for (int64_t k = 0; k < n; ++k) out[k] += scale * x[k];
}

}  // namespace
