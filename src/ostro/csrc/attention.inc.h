// Causal, windowed, grouped-query attention of a few rows of one sequence with one K/V head of the paged pool.
//
// Keys are taken in blocks of KEYS positions whose borders are multiples of KEYS, whatever the pool's block size, and
// the softmax is carried from block to block: with m the running maximum, s = sum e^(score - m) and
// o = sum e^(score - m) v are multiplied by e^(m - m') when a block raises m to m'. A row's sums over a block run over
// its own visible keys in ascending order. So its bits do not depend on the tile it shares, on the chunk it came in, on
// the table's layout, or on what lies in slots that it may not see (these are never multiplied, not even by zero).
// K and V are read where they lie and serve all rows and query heads of the tile. Limits: one row of a sequence with
// one K/V head is one task, so decoding a single sequence cannot use more threads than the model has K/V heads.

namespace {

using namespace ostro;

constexpr int64_t KEYS = 64;
constexpr int64_t SCORE_STRIDE = KEYS + L;  // room for the vectors behind the last score

struct AttentionScratch {
    int64_t width;  // head_dim, padded to whole vectors
    float* q;       // (queries, width), scaled
    float* out;     // (queries, width)
    float* padded;  // (KEYS, width): K, then V, of a block, where head_dim is no whole number of vectors
    float* scores;  // (queries, SCORE_STRIDE)
    float* maxima;  // (queries,)
    float* sums;    // (queries,)
};

inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

int64_t attention_scratch(int64_t num_rows, int64_t rep, int64_t head_dim) {
    const int64_t queries = round_up(num_rows * rep, MAX_LANES), width = round_up(head_dim, MAX_LANES);
    return 2 * queries * width + KEYS * width + queries * SCORE_STRIDE + 2 * queries;
}

AttentionScratch carve(const AttentionTask& a, float* p) {
    const int64_t queries = round_up(a.num_rows * a.rep, MAX_LANES), width = round_up(a.head_dim, L);
    AttentionScratch s{width, p, nullptr, nullptr, nullptr, nullptr, nullptr};
    s.out = s.q + queries * width;
    s.padded = s.out + queries * width;
    s.scores = s.padded + KEYS * width;
    s.maxima = s.scores + queries * SCORE_STRIDE;
    s.sums = s.maxima + queries;
    return s;
}

// Positions that a row sees.
struct Seen {
    int64_t first, last;
};
inline Seen seen_by(const AttentionTask& a, int64_t row) {
    const int64_t p = a.positions[row];
    return {a.window > 0 && p >= a.window ? p - a.window + 1 : 0, p};
}

// Rows of the pool that lie one behind the other: `count` positions of a block, the first being row `index`.
struct Run {
    int64_t index, count;
};
inline Run run_at(const AttentionTask& a, int64_t position, int64_t end) {
    const int64_t entry = position / a.block_size, offset = position - entry * a.block_size;
    const int64_t block = a.table[entry - a.table_start];
    return {(block * a.num_kv_heads + a.head) * a.block_size + offset, smaller(a.block_size - offset, end - position)};
}
inline int64_t row_bytes(const AttentionTask& a) { return a.head_dim * (a.kind == Kind::F32 ? 4 : 2); }

// Where the K or V of positions begin .. end - 1 lies; a row that does not fill its vectors is widened and padded.
void find_rows(const AttentionTask& a, const uint8_t* pool, int64_t begin, int64_t end, const AttentionScratch& s,
               const uint8_t** rows) {
    for (int64_t k = begin; k < end;) {
        const Run run = run_at(a, k, end);
        for (int64_t i = 0; i < run.count; ++i, ++k) {
            const uint8_t* row = pool + (run.index + i) * row_bytes(a);
            if (s.width != a.head_dim) {
                float* out = s.padded + (k - begin) * s.width;
                decode(a.kind, row, 0, a.head_dim, out);
                for (int64_t j = a.head_dim; j < s.width; ++j) out[j] = 0.0f;
                row = (const uint8_t*)out;
            }
            rows[k - begin] = row;
        }
    }
}

// q (4, width) with N keys of `width` elements: every score is one lane-ordered sum and one tree, as in `linear`.
template <int N, Kind K>
inline void score_tile(const float* q, const uint8_t* const* keys, int64_t width, float* scores) {
    Vec acc[N][4];
    unroll<N>([&](auto n) { unroll<4>([&](auto m) { acc[n][m] = vzero(); }); });
    for (int64_t i = 0; i < width; i += L) {
        Vec qs[4];
        unroll<4>([&](auto m) { qs[m] = vload(q + m * width + i); });
        unroll<N>([&](auto n) {
            const Vec k = load_as<K>(keys[n] + SIZE<K> * i);
            unroll<4>([&](auto m) { acc[n][m] = vfma(qs[m], k, acc[n][m]); });
        });
    }
    unroll<N>([&](auto n) {
        float sums[4];
        hsum4(sums, acc[n][0], acc[n][1], acc[n][2], acc[n][3]);
        for (int m = 0; m < 4; ++m) scores[m * SCORE_STRIDE + n] = sums[m];
    });
}

// Scores of `count` keys for all queries, four of them at a time; the surplus ones of the last four are not used.
template <Kind K>
void score(const AttentionScratch& s, const uint8_t* const* keys, int64_t queries, int64_t count) {
    for (int64_t m = 0; m < queries; m += 4) {
        const float* q = s.q + m * s.width;
        float* scores = s.scores + m * SCORE_STRIDE;
        int64_t n = 0;
        for (; n + SCORE_KEYS <= count; n += SCORE_KEYS) score_tile<SCORE_KEYS, K>(q, keys + n, s.width, scores + n);
        for (; n < count; ++n) score_tile<1, K>(q, keys + n, s.width, scores + n);
    }
}

// Scores begin .. end - 1 of query m become weights relative to the new maximum; what was summed is rescaled to it.
void soften(const AttentionScratch& s, int64_t m, int64_t begin, int64_t end) {
    float* w = s.scores + m * SCORE_STRIDE;
    const float before = s.maxima[m];
    Vec top = vset(before);
    for (int64_t k = begin; k < end; k += L) {
        for (int64_t i = end; i < k + L; ++i) w[i] = -__builtin_inff();  // scores behind `end` belong to later rows
        top = vmax(top, vload(w + k));
    }
    const float maximum = hmax(top);
    Vec sum = vzero();
    for (int64_t k = begin; k < end; k += L) {
        const Vec x = vsub(vload(w + k), vset(maximum)), raw = vexp(x);
        // Below -87 the weight is exactly nothing; NaN passes, for NaN is not below.
        const Vec e = vsub(raw, vkeep_above(vset(-87.0f), x, raw));
        vstore(w + k, e);
        sum = vadd(sum, e);
    }
    s.maxima[m] = maximum;
    float scale[L];
    vstore(scale, vexp(vset(before - maximum)));
    s.sums[m] = s.sums[m] * scale[0] + hsum(sum);
    if (scale[0] == 1.0f) return;
    float* out = s.out + m * s.width;
    for (int64_t i = 0; i < s.width; i += L) vstore(out + i, vmul(vload(out + i), vset(scale[0])));
}

// out[m] += sum over n, ascending, of w[m][n] v[n], for M queries and N vectors of the head from `i` on.
template <int M, int N, Kind K>
inline void weigh_tile(const AttentionScratch& s, const uint8_t* const* values, int64_t m, int64_t i, Seen keys) {
    Vec acc[M][N];
    float* out = s.out + m * s.width + i;
    const float* w = s.scores + m * SCORE_STRIDE;
    unroll<M>([&](auto a) { unroll<N>([&](auto b) { acc[a][b] = vload(out + a * s.width + b * L); }); });
    for (int64_t n = keys.first; n < keys.last; ++n) {
        Vec v[N];
        unroll<N>([&](auto b) { v[b] = load_as<K>(values[n] + SIZE<K> * (i + b * L)); });
        unroll<M>([&](auto a) {
            const Vec weight = vset(w[a * SCORE_STRIDE + n]);
            unroll<N>([&](auto b) { acc[a][b] = vfma(weight, v[b], acc[a][b]); });
        });
    }
    unroll<M>([&](auto a) { unroll<N>([&](auto b) { vstore(out + a * s.width + b * L, acc[a][b]); }); });
}
template <int M, Kind K>
void weigh(const AttentionScratch& s, const uint8_t* const* values, int64_t m, Seen keys) {
    if (keys.first >= keys.last) return;
    int64_t i = 0;
    for (; i + OUT_VECS * L <= s.width; i += OUT_VECS * L) weigh_tile<M, OUT_VECS, K>(s, values, m, i, keys);
    for (; i < s.width; i += L) weigh_tile<M, 1, K>(s, values, m, i, keys);
}

// The part first .. last - 1 of a block (positions begin .. end - 1) that query m sees, relative to the block.
inline Seen seen_in(const AttentionTask& a, int64_t m, int64_t begin, int64_t end) {
    const Seen seen = seen_by(a, m / a.rep);
    return {larger(seen.first, begin) - begin, smaller(seen.last + 1, end) - begin};
}

// Queries m .. m + 3: the keys that all four see are weighed together, those before and behind for each alone.
template <Kind K>
void weigh_four(const AttentionTask& a, const AttentionScratch& s, const uint8_t* const* values, int64_t m,
                int64_t begin, int64_t end) {
    Seen seen[4], common = {0, end - begin};
    for (int i = 0; i < 4; ++i) {
        seen[i] = seen_in(a, m + i, begin, end);
        common = {larger(common.first, seen[i].first), smaller(common.last, seen[i].last)};
    }
    if (common.first >= common.last) {
        for (int i = 0; i < 4; ++i) weigh<1, K>(s, values, m + i, seen[i]);
        return;
    }
    for (int i = 0; i < 4; ++i) weigh<1, K>(s, values, m + i, {seen[i].first, common.first});
    weigh<4, K>(s, values, m, common);
    for (int i = 0; i < 4; ++i) weigh<1, K>(s, values, m + i, {common.last, seen[i].last});
}

// Keys begin .. end - 1, all of one block of KEYS, with all queries.
template <Kind K>
void attend_block(const AttentionTask& a, const AttentionScratch& s, int64_t begin, int64_t end) {
    const int64_t queries = a.num_rows * a.rep;
    const uint8_t* rows[KEYS];
    find_rows(a, a.keys, begin, end, s, rows);
    score<K>(s, rows, queries, end - begin);
    for (int64_t m = 0; m < queries; ++m) {
        const Seen seen = seen_in(a, m, begin, end);
        if (seen.first < seen.last) soften(s, m, seen.first, seen.last);
    }
    find_rows(a, a.values, begin, end, s, rows);
    int64_t m = 0;
    for (; m + 4 <= queries; m += 4) weigh_four<K>(a, s, rows, m, begin, end);
    for (; m < queries; ++m) weigh<1, K>(s, rows, m, seen_in(a, m, begin, end));
}
template <Kind K>
void attend(const AttentionTask& a, const AttentionScratch& s, Seen all) {
    for (int64_t begin = all.first; begin <= all.last;) {
        const int64_t end = smaller((begin / KEYS + 1) * KEYS, all.last + 1);
        attend_block<K>(a, s, begin, end);
        begin = end;
    }
}

void load_queries(const AttentionTask& a, const AttentionScratch& s) {
    const int64_t queries = a.num_rows * a.rep, padded = round_up(queries, 4);
    memset(s.q, 0, (size_t)(padded * s.width) * sizeof(float));
    memset(s.out, 0, (size_t)(padded * s.width) * sizeof(float));
    for (int64_t m = 0; m < queries; ++m) {
        const float* q = a.q + (m / a.rep) * a.ldq + (a.head * a.rep + m % a.rep) * a.head_dim;
        for (int64_t i = 0; i < a.head_dim; ++i) s.q[m * s.width + i] = q[i] * a.scale;
        s.maxima[m] = -__builtin_inff();
        s.sums[m] = 0.0f;
    }
}

void attention(const AttentionTask& a, float* scratch) {
    const AttentionScratch s = carve(a, scratch);
    load_queries(a, s);
    Seen all = seen_by(a, 0);
    for (int64_t row = 1; row < a.num_rows; ++row) {
        const Seen seen = seen_by(a, row);
        all.first = smaller(all.first, seen.first);
        all.last = larger(all.last, seen.last);
    }
    switch (s.width == a.head_dim ? a.kind : Kind::F32) {
        case Kind::F16: attend<Kind::F16>(a, s, all); break;
        case Kind::BF16: attend<Kind::BF16>(a, s, all); break;
        default: attend<Kind::F32>(a, s, all); break;
    }
    for (int64_t m = 0; m < a.num_rows * a.rep; ++m) {
        float* out = a.out + (m / a.rep) * a.ldq + (a.head * a.rep + m % a.rep) * a.head_dim;
        for (int64_t i = 0; i < a.head_dim; ++i) out[i] = s.out[m * s.width + i] / s.sums[m];
    }
}

}  // namespace
