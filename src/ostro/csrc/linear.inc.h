// y = x W^T with float32 sums, where the bits of a row depend on that row alone.
//
// Identity: y[t][n] = tree_sum over lanes l of ( sum over k = l (mod L), ascending, of x[t][k] * w[n][k] ).
// Every path keeps exactly this order: one vector accumulator for each (t, n), fed by one multiply-add a step of L
// elements, then one tree. So tiles, blocks, threads and T may be chosen for speed without changing a bit.
// - few rows, plain floats: weights go from memory through registers, DIRECT_NR rows of them at a time, so that enough
//   independent accumulators hide the latency of the multiply-add. Bound by memory for up to about four rows.
// - else: a panel of NB weight rows x KB columns is widened to float32 once (it then sits in L1) and meets all T rows
//   in MR x NR register tiles. Accumulators wait in scratch between the blocks of K, which is why K may be blocked.
// Limits: an L-lane accumulator for each output costs L times the scratch of a kernel whose lanes are outputs, and
// the tiles' traffic to it costs about a tenth of the time; GGUF blocks are widened again for every TB rows.

namespace {

using namespace ostro;

constexpr int64_t NB = 12;   // weight rows of a panel; a multiple of every NR
constexpr int64_t KB = 512;  // columns of a panel; a multiple of every GGUF block
constexpr int64_t TB = 128;  // rows whose accumulators fit into L2 together: TB * NB * L floats

template <int M, int N, Kind K>
ALWAYS_INLINE void dot_step(const float* x, int64_t ldx, const uint8_t* const (&w)[N], int64_t k, int64_t tail,
                            Vec (&acc)[M][N]) {
    Vec xs[M];
    unroll<M>([&](auto m) { xs[m] = vload(x + m * ldx + k); });
    unroll<N>([&](auto n) {
        const uint8_t* p = w[n] + SIZE<K> * k;
        const Vec ws = tail ? load_tail<K>(p, tail) : load_as<K>(p);
        unroll<M>([&](auto m) { acc[m][n] = vfma(xs[m], ws, acc[m][n]); });
    });
}

// Rows t0 .. t0 + M - 1 by outputs n0 .. n0 + N - 1, straight from the stored weights.
template <int M, int N, Kind K>
void direct_tile(const LinearTask& a, int64_t t0, int64_t n0) {
    const float* x = a.x + t0 * a.ldx;
    const uint8_t* w[N];
    Vec acc[M][N];
    unroll<N>([&](auto n) {
        w[n] = a.weight->data + (n0 + n) * a.weight->row_bytes;
        unroll<M>([&](auto m) { acc[m][n] = vzero(); });
    });
    const int64_t cols = a.weight->cols, whole = cols / L * L;
    for (int64_t k = 0; k < whole; k += L) dot_step<M, N, K>(x, a.ldx, w, k, 0, acc);
    if (whole < cols) dot_step<M, N, K>(x, a.ldx, w, whole, cols - whole, acc);
    unroll<M>([&](auto m) { unroll<N>([&](auto n) { a.y[(t0 + m) * a.ldy + n0 + n] = hsum(acc[m][n]); }); });
}

// The rows from t on, which do not fill a tile.
template <int N, Kind K>
void direct_last_rows(const LinearTask& a, int64_t t, int64_t n) {
    switch (a.T - t) {
        case 1: return direct_tile<1, N, K>(a, t, n);
        case 2: return direct_tile<2, N, K>(a, t, n);
        case 3: return direct_tile<3, N, K>(a, t, n);
        default: return;
    }
}
// All rows by N outputs: from the second tile of rows on, the weights come from the cache.
template <int M, int N, Kind K>
void direct_outputs(const LinearTask& a, int64_t n) {
    int64_t t = 0;
    for (; t + M <= a.T; t += M) direct_tile<M, N, K>(a, t, n);
    if constexpr (M > 1) direct_last_rows<N, K>(a, t, n);
}
template <int M, Kind K>
void direct(const LinearTask& a) {
    constexpr int N = DIRECT_NR[M];
    int64_t n = a.n0;
    for (; n + N <= a.n1; n += N) direct_outputs<M, N, K>(a, n);
    for (; n < a.n1; ++n) direct_outputs<M, 1, K>(a, n);
}
template <Kind K>
void direct_rows(const LinearTask& a) {
    switch (a.T) {
        case 1: return direct<1, K>(a);
        case 2: return direct<2, K>(a);
        case 3: return direct<3, K>(a);
        default: return direct<4, K>(a);
    }
}

// M rows by N panel rows over `steps` vectors; accumulators of row m, output n lie at acc + (m * NB + n) * L.
template <int M, int N>
void panel_tile(const float* x, int64_t ldx, const float* panel, int64_t ldp, int64_t steps, bool first, float* acc) {
    Vec sum[M][N];
    unroll<M>([&](auto m) { unroll<N>([&](auto n) { sum[m][n] = first ? vzero() : vload(acc + (m * NB + n) * L); }); });
    for (int64_t k = 0; k < steps * L; k += L) {
        Vec xs[M];
        unroll<M>([&](auto m) { xs[m] = vload(x + m * ldx + k); });
        unroll<N>([&](auto n) {
            const Vec w = vload(panel + n * ldp + k);
            unroll<M>([&](auto m) { sum[m][n] = vfma(xs[m], w, sum[m][n]); });
        });
    }
    unroll<M>([&](auto m) { unroll<N>([&](auto n) { vstore(acc + (m * NB + n) * L, sum[m][n]); }); });
}

struct Panel {
    const float* data;
    int64_t stride;
    int64_t steps;
    int64_t rows;
    bool first;
};

template <int M>
void panel_rows(const float* x, int64_t ldx, const Panel& p, float* acc) {
    int64_t n = 0;
    for (; n + NR <= p.rows; n += NR)
        panel_tile<M, NR>(x, ldx, p.data + n * p.stride, p.stride, p.steps, p.first, acc + n * L);
    for (; n < p.rows; ++n) panel_tile<M, 1>(x, ldx, p.data + n * p.stride, p.stride, p.steps, p.first, acc + n * L);
}

// The rows that do not fill a tile: fewer than MR.
void last_rows(int64_t T, const float* x, int64_t ldx, const Panel& p, float* acc) {
    if constexpr (MR > 3) {
        if (T == 3) return panel_rows<3>(x, ldx, p, acc);
    }
    if constexpr (MR > 2) {
        if (T == 2) return panel_rows<2>(x, ldx, p, acc);
    }
    if (T == 1) panel_rows<1>(x, ldx, p, acc);
}

// Columns [k, k + width) of weight rows n .. n + rows - 1 as float32, zero behind `width` up to whole vectors.
void fill_panel(const WeightView& w, int64_t n, int64_t rows, int64_t k, int64_t width, int64_t stride, float* panel) {
    for (int64_t i = 0; i < rows; ++i) {
        float* out = panel + i * stride;
        decode(w.kind, w.data + (n + i) * w.row_bytes, k, k + width, out);
        for (int64_t j = width; j < stride; ++j) out[j] = 0.0f;
    }
}

// T rows by `rows` outputs from n on, T <= TB.
void panel_block(const LinearTask& a, int64_t t0, int64_t T, int64_t n, int64_t rows, float* panel, float* acc) {
    const int64_t cols = a.weight->cols;
    for (int64_t k = 0; k < cols; k += KB) {
        const int64_t width = cols - k < KB ? cols - k : KB, stride = (width + L - 1) / L * L;
        fill_panel(*a.weight, n, rows, k, width, stride, panel);
        const Panel p{panel, stride, stride / L, rows, k == 0};
        const float* x = a.x + t0 * a.ldx + k;
        int64_t t = 0;
        for (; t + MR <= T; t += MR) panel_rows<MR>(x + t * a.ldx, a.ldx, p, acc + t * NB * L);
        last_rows(T - t, x + t * a.ldx, a.ldx, p, acc + t * NB * L);
    }
    for (int64_t t = 0; t < T; ++t) {
        float* y = a.y + (t0 + t) * a.ldy + n;
        const float* s = acc + t * NB * L;
        int64_t i = 0;
        for (; i + 4 <= rows; i += 4, s += 4 * L)
            hsum4(y + i, vload(s), vload(s + L), vload(s + 2 * L), vload(s + 3 * L));
        for (; i < rows; ++i, s += L) y[i] = hsum(vload(s));
    }
}

int64_t linear_scratch(int64_t T, int64_t) { return NB * KB + (T < TB ? T : TB) * NB * L; }

void linear(const LinearTask& a, float* scratch) {
    if (a.T <= DIRECT_ROWS) {
        switch (a.weight->kind) {
            case Kind::F32: return direct_rows<Kind::F32>(a);
            case Kind::F16: return direct_rows<Kind::F16>(a);
            case Kind::BF16: return direct_rows<Kind::BF16>(a);
            default: break;
        }
    }
    float *panel = scratch, *acc = scratch + NB * KB;
    for (int64_t n = a.n0; n < a.n1; n += NB) {
        const int64_t rows = a.n1 - n < NB ? a.n1 - n : NB;
        for (int64_t t = 0; t < a.T; t += TB) panel_block(a, t, a.T - t < TB ? a.T - t : TB, n, rows, panel, acc);
    }
}

}  // namespace
