// The operations of encoders (BERT and its kin): layer norm, GELU, attention in both directions.
//
// Every output is one chain of multiply-adds in ascending order, and tails run through the same vector code on padded
// copies, so that the bits of a text's rows depend on that text alone.

namespace {

using namespace ostro;

void layer_norm(const float* x, const float* weight, const float* bias, int64_t D, float eps, float* y) {
    Vec sum = vzero(), squares = vzero();
    for (int64_t k = 0; k < D; k += L) sum = vadd(sum, load_floats(x + k, D - k));
    const Vec mean = vset(hsum(sum) / (float)D);
    for (int64_t k = 0; k < D; k += L) {
        Vec v = vsub(load_floats(x + k, D - k), mean);
        if (D - k < L) {  // what lies behind the end must not count
            float tail[L];
            vstore(tail, vzero());
            store_tail(tail, v, D - k);
            v = vload(tail);
        }
        squares = vfma(v, v, squares);
    }
    const Vec deviation = vset(__builtin_sqrtf(hsum(squares) / (float)D + eps));
    for (int64_t k = 0; k < D; k += L) {
        const Vec v = vdiv(vsub(load_floats(x + k, D - k), mean), deviation);
        store_floats(y + k, vfma(v, load_floats(weight + k, D - k), load_floats(bias + k, D - k)), D - k);
    }
}

// gelu(x) = x Phi(x) = max(x, 0) - a h with a = |x| and h = Phi(-a), the upper tail of the normal distribution.
// h = t P(t) e^(-a^2 / 2), t = 1 / (1 + 0.3 a): P is a least maximum fit for a <= 14, within 1.5e-7 of h; in float32
// within 5e-7 of h.
inline Vec gelu_of(Vec x) {
    const Vec a = vmax(x, vsub(vzero(), x));
    const Vec t = vdiv(vset(1.0f), vfma(vset(0.3f), a, vset(1.0f)));
    Vec p = vset(0.0356747703f);
    p = vfma(p, t, vset(-0.157203067f));
    p = vfma(p, t, vset(0.206353481f));
    p = vfma(p, t, vset(-0.0536836226f));
    p = vfma(p, t, vset(0.128561616f));
    p = vfma(p, t, vset(0.099913495f));
    p = vfma(p, t, vset(0.120753956f));
    p = vfma(p, t, vset(0.119629299f));
    const Vec h = vmul(vmul(p, t), vexp(vmul(vmul(a, a), vset(-0.5f))));
    return vsub(vmax(vzero(), x), vmul(a, h));
}

void gelu(const float* x, int64_t n, float* out) {
    for (int64_t k = 0; k < n; k += L) store_floats(out + k, gelu_of(load_floats(x + k, n - k)), n - k);
}

// c (M, N * L) = a (M, K) b (K, N * L), each output summed over ascending k.
template <int M, int N>
void product_tile(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t K, float* c, int64_t ldc) {
    Vec sum[M][N];
    unroll<M>([&](auto m) { unroll<N>([&](auto n) { sum[m][n] = vzero(); }); });
    for (int64_t k = 0; k < K; ++k, b += ldb) {
        Vec bs[N];
        unroll<N>([&](auto n) { bs[n] = vload(b + n * L); });
        unroll<M>([&](auto m) {
            const Vec x = vset(a[m * lda + k]);
            unroll<N>([&](auto n) { sum[m][n] = vfma(x, bs[n], sum[m][n]); });
        });
    }
    unroll<M>([&](auto m) { unroll<N>([&](auto n) { vstore(c + m * ldc + n * L, sum[m][n]); }); });
}

template <int N>
void product_strip(const float* a, int64_t lda, int64_t M, const float* b, int64_t ldb, int64_t K, float* c,
                   int64_t ldc) {
    int64_t m = 0;
    for (; m + PRODUCT_ROWS <= M; m += PRODUCT_ROWS)
        product_tile<PRODUCT_ROWS, N>(a + m * lda, lda, b, ldb, K, c + m * ldc, ldc);
    for (; m + 2 <= M; m += 2) product_tile<2, N>(a + m * lda, lda, b, ldb, K, c + m * ldc, ldc);
    if (m < M) product_tile<1, N>(a + m * lda, lda, b, ldb, K, c + m * ldc, ldc);
}

// c (M, N) = a (M, K) b (K, N), N a multiple of L.
void product(const float* a, int64_t lda, int64_t M, const float* b, int64_t ldb, int64_t K, float* c, int64_t N) {
    int64_t n = 0;
    for (; n + 2 * L <= N; n += 2 * L) product_strip<2>(a, lda, M, b + n, ldb, K, c + n, N);
    if (n < N) product_strip<1>(a, lda, M, b + n, ldb, K, c + n, N);
}

// row[j] = e^(scale row[j] + bias[j] - the largest of these) for j < n; returns their sum. Whole vectors are read and
// written: what lies behind n comes out as 0 to the sum. `bias` may be null.
float exponentials(float* row, int64_t n, float scale, const float* bias) {
    Vec highest = vset(-3e38f);
    for (int64_t j = 0; j < n; j += L) {
        Vec v = vmul(vload(row + j), vset(scale));
        if (bias != nullptr) v = vadd(v, vload(bias + j));
        if (n - j < L) {
            float tail[L];
            vstore(tail, vset(-3e38f));
            store_tail(tail, v, n - j);
            v = vload(tail);
        }
        vstore(row + j, v);
        highest = vmax(highest, v);
    }
    const Vec top = vset(hmax(highest));
    Vec sum = vzero();
    for (int64_t j = 0; j < n; j += L) {
        const Vec e = vexp(vsub(vload(row + j), top));
        vstore(row + j, e);
        sum = vadd(sum, e);
    }
    return hsum(sum);
}

constexpr int64_t QUERIES = 4 * PRODUCT_ROWS;  // that go through the scores together, which then sit in the cache

int64_t whole_vectors(int64_t n) { return (n + L - 1) / L * L; }

int64_t encoder_scratch(int64_t T, int64_t d) {
    const int64_t keys = whole_vectors(T), width = whole_vectors(d);
    return d * keys + T * width + QUERIES * (keys + width);
}

// One head of one text. K lies transposed (d, keys) and V (T, width) in scratch, both zero behind their ends.
void encoder_attention(const EncoderTask& a, float* scratch) {
    const int64_t T = a.T, d = a.head_dim, keys = whole_vectors(T), width = whole_vectors(d);
    float *k = scratch, *v = k + d * keys, *scores = v + T * width, *sums = scores + QUERIES * keys;
    for (int64_t i = 0; i < d; ++i) {
        for (int64_t t = 0; t < T; ++t) k[i * keys + t] = a.k[t * a.stride + i];
        for (int64_t t = T; t < keys; ++t) k[i * keys + t] = 0.0f;
    }
    for (int64_t t = 0; t < T; ++t) {
        for (int64_t i = 0; i < width; ++i) v[t * width + i] = i < d ? a.v[t * a.stride + i] : 0.0f;
    }
    for (int64_t first = 0; first < T; first += QUERIES) {
        const int64_t M = T - first < QUERIES ? T - first : QUERIES;
        product(a.q + first * a.stride, a.stride, M, k, keys, d, scores, keys);
        float totals[QUERIES];
        for (int64_t m = 0; m < M; ++m) {
            const float* bias = a.bias == nullptr ? nullptr : a.bias + a.bias_center - (first + m);
            totals[m] = exponentials(scores + m * keys, T, a.scale, bias);
        }
        product(scores, keys, M, v, width, T, sums, width);
        for (int64_t m = 0; m < M; ++m) {
            float* out = a.out + (first + m) * a.stride;
            for (int64_t i = 0; i < d; ++i) out[i] = sums[m * width + i] / totals[m];
        }
    }
}

}  // namespace
