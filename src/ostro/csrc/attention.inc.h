// Causal, windowed, grouped-query attention of a few rows of one sequence with one K/V head of the paged pool.
//
// Keys are taken in blocks of KEYS positions whose borders are multiples of KEYS, whatever the pool's block size, and
// the softmax is carried from block to block: with m the running maximum, s = sum 2^(score - m) and
// o = sum 2^(score - m) v are multiplied by 2^(m - m') when a block raises m to m' (scores come times log2 e).
// At every multiple of SPAN positions the sums begin anew, and those of the spans are added upwards by the same rule.
// So spans may be computed anywhere, and one sequence can use as many threads as it has spans times K/V heads.
// A row's sums run over its own visible keys in ascending order and in pieces that absolute positions define. Its bits
// do not depend on the tile it shares, on the chunk it came in, on the table's layout, on the number of threads, or on
// what lies in slots that it may not see.
//
// Many queries meet a block that was widened to float32 for all of them; few read it where it lies, in the same order.
// Limits: blocks of the pool that are no multiple of KV_PANEL, and a head_dim that is no multiple of MAX_LANES, are
// always widened, one position at a time the first. A task keeps (queries, head_dim) three times and two widened blocks
// in the L2 cache, about 500 KB for 128 queries of 128 channels. I8 is computed in float32 like the others.
// Gain, over scores summed across lanes, tiles of 16 queries and no prefetch (AMD Zen 4, one core, H 32, G 8, d 128):
// one row at 4096 float16 positions 2.3 -> 0.84 ms, 7.3 -> 20 GB/s, where a plain sum over memory reads 24; 512 rows
// behind 4096 positions 57 -> 96 GFLOPS of 117.

namespace {

using namespace ostro;

// What is known of the queries after some keys; a query that has seen none has a sum of 0.
struct Part {
    float *out, *maxima, *sums;  // (queries, width), (queries,), (queries,)
};
inline Part part_at(float* p, int64_t queries, int64_t width) {
    return {p, p + queries * width, p + queries * (width + 1)};
}

struct AttentionScratch {
    Queries queries;
    Part total, part;
    float *key_tile, *value_tile;  // a widened block: (panels, head_dim, KV_PANEL), (KEYS, value_stride)
    float *key_scales, *value_scales;
};

// One line more than a row needs: rows a power of two apart would push each other out of the cache.
inline int64_t value_stride(int64_t head_dim) { return round_up(head_dim, MAX_LANES) + MAX_LANES; }

// Hands out floats, or without memory counts them.
struct Carver {
    float* memory;
    int64_t used = 0;

    float* take(int64_t count) {
        float* taken = memory ? memory + used : nullptr;
        used += round_up(count, MAX_LANES);
        return taken;
    }
};

AttentionScratch carve(int64_t num_rows, int64_t rep, int64_t d, Carver& carver) {
    const int64_t queries = num_rows * rep, width = round_up(d, MAX_LANES), part = attention_part(num_rows, rep, d);
    AttentionScratch s;
    s.queries = {.head_dim = d,
                 .width = width,
                 .q = carver.take(queries * d),
                 .scores = carver.take(queries * KEYS),
                 .out = nullptr,
                 .seen = (Seen*)(void*)carver.take(queries * (int64_t)(sizeof(Seen) / sizeof(float)))};
    s.total = part_at(carver.take(part), queries, width);
    s.part = part_at(carver.take(part), queries, width);
    s.key_tile = carver.take(KEYS * d);
    s.value_tile = carver.take(KEYS * value_stride(d));
    s.key_scales = carver.take(kv_groups(d) * KEYS);
    s.value_scales = carver.take(kv_groups(d) * KEYS);
    return s;
}

int64_t attention_scratch(int64_t num_rows, int64_t rep, int64_t head_dim) {
    Carver counter{nullptr};
    carve(num_rows, rep, head_dim, counter);
    return counter.used;
}

// Positions first .. end - 1 that a row sees.
inline Seen seen_by(const AttentionTask& a, int64_t row) {
    const int64_t p = a.positions[row];
    return {a.window > 0 && p >= a.window ? p - a.window + 1 : 0, p + 1};
}

inline KvPlace place_of(const AttentionTask& a, int64_t position) {
    const int64_t entry = position / a.kv.block_size;
    return kv_place(a.kv, a.table[entry - a.table_start], a.head, position - entry * a.kv.block_size);
}
inline bool whole_panels(const AttentionTask& a) { return a.kv.block_size % KV_PANEL == 0; }

// Positions begin .. end - 1 of one block, and their panels, null where none is seen or they are not whole.
struct PoolBlock {
    int64_t begin, end;
    const uint8_t *keys[KEYS / KV_PANEL], *values[KEYS / KV_PANEL];
};
PoolBlock find_block(const AttentionTask& a, int64_t begin, int64_t end) {
    PoolBlock block{begin, smaller((begin / KEYS + 1) * KEYS, end), {}, {}};
    if (!whole_panels(a)) return block;
    for (int64_t p = begin / KV_PANEL * KV_PANEL; p < block.end; p += KV_PANEL) {
        const int64_t panel = place_of(a, larger(p, begin)).panel;
        block.keys[p % KEYS / KV_PANEL] = a.kv.keys + panel;
        block.values[p % KEYS / KV_PANEL] = a.kv.values + panel;
    }
    return block;
}

// Scales of a panel, for positions n .. n + KV_PANEL - 1 of a block.
inline void widen_scales(const AttentionScratch& s, const uint8_t* keys, const uint8_t* values, int64_t n) {
    const int64_t d = s.queries.head_dim;
    for (int64_t g = 0; g < kv_groups(d); ++g) {
        const int64_t from = KV_PANEL * (d + 2 * g), to = g * KEYS + n;
        for (int64_t v = 0; v < KV_PANEL; v += L) {
            vstore(s.key_scales + to + v, vload_f16(keys + from + 2 * v));
            vstore(s.value_scales + to + v, vload_f16(values + from + 2 * v));
        }
    }
}

template <KvKind K>
void read_in_pool(const AttentionScratch& s, const PoolBlock& now, const PoolBlock& next, KeyBlock& block) {
    const int64_t d = s.queries.head_dim;
    for (int64_t p = 0; p < KEYS / KV_PANEL; ++p) {
        const uint8_t *keys = now.keys[p], *values = now.values[p];
        if (!keys) continue;
        const bool more = next.keys[p] != nullptr;
        const uint8_t *next_keys = more ? next.keys[p] : keys, *next_values = more ? next.values[p] : values;
        for (int64_t v = 0; v < KV_PANEL / L; ++v) {
            block.columns[p * (KV_PANEL / L) + v] = keys + KV_SIZE<K> * L * v;
            block.next_columns[p * (KV_PANEL / L) + v] = next_keys + KV_SIZE<K> * L * v;
        }
        for (int64_t n = 0; n < KV_PANEL; ++n) {
            block.rows[p * KV_PANEL + n] = values + KV_SIZE<K> * d * n;
            block.next_rows[p * KV_PANEL + n] = next_values + KV_SIZE<K> * d * n;
        }
        if (K != KvKind::I8) continue;
        widen_scales(s, keys, values, p * KV_PANEL);
        for (int64_t i = KV_PANEL * d; i < KV_PANEL * kv_row_bytes(K, d); i += LINE) {
            prefetch(next_keys + i);
            prefetch(next_values + i);
        }
    }
}

template <KvKind K>
void widen_panel(const AttentionScratch& s, const PoolBlock& block, int64_t panel) {
    const int64_t d = s.queries.head_dim, n = panel * KV_PANEL;
    const uint8_t *keys = block.keys[panel], *values = block.values[panel];
    kv_widen<K>(keys, KV_PANEL * d, s.key_tile + n * d);
    for (int64_t i = 0; i < KV_PANEL; ++i) {
        kv_widen<K>(values + KV_SIZE<K> * i * d, d, s.value_tile + (n + i) * value_stride(d));
    }
    if (K == KvKind::I8) widen_scales(s, keys, values, n);
}
// One position, in a panel of any width.
template <KvKind K>
void widen_position(const AttentionTask& a, const AttentionScratch& s, int64_t position) {
    const KvPlace at = place_of(a, position);
    const int64_t d = a.kv.head_dim, n = position % KEYS;
    const uint8_t *key = a.kv.keys + at.panel, *value = a.kv.values + at.panel;
    float* keys = s.key_tile + n / KV_PANEL * KV_PANEL * d + n % KV_PANEL;
    for (int64_t i = 0; i < d; ++i) kv_widen<K>(key + KV_SIZE<K> * (i * at.width + at.lane), 1, keys + i * KV_PANEL);
    kv_widen<K>(value + KV_SIZE<K> * at.lane * d, d, s.value_tile + n * value_stride(d));
    for (int64_t g = 0; K == KvKind::I8 && g < kv_groups(d); ++g) {
        const int64_t scale = d * at.width + 2 * (g * at.width + at.lane);
        s.key_scales[g * KEYS + n] = half_to_float(key + scale);
        s.value_scales[g * KEYS + n] = half_to_float(value + scale);
    }
}

template <KvKind K>
void widen(const AttentionTask& a, const AttentionScratch& s, const PoolBlock& now, const PoolBlock& next,
           KeyBlock& block) {
    const int64_t d = a.kv.head_dim;
    for (int64_t p = now.begin; !whole_panels(a) && p < now.end; ++p) widen_position<K>(a, s, p);
    for (int64_t p = 0; p < KEYS / KV_PANEL; ++p) {
        if (now.keys[p]) widen_panel<K>(s, now, p);
        if (next.keys[p]) block.next->pieces[block.next->num_pieces++] = next.keys[p];
        if (next.values[p]) block.next->pieces[block.next->num_pieces++] = next.values[p];
    }
    block.next->bytes = KV_PANEL * kv_row_bytes(K, d);
    for (int64_t v = 0; v < KEYS / L; ++v) {
        block.columns[v] = (const uint8_t*)(s.key_tile + v * L / KV_PANEL * KV_PANEL * d + v * L % KV_PANEL);
    }
    for (int64_t n = 0; n < KEYS; ++n) {
        float* row = s.value_tile + n * value_stride(d);
        for (int64_t i = d; i < s.queries.width; ++i) row[i] = 0.0f;
        block.rows[n] = (const uint8_t*)row;
    }
}

// 2^x for x <= 0 within 3 units in the last place: x = n + f, |f| <= 1/2, a polynomial in f that is exactly 1 at 0.
// Limit: no less than 2^-126. Weights are added to sums of at least 1, where so little is nothing. NaN is kept.
inline Vec vweight(Vec input) {
    const Vec x = vmax(vset(-126.0f), input), n = vround(x), f = vsub(x, n);
    Vec p = vset(0x1.5bba12p-10f);
    p = vfma(p, f, vset(0x1.3cea88p-7f));
    p = vfma(p, f, vset(0x1.c6b752p-5f));
    p = vfma(p, f, vset(0x1.ebf9bcp-3f));
    p = vfma(p, f, vset(0x1.62e42ap-1f));
    p = vfma(p, f, vset(1.0f));
    return vmul(p, vpow2(n));
}
inline float weight_of(float x) {
    float lanes[L];
    vstore(lanes, vweight(vset(x)));
    return lanes[0];
}

// Scores of query m become weights relative to the new maximum; what was summed is rescaled to it.
void soften(const Queries& s, const Part& part, int64_t m) {
    const Seen seen = s.seen[m];
    if (seen.first >= seen.end) return;
    float* w = s.scores + m * KEYS;
    const int64_t begin = seen.first / L * L, end = round_up(seen.end, L);
    for (int64_t k = begin; k < seen.first; ++k) w[k] = -__builtin_inff();
    for (int64_t k = seen.end; k < end; ++k) w[k] = -__builtin_inff();
    const float before = part.maxima[m];
    Vec top = vset(before);
    for (int64_t k = begin; k < end; k += L) top = vmax(top, vload(w + k));
    const float maximum = hmax(top);
    Vec sum = vzero();
    for (int64_t k = begin; k < end; k += L) {
        const Vec e = vweight(vsub(vload(w + k), vset(maximum)));
        vstore(w + k, e);
        sum = vadd(sum, e);
    }
    const float added = hsum(sum);
    if (maximum == before) {
        part.sums[m] += added;
        return;
    }
    const float scale = weight_of(before - maximum);
    part.maxima[m] = maximum;
    part.sums[m] = part.sums[m] * scale + added;
    float* out = part.out + m * s.width;
    for (int64_t i = 0; i < s.width; i += L) vstore(out + i, vmul(vload(out + i), vset(scale)));
}

template <KvKind K, bool IN_POOL>
void attend_block(const AttentionTask& a, const AttentionScratch& s, const Part& part, const PoolBlock& now,
                  const PoolBlock& next) {
    constexpr bool SCALED = K == KvKind::I8;
    constexpr KvKind READ = IN_POOL ? K : KvKind::F32;
    const int64_t queries = a.num_rows * a.rep, start = now.begin / KEYS * KEYS;
    Prefetch prefetch;
    KeyBlock block;
    block.first_vec = (now.begin - start) / L;
    block.end_vec = (now.end - start + L - 1) / L;
    block.next = &prefetch;
    block.key_scales = s.key_scales;
    block.value_scales = s.value_scales;
    if constexpr (IN_POOL) {
        read_in_pool<K>(s, now, next, block);
    } else {
        widen<K>(a, s, now, next, block);
    }
    Queries q = s.queries;
    q.out = part.out;
    for (int64_t m = 0; m < queries; ++m) {
        const Seen seen = seen_by(a, m / a.rep);
        q.seen[m] = {larger(seen.first, now.begin) - start, smaller(seen.end, now.end) - start};
    }
    score<TILE_QUERIES, READ, SCALED, IN_POOL>(q, block, 0, queries);
    for (int64_t m = 0; m < queries; ++m) soften(q, part, m);
    weigh<TILE_QUERIES, READ, SCALED, IN_POOL>(q, block, 0, queries);
}

void clear_part(const Part& part, int64_t queries, int64_t width) {
    memset(part.out, 0, (size_t)(queries * width) * sizeof(float));
    for (int64_t m = 0; m < queries; ++m) part.maxima[m] = -__builtin_inff(), part.sums[m] = 0.0f;
}

// total += part, for the queries that saw something of it.
void merge_part(const Part& total, const Part& part, int64_t queries, int64_t width) {
    for (int64_t m = 0; m < queries; ++m) {
        if (part.sums[m] == 0.0f) continue;
        const float before = total.maxima[m], other = part.maxima[m], maximum = before > other ? before : other;
        const float old = weight_of(before - maximum), fresh = weight_of(other - maximum);
        total.maxima[m] = maximum;
        total.sums[m] = total.sums[m] * old + part.sums[m] * fresh;
        float* out = total.out + m * width;
        const float* more = part.out + m * width;
        for (int64_t i = 0; i < width; i += L) {
            vstore(out + i, vadd(vmul(vload(out + i), vset(old)), vmul(vload(more + i), vset(fresh))));
        }
    }
}

void finish(const AttentionTask& a, const Part& total, int64_t width) {
    for (int64_t m = 0; m < a.num_rows * a.rep; ++m) {
        float* out = a.out + (m / a.rep) * a.ldq + (a.head * a.rep + m % a.rep) * a.kv.head_dim;
        for (int64_t i = 0; i < a.kv.head_dim; ++i) out[i] = total.out[m * width + i] / total.sums[m];
    }
}

void load_queries(const AttentionTask& a, const Queries& s) {
    for (int64_t m = 0; m < a.num_rows * a.rep; ++m) {
        const float* q = a.q + (m / a.rep) * a.ldq + (a.head * a.rep + m % a.rep) * s.head_dim;
        for (int64_t i = 0; i < s.head_dim; ++i) s.q[m * s.head_dim + i] = q[i] * a.scale;
    }
}

inline Part waiting_part(const AttentionTask& a, int64_t span, int64_t width) {
    const int64_t size = attention_part(a.num_rows, a.rep, a.kv.head_dim);
    return part_at(a.parts + (span - a.first_part) * size, a.num_rows * a.rep, width);
}

template <KvKind K, bool IN_POOL>
void attend(const AttentionTask& a, const AttentionScratch& s, int64_t begin, int64_t end) {
    const int64_t queries = a.num_rows * a.rep, width = s.queries.width;
    PoolBlock now = find_block(a, begin, end);
    while (begin < end) {
        const int64_t span_end = smaller((begin / SPAN + 1) * SPAN, end);
        const Part part = a.parts ? waiting_part(a, begin / SPAN, width) : s.part;
        clear_part(part, queries, width);
        for (; begin < span_end; begin = now.begin) {
            const PoolBlock next = now.end < end ? find_block(a, now.end, end) : PoolBlock{end, end, {}, {}};
            attend_block<K, IN_POOL>(a, s, part, now, next);
            now = next;
        }
        if (!a.parts) merge_part(s.total, part, queries, width);
    }
}
template <KvKind K>
void attend(const AttentionTask& a, const AttentionScratch& s, int64_t begin, int64_t end) {
    const bool few = K == KvKind::F32 || a.num_rows * a.rep < WIDEN_QUERIES;
    few && whole_panels(a) && a.kv.head_dim % MAX_LANES == 0 ? attend<K, true>(a, s, begin, end)
                                                            : attend<K, false>(a, s, begin, end);
}

void attention(const AttentionTask& a, float* scratch) {
    Carver carver{scratch};
    const AttentionScratch s = carve(a.num_rows, a.rep, a.kv.head_dim, carver);
    load_queries(a, s.queries);
    clear_part(s.total, a.num_rows * a.rep, s.queries.width);
    Seen all = seen_by(a, 0);
    for (int64_t row = 1; row < a.num_rows; ++row) {
        const Seen seen = seen_by(a, row);
        all = {smaller(all.first, seen.first), larger(all.end, seen.end)};
    }
    const int64_t begin = larger(all.first, a.first_span * SPAN), end = smaller(all.end, a.end_span * SPAN);
    switch (a.kv.kind) {
        case KvKind::F32: attend<KvKind::F32>(a, s, begin, end); break;
        case KvKind::F16: attend<KvKind::F16>(a, s, begin, end); break;
        case KvKind::BF16: attend<KvKind::BF16>(a, s, begin, end); break;
        case KvKind::I8: attend<KvKind::I8>(a, s, begin, end); break;
    }
    if (!a.parts) finish(a, s.total, s.queries.width);
}

void attention_merge(const AttentionTask& a, float* scratch) {
    Carver carver{scratch};
    const AttentionScratch s = carve(a.num_rows, a.rep, a.kv.head_dim, carver);
    const int64_t queries = a.num_rows * a.rep, width = s.queries.width;
    clear_part(s.total, queries, width);
    for (int64_t span = a.first_span; span < a.end_span; ++span) {
        merge_part(s.total, waiting_part(a, span, width), queries, width);
    }
    finish(a, s.total, width);
}

}  // namespace
