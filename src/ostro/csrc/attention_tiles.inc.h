// The two products of attention in registers: scores = q K^T and out += w V, for some queries and a block of keys.
//
// Both have one form: a number of the left side, broadcast, times a vector of the right side. In the first product a
// lane is a key and channels are added upwards, in the second a lane is a channel and keys are added upwards. Nothing is
// summed across lanes, so a result does not depend on the tile that it was computed in; and the M queries of a tile
// (query heads of a K/V head, rows, or both) share each vector of K and V, which is widened to float32 once for them.
// I8: the codes of KV_GROUP channels are summed, and that sum is added times its scale; in the second product the
// weights are multiplied by the scales, once for KV_GROUP channels.
// While a block is computed from the pool (IN_POOL), the same place of the next one is brought into the L2 cache.

namespace {

using namespace ostro;

constexpr int64_t KEYS = 128;  // of a block; blocks begin at multiples of KEYS
constexpr int64_t LINE = 64;   // bytes of a cache line

inline void prefetch(const uint8_t* p) { __builtin_prefetch(p, 0, 2); }

// Some pieces of memory, brought into the L2 cache a few lines at a time.
struct Prefetch {
    const uint8_t* pieces[2 * KEYS / KV_PANEL];
    int64_t num_pieces = 0, bytes = 0;  // bytes of each piece
    int64_t piece = 0, offset = 0;

    void some_lines() {
        for (int i = 0; i < 16 && piece < num_pieces; ++i) {
            prefetch(pieces[piece] + offset);
            offset += LINE;
            if (offset >= bytes) ++piece, offset = 0;
        }
    }
};

// Where K and V of a block lie, in the pool or widened; and in the pool, those of the next block.
struct KeyBlock {
    int64_t first_vec, end_vec;        // vectors of keys that lie in memory; a query may see fewer
    const uint8_t* columns[KEYS / L];  // channel 0 of each vector of keys; channels are KV_PANEL elements apart
    const uint8_t* rows[KEYS];         // V of each key
    const uint8_t* next_columns[KEYS / L];
    const uint8_t* next_rows[KEYS];
    Prefetch* next;                          // of a widened block
    const float *key_scales, *value_scales;  // I8: (groups, KEYS)
};

// Keys of a block that a query sees, relative to the block; none if first >= end.
struct Seen {
    int64_t first, end;
};

struct Queries {
    int64_t head_dim, width;  // width: head_dim padded to whole vectors
    float* q;                 // (queries, head_dim), scaled
    float* scores;            // (queries, KEYS); later weights
    float* out;               // (queries, width)
    Seen* seen;               // (queries,)
};

inline Seen seen_by_any(const Seen* seen, int count) {
    Seen any = seen[0];
    for (int m = 1; m < count; ++m) any = {smaller(any.first, seen[m].first), larger(any.end, seen[m].end)};
    return any;
}
inline Seen seen_by_all(const Seen* seen, int count) {
    Seen all = seen[0];
    for (int m = 1; m < count; ++m) all = {larger(all.first, seen[m].first), smaller(all.end, seen[m].end)};
    return all;
}

// Queries m .. m + M - 1 with N vectors of keys, over channels begin .. end - 1.
template <int M, int N, KvKind K, bool IN_POOL>
ALWAYS_INLINE void score_channels(const Queries& s, const KeyBlock& block, int64_t m, int64_t vec, int64_t begin,
                                  int64_t end, Vec (&acc)[M][N]) {
    constexpr int STEPS = IN_POOL ? LINE / (KV_SIZE<K> * KV_PANEL) : 1;  // channels of a cache line
    const float* q = s.q + m * s.head_dim;
    const uint8_t *columns[N], *next[N];
    unroll<N>([&](auto b) { columns[b] = block.columns[vec + b], next[b] = block.next_columns[vec + b]; });
    unroll<M>([&](auto a) { unroll<N>([&](auto b) { acc[a][b] = vzero(); }); });
    for (int64_t i = begin; i < end; i += STEPS) {
        if constexpr (IN_POOL) unroll<N>([&](auto b) { prefetch(next[b] + KV_SIZE<K> * KV_PANEL * i); });
        unroll<STEPS>([&](auto step) {
            Vec k[N];
            unroll<N>([&](auto b) { k[b] = kv_load<K>(columns[b] + KV_SIZE<K> * KV_PANEL * (i + step)); });
            unroll<M>([&](auto a) {
                const Vec x = vset(q[a * s.head_dim + i + step]);
                unroll<N>([&](auto b) { acc[a][b] = vfma(x, k[b], acc[a][b]); });
            });
        });
    }
}

template <int M, int N, KvKind K, bool SCALED, bool IN_POOL>
void score_tile(const Queries& s, const KeyBlock& block, int64_t m, int64_t vec) {
    float* scores = s.scores + m * KEYS + vec * L;
    const int64_t group = SCALED ? KV_GROUP : s.head_dim;
    for (int64_t i = 0; i < s.head_dim; i += group) {
        Vec acc[M][N];
        score_channels<M, N, K, IN_POOL>(s, block, m, vec, i, smaller(i + group, s.head_dim), acc);
        unroll<N>([&](auto b) {
            unroll<M>([&](auto a) {
                float* p = scores + a * KEYS + b * L;
                if constexpr (SCALED) {
                    const Vec scale = vload(block.key_scales + i / KV_GROUP * KEYS + (vec + b) * L);
                    vstore(p, i == 0 ? vmul(acc[a][b], scale) : vfma(acc[a][b], scale, vload(p)));
                } else {
                    vstore(p, acc[a][b]);
                }
            });
        });
    }
}

// Queries m0 .. m1 - 1, M at a time. Vectors that none of the M sees are left out.
template <int M, KvKind K, bool SCALED, bool IN_POOL>
void score_rows(const Queries& s, const KeyBlock& block, int64_t m0, int64_t m1) {
    constexpr int N = SCORE_VECS[M];
    for (int64_t vec = block.first_vec; vec < block.end_vec; vec += N) {
        for (int64_t m = m0; m < m1; m += M) {
            const Seen any = seen_by_any(s.seen + m, M);
            if (any.first >= (vec + N) * L || any.end <= vec * L) continue;
            if constexpr (!IN_POOL) block.next->some_lines();
            if (vec + N <= block.end_vec) {
                score_tile<M, N, K, SCALED, IN_POOL>(s, block, m, vec);
            } else {
                for (int64_t v = vec; v < block.end_vec; ++v) score_tile<M, 1, K, SCALED, IN_POOL>(s, block, m, v);
            }
        }
    }
}

// The weights of M queries times the scales of the groups in which N vectors from channel i on lie.
template <int M, int N>
struct ScaledWeights {
    static constexpr int GROUPS = N * L > KV_GROUP ? N * L / KV_GROUP : 1;
    float w[M * GROUPS * KEYS];

    ScaledWeights(const float* weights, const float* scales, int64_t i, Seen keys) {
        for (int64_t k = keys.first / L * L; k < keys.end; k += L) {
            for (int g = 0; g < GROUPS; ++g) {
                const Vec scale = vload(scales + (i / KV_GROUP + g) * KEYS + k);
                for (int m = 0; m < M; ++m) {
                    vstore(w + (m * GROUPS + g) * KEYS + k, vmul(vload(weights + m * KEYS + k), scale));
                }
            }
        }
    }
};

// out (M, N * L), rows `width` apart, += w V over `keys`. Weights of query m, vector b: w + (m * GROUPS + group) * KEYS.
template <int M, int N, int GROUPS, KvKind K, bool IN_POOL>
ALWAYS_INLINE void weigh_keys(float* out, int64_t width, const float* w, const KeyBlock& block, int64_t i, Seen keys) {
    constexpr int LINES = larger(1, KV_SIZE<K> * N * L / LINE);
    Vec acc[M][N];
    unroll<M>([&](auto a) { unroll<N>([&](auto b) { acc[a][b] = vload(out + a * width + b * L); }); });
    for (int64_t n = keys.first; n < keys.end; ++n) {
        if constexpr (IN_POOL) unroll<LINES>([&](auto b) { prefetch(block.next_rows[n] + KV_SIZE<K> * i + LINE * b); });
        Vec v[N];
        unroll<N>([&](auto b) { v[b] = kv_load<K>(block.rows[n] + KV_SIZE<K> * (i + b * L)); });
        unroll<M>([&](auto a) {
            unroll<N>([&](auto b) {
                const Vec weight = vset(w[(a * GROUPS + b * GROUPS / N) * KEYS + n]);
                acc[a][b] = vfma(weight, v[b], acc[a][b]);
            });
        });
    }
    unroll<M>([&](auto a) { unroll<N>([&](auto b) { vstore(out + a * width + b * L, acc[a][b]); }); });
}

// Queries m .. m + M - 1, channels i .. i + N * L - 1, `keys`.
template <int M, int N, KvKind K, bool SCALED, bool IN_POOL>
void weigh_tile(const Queries& s, const KeyBlock& block, int64_t m, int64_t i, Seen keys) {
    if (keys.first >= keys.end) return;
    const float* w = s.scores + m * KEYS;
    float* out = s.out + m * s.width + i;
    if constexpr (SCALED) {
        const ScaledWeights<M, N> scaled(w, block.value_scales, i, keys);
        weigh_keys<M, N, scaled.GROUPS, K, IN_POOL>(out, s.width, scaled.w, block, i, keys);
    } else {
        weigh_keys<M, N, 1, K, IN_POOL>(out, s.width, w, block, i, keys);
    }
}

// The keys that all M queries see are weighed together, those before and behind for each query alone: what a query does
// not see must not even be multiplied by 0.
template <int M, int N, KvKind K, bool SCALED, bool IN_POOL>
void weigh_queries(const Queries& s, const KeyBlock& block, int64_t m, int64_t i) {
    if constexpr (!IN_POOL) block.next->some_lines();
    const Seen *seen = s.seen + m, all = seen_by_all(seen, M);
    if (all.first >= all.end) {
        for (int a = 0; a < M; ++a) weigh_tile<1, N, K, SCALED, IN_POOL>(s, block, m + a, i, seen[a]);
        return;
    }
    for (int a = 0; a < M; ++a) weigh_tile<1, N, K, SCALED, IN_POOL>(s, block, m + a, i, {seen[a].first, all.first});
    weigh_tile<M, N, K, SCALED, IN_POOL>(s, block, m, i, all);
    for (int a = 0; a < M; ++a) weigh_tile<1, N, K, SCALED, IN_POOL>(s, block, m + a, i, {all.end, seen[a].end});
}
template <int M, KvKind K, bool SCALED, bool IN_POOL>
void weigh_rows(const Queries& s, const KeyBlock& block, int64_t m0, int64_t m1) {
    constexpr int N = WEIGH_VECS[M];
    int64_t i = 0;
    for (; i + N * L <= s.width; i += N * L) {
        for (int64_t m = m0; m < m1; m += M) weigh_queries<M, N, K, SCALED, IN_POOL>(s, block, m, i);
    }
    for (; i < s.width; i += L) {
        for (int64_t m = m0; m < m1; m += M) weigh_queries<M, 1, K, SCALED, IN_POOL>(s, block, m, i);
    }
}

// Queries m .. queries - 1 in tiles of M, what is left over in smaller ones.
template <int M, KvKind K, bool SCALED, bool IN_POOL>
void score(const Queries& s, const KeyBlock& block, int64_t m, int64_t queries) {
    const int64_t end = m + (queries - m) / M * M;
    if (m < end) score_rows<M, K, SCALED, IN_POOL>(s, block, m, end);
    if constexpr (M > 1) score<M / 2, K, SCALED, IN_POOL>(s, block, end, queries);
}
template <int M, KvKind K, bool SCALED, bool IN_POOL>
void weigh(const Queries& s, const KeyBlock& block, int64_t m, int64_t queries) {
    const int64_t end = m + (queries - m) / M * M;
    if (m < end) weigh_rows<M, K, SCALED, IN_POOL>(s, block, m, end);
    if constexpr (M > 1) weigh<M / 2, K, SCALED, IN_POOL>(s, block, end, queries);
}

}  // namespace
