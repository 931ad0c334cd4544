// Activations as bytes: what the products of packed weights (packed.inc.h) take.

namespace {

using namespace ostro;

constexpr int SUM_FACTOR = UNSIGNED ? 128 : 1;  // RowGroup's low and high are -SUM_FACTOR times the sums

// 32 columns, or the last n of a row, as bytes: r = max |x| / 127, q = x / r to the nearest even. The sums of whole
// floats are exact. A number that is none makes r none, and with it every output of the row. A group too small for 1 / r
// counts as zero.
void round_group(const float* x, int64_t n, RowGroup* out) {
    float padded[32];
    if (n < 32) {
        memcpy(padded, x, (size_t)n * sizeof(float));
        memset(padded + n, 0, (size_t)(32 - n) * sizeof(float));
        x = padded;
    }
    Vec top = vzero(), poison = vzero();
    for (int i = 0; i < 32; i += L) {
        const Vec v = vload(x + i);
        top = vmax(vmax(v, vsub(vzero(), v)), top);
        poison = vadd(poison, vsub(v, v));
    }
    const float largest = hmax(top), none = hsum(poison);
    const bool counts = none == 0.0f && largest > 1e-30f;
    const float inverse = counts ? 127.0f / largest : 0.0f;
    float sums[2] = {0.0f, 0.0f};
    for (int i = 0; i < 32; i += L) {
        const Vec q = counts ? vround(vmul(vload(x + i), vset(inverse))) : vzero();
        store_int8(out->q + i, q);
        sums[i / 16] += hsum(q);
    }
    out->scale = none == 0.0f ? (counts ? largest / 127.0f : 0.0f) : none;
    out->low = -SUM_FACTOR * (int32_t)sums[0];
    out->high = -SUM_FACTOR * (int32_t)sums[1];
    out->sum = (sums[0] + sums[1]) * out->scale;
}

// Rows t0 .. t1 - 1 of x (T, K), `ldx` floats apart, as out[g * T + t].
void round_rows(const RoundTask& a) {
    for (int64_t t = a.t0; t < a.t1; ++t) {
        const float* x = a.x + (t - a.t0) * a.ldx;
        for (int64_t g = 0; 32 * g < a.K; ++g) {
            const int64_t left = a.K - 32 * g;
            round_group(x + 32 * g, left < 32 ? left : 32, a.out + g * a.T + t);
        }
    }
}

}  // namespace
