// y = x W^T for packed weights (checkpoint/packed.py), in integers, where the bits of a row depend on that row alone.
//
// Identity: with w = s value and x = r q in each group of 32 columns,
//     y[n] = sum over groups, ascending, of s[n] r ( sum over the group of value[n][k] q[k] ).
// The inner sum is a sum of integers and exact in any order; the outer one is one fused multiply-add a group, in the
// order of the groups, whatever the tile. A lane owns an output, so nothing is summed across lanes, and one dot4 takes
// four columns of sixteen outputs. Where dot4 wants unsigned bytes, values carry a bias of 128, and the sums begin at
// -128 sum(q), which was found when the row was rounded. A minimum m adds m r sum(q).
// - one row: codes go from memory through registers, one stream after another. Bound by memory. What is asked for ahead
//   must come into L1: into L2 only, two cores of a Zen 4 read 41 of the 56 GB/s that their memory has.
// - few rows: the same, up to eight rows a turn, whose sums stay in registers.
// - more rows: two panels' groups are decoded into 16 registers once and meet all rows of the tile; sums wait in `acc`
//   (L1). Of 10 operations on the multiplying ports 8 are dot products, so 80 % of the integer peak is the limit.
// - more rows with 16 registers: a group is decoded into L1 and met by TILE rows at a time.
// - codes that mean 16 neighbours (int4, Q4_0, Q4_K) need no table: nibbles are multiplied as they are, and the lowest
//   value joins where the sums begin. A row alone takes 94 GB/s out of the caches with the table and 111 without.
// - without VNNI, codes that span 16 neighbours (all but NF4's) are taken as unsigned nibbles, code - lowest, whose sums
//   fit into 16 bits for a whole group.
// Measured (Zen 4, 2 cores, Mistral 7B at 4 bits): see benchmarks/cpu_speed.md.

namespace {

using namespace ostro;

enum class Form { Half, HalfMin, Group, Super, Sub };

// Rows lie row after row within a group: x[g * T + t].
inline int32_t four(const RowGroup& x, int unit) {
    int32_t v;
    memcpy(&v, x.q + 4 * unit, sizeof v);
    return v;
}

constexpr int group_bytes(int bits) { return 64 * bits; }

constexpr int BIAS = UNSIGNED ? 128 : 0;

inline Table value_table(const WeightView& w) {
    int8_t values[16];
    for (int i = 0; i < 16; ++i) values[i] = (int8_t)(w.codebook[i] + BIAS);
    return make_table(values);
}

// What codes mean: values of the table plus BIAS; or, where 16 neighbours from LOWEST on are meant, themselves.
constexpr int TABLE = 1;
inline int lowest_of(const WeightView& w) {
    for (int i = 0; i < 16; ++i) {
        if (w.codebook[i] != w.codebook[0] + i) return TABLE;
    }
    return w.codebook[0];
}

// The columns of a group, four a unit.
template <int BITS, int LOWEST>
ALWAYS_INLINE void decode_group(const uint8_t* p, const Table& table, Bytes (&w)[8]) {
    if constexpr (BITS == 8) {
        unroll<8>([&](auto u) { w[u] = UNSIGNED ? load_bytes(p + 64 * u) : shifted(load_bytes(p + 64 * u), -128); });
    } else {
        unroll<4>([&](auto v) {
            const Bytes raw = load_bytes(p + 64 * v);
            w[2 * v] = low_nibbles(raw);
            w[2 * v + 1] = high_nibbles(raw);
        });
        if constexpr (BITS == 4) {
            if constexpr (LOWEST == TABLE) unroll<8>([&](auto u) { w[u] = lookup(table, w[u]); });
        } else {
            unroll<2>([&](auto h) {
                const Bytes high = load_bytes(p + 256 + 64 * h);
                unroll<4>([&](auto i) {
                    Bytes& unit = w[4 * h + i];
                    unit = shifted(join(unit, high_bits<decltype(i){}>(high)), BIAS - 32);
                });
            });
        }
    }
}

struct GroupScale {
    Sixteen scale, minimum;
    Ints first, second;  // of the half groups
};

template <Form F>
ALWAYS_INLINE GroupScale load_scale(const uint8_t* p, int64_t g) {
    GroupScale s;
    if constexpr (F == Form::Half) {
        s.scale = fload_half(p + 32 * g);
    } else if constexpr (F == Form::HalfMin) {
        s.scale = fload_half(p + 64 * g);
        s.minimum = fload_half(p + 64 * g + 32);
    } else if constexpr (F == Form::Group) {
        const uint8_t* head = p + 160 * (g / 8);
        s.scale = fmul(fload_half(head), to_floats(load_signed(head + 32 + 16 * (g % 8))));
    } else if constexpr (F == Form::Super) {
        const uint8_t *head = p + 320 * (g / 8), *fine = head + 64 + 32 * (g % 8);
        s.scale = fmul(fload_half(head), to_floats(load_unsigned(fine)));
        s.minimum = fneg(fmul(fload_half(head + 32), to_floats(load_unsigned(fine + 16))));
    } else {
        const uint8_t *head = p + 288 * (g / 8), *fine = head + 32 + 32 * (g % 8);
        s.scale = fload_half(head);
        s.first = load_signed(fine);
        s.second = load_signed(fine + 16);
    }
    return s;
}

template <Form F>
ALWAYS_INLINE Sixteen add_group(Sixteen acc, Ints low, Ints high, const GroupScale& s, const RowGroup& x) {
    const Ints sum = F == Form::Sub ? iadd(imul(low, s.first), imul(high, s.second)) : iadd(low, high);
    acc = ffma(to_floats(sum), fmul(s.scale, fset(x.scale)), acc);
    if constexpr (F == Form::HalfMin || F == Form::Super) acc = ffma(s.minimum, fset(x.sum), acc);
    return acc;
}

// Where the sums of the two halves begin: at what the bytes of the weights lie too high, times the activations.
template <int LOWEST>
ALWAYS_INLINE int32_t start_of(int32_t x) {
    static_assert(LOWEST == TABLE || LOWEST == 0 || LOWEST == -8);
    if constexpr (LOWEST == TABLE) return UNSIGNED ? x : 0;
    return LOWEST == 0 ? 0 : x / SUM_FACTOR * -LOWEST;
}
template <Form F, int LOWEST>
ALWAYS_INLINE void start(const RowGroup& x, Ints& low, Ints& high) {
    if constexpr (F == Form::Sub) {
        low = iset(start_of<LOWEST>(x.low)), high = iset(start_of<LOWEST>(x.high));
    } else {
        low = iset(start_of<LOWEST>(x.low + x.high)), high = iset(0);
    }
}

struct PanelView {
    const uint8_t *codes, *scales;
};
inline PanelView panel_at(const WeightView& w, int64_t panel) {
    return {w.data + panel * w.panel_bytes, w.scales + panel * w.panel_scale_bytes};
}

constexpr int FEW = 16;      // rows that take their turns with the codes in the cache, eight at a time
constexpr int AHEAD = 4096;  // bytes of codes that are asked for before they are needed

template <int BITS>
ALWAYS_INLINE void prefetch_group(const uint8_t* codes) {
    unroll<BITS>([&](auto line) { __builtin_prefetch(codes + AHEAD + 64 * line, 0, 3); });
}

// One row: panel after panel, straight through memory.
template <int BITS, Form F, int LOWEST>
void one_row(const PackedTask& a, const Table& table) {
    for (int64_t i = 0; i < a.num_panels; ++i) {
        const PanelView p = panel_at(*a.weight, a.panel + i);
        Sixteen acc = fset(0.0f);
        for (int64_t g = 0; g < a.groups; ++g) {
            const uint8_t* codes = p.codes + group_bytes(BITS) * g;
            prefetch_group<BITS>(codes);
            const RowGroup& x = a.x[g];
            Bytes w[8];
            decode_group<BITS, LOWEST>(codes, table, w);
            Ints low, high;
            start<F, LOWEST>(x, low, high);
            unroll<4>([&](auto u) {
                low = dot4(low, w[u], four(x, u));
                high = dot4(high, w[u + 4], four(x, u + 4));
            });
            acc = add_group<F>(acc, low, high, load_scale<F>(p.scales, g), x);
        }
        fstore(a.acc + 16 * i, acc);
    }
}

// Rows t0 .. t1 - 1 by N panels; row t's sums are acc + (t - t0) * 32.
template <int BITS, Form F, int LOWEST, int N>
void rows_tile(const PackedTask& a, const Table& table) {
    PanelView p[N];
    unroll<N>([&](auto n) { p[n] = panel_at(*a.weight, a.panel + n); });
    memset(a.acc, 0, (size_t)(a.t1 - a.t0) * 32 * sizeof(float));
    for (int64_t g = 0; g < a.groups; ++g) {
        Bytes w[N][8];
        GroupScale s[N];
        unroll<N>([&](auto n) {
            const uint8_t* codes = p[n].codes + group_bytes(BITS) * g;
            prefetch_group<BITS>(codes);
            decode_group<BITS, LOWEST>(codes, table, w[n]);
            s[n] = load_scale<F>(p[n].scales, g);
        });
        const RowGroup* x = a.x + g * a.T + a.t0;
        float* acc = a.acc;
        for (int64_t t = a.t0; t < a.t1; ++t, ++x, acc += 32) {
            Ints low[N], high[N];
            unroll<N>([&](auto n) { start<F, LOWEST>(*x, low[n], high[n]); });
            unroll<4>([&](auto u) {
                unroll<N>([&](auto n) {
                    low[n] = dot4(low[n], w[n][u], four(*x, u));
                    high[n] = dot4(high[n], w[n][u + 4], four(*x, u + 4));
                });
            });
            unroll<N>([&](auto n) {
                fstore(acc + 16 * n, add_group<F>(fload(acc + 16 * n), low[n], high[n], s[n], *x));
            });
        }
    }
}

#if defined(OSTRO_BUFFERED)
// R rows with a decoded group; with a shift, w are nibbles that lie 2^shift above their values (0: they are values).
template <Form F, bool NIBBLES, int R>
ALWAYS_INLINE void meet_rows(const RowGroup* x, const Bytes* w, int shift, Ints (&low)[R], Ints (&high)[R]) {
#if defined(OSTRO_PAIRS)
    if constexpr (NIBBLES) {
        unroll<2>([&](auto half) {
            Pairs sums[R];
            unroll<R>([&](auto r) { sums[r] = iset(0); });
            unroll<4>([&](auto u) {
                unroll<R>([&](auto r) { sums[r] = dot_pairs(sums[r], w[4 * half + u], four(x[r], 4 * half + u)); });
            });
            unroll<R>([&](auto r) {
                const Ints less = shift ? ishift(iset(half ? x[r].high : x[r].low), shift) : iset(0);
                (half ? high : low)[r] = iadd(widen(sums[r]), less);
            });
        });
        return;
    }
#else
    (void)shift;
#endif
    unroll<R>([&](auto r) { start<F, TABLE>(x[r], low[r], high[r]); });
    unroll<4>([&](auto u) {
        unroll<R>([&](auto r) { low[r] = dot4(low[r], w[u], four(x[r], u)); });
    });
    unroll<4>([&](auto u) {
        unroll<R>([&](auto r) { high[r] = dot4(high[r], w[u + 4], four(x[r], u + 4)); });
    });
}

template <Form F, bool NIBBLES, int R>
void buffered_rows(const RowGroup* x, const Bytes* w, int shift, const GroupScale& s, float* acc) {
    Ints low[R], high[R];
    meet_rows<F, NIBBLES, R>(x, w, shift, low, high);
    unroll<R>([&](auto r) {
        fstore(acc + 32 * r, add_group<F>(fload(acc + 32 * r), low[r], high[r], s, x[r]));
    });
}

// As rows_tile, panel after panel, for sets of kernels whose registers do not hold a decoded group.
template <int BITS, Form F, bool NIBBLES>
void buffered_tile(const PackedTask& a, const Table& table, int shift) {
    memset(a.acc, 0, (size_t)(a.t1 - a.t0) * 32 * sizeof(float));
    for (int64_t n = 0; n < a.num_panels; ++n) {
        const PanelView p = panel_at(*a.weight, a.panel + n);
        for (int64_t g = 0; g < a.groups; ++g) {
            const uint8_t* codes = p.codes + group_bytes(BITS) * g;
            prefetch_group<BITS>(codes);
            Bytes w[8];
            decode_group<BITS, TABLE>(codes, table, w);
            const GroupScale s = load_scale<F>(p.scales, g);
            const RowGroup* x = a.x + g * a.T;
            int64_t t = a.t0;
            for (; t + TILE <= a.t1; t += TILE)
                buffered_rows<F, NIBBLES, TILE>(x + t, w, shift, s, a.acc + (t - a.t0) * 32 + 16 * n);
            for (; t < a.t1; ++t) buffered_rows<F, NIBBLES, 1>(x + t, w, shift, s, a.acc + (t - a.t0) * 32 + 16 * n);
        }
    }
}

#if defined(OSTRO_PAIRS)
// The codes' values as nibbles above the lowest: true if they are 16 neighbours at most, the lowest -2^shift or 0.
inline bool nibble_table(const WeightView& w, int8_t (&nibbles)[16], int* shift) {
    int lowest = 0;
    for (int i = 0; i < 16; ++i) lowest = w.codebook[i] < lowest ? w.codebook[i] : lowest;
    *shift = lowest == -8 ? 3 : lowest == -4 ? 2 : 0;
    if (lowest != 0 && lowest != -(1 << *shift)) return false;
    for (int i = 0; i < 16; ++i) {
        if (w.codebook[i] - lowest > 15) return false;
        nibbles[i] = (int8_t)(w.codebook[i] - lowest);
    }
    return true;
}
#endif

template <int BITS, Form F, int LOWEST>
void many_rows(const PackedTask& a, const Table& table) {
    if constexpr (LOWEST != TABLE) return many_rows<BITS, F, TABLE>(a, table);
#if defined(OSTRO_PAIRS)
    if constexpr (BITS == 4) {
        int8_t nibbles[16];
        int shift;
        if (nibble_table(*a.weight, nibbles, &shift)) {
            return buffered_tile<BITS, F, true>(a, make_table(nibbles), shift);
        }
    }
#endif
    buffered_tile<BITS, F, false>(a, table, 0);
}
#else
// R rows from row t on, panel after panel; their sums stay in registers.
template <int BITS, Form F, int LOWEST, int R>
void few_rows(const PackedTask& a, const Table& table, int64_t t) {
    for (int64_t n = 0; n < a.num_panels; ++n) {
        const PanelView p = panel_at(*a.weight, a.panel + n);
        Sixteen acc[R];
        unroll<R>([&](auto r) { acc[r] = fset(0.0f); });
        for (int64_t g = 0; g < a.groups; ++g) {
            const uint8_t* codes = p.codes + group_bytes(BITS) * g;
            prefetch_group<BITS>(codes);
            Bytes w[8];
            decode_group<BITS, LOWEST>(codes, table, w);
            const GroupScale s = load_scale<F>(p.scales, g);
            const RowGroup* x = a.x + g * a.T + t;
            unroll<R>([&](auto r) {
                Ints low, high;
                start<F, LOWEST>(x[r], low, high);
                unroll<4>([&](auto u) {
                    low = dot4(low, w[u], four(x[r], u));
                    high = dot4(high, w[u + 4], four(x[r], u + 4));
                });
                acc[r] = add_group<F>(acc[r], low, high, s, x[r]);
            });
        }
        unroll<R>([&](auto r) { fstore(a.acc + (t - a.t0 + r) * 32 + 16 * n, acc[r]); });
    }
}

template <int BITS, Form F, int LOWEST>
void many_rows(const PackedTask& a, const Table& table) {
    int64_t t = a.t0;
    if (a.t1 - t > FEW) {
        return a.num_panels == 2 ? rows_tile<BITS, F, LOWEST, 2>(a, table) : rows_tile<BITS, F, LOWEST, 1>(a, table);
    }
    for (; a.t1 - t >= 8; t += 8) few_rows<BITS, F, LOWEST, 8>(a, table, t);
    if (a.t1 - t >= 4) few_rows<BITS, F, LOWEST, 4>(a, table, t), t += 4;
    if (a.t1 - t >= 2) few_rows<BITS, F, LOWEST, 2>(a, table, t), t += 2;
    if (a.t1 - t >= 1) few_rows<BITS, F, LOWEST, 1>(a, table, t);
}
#endif

template <int BITS, Form F, int LOWEST>
void all_rows(const PackedTask& a, const Table& table) {
    a.T == 1 ? one_row<BITS, F, LOWEST>(a, table) : many_rows<BITS, F, LOWEST>(a, table);
}

// LIKELY is the LOWEST that weights of this form mostly have.
template <int BITS, Form F, int LIKELY = TABLE>
void packed_form(const PackedTask& a) {
    const Table table = value_table(*a.weight);
    if constexpr (LIKELY != TABLE) {
        if (lowest_of(*a.weight) == LIKELY) return all_rows<BITS, F, LIKELY>(a, table);
    }
    all_rows<BITS, F, TABLE>(a, table);
}

void packed(const PackedTask& a) {
    switch (a.weight->kind) {
        case Kind::P4: return packed_form<4, Form::Half, -8>(a);
        case Kind::P4M: return packed_form<4, Form::HalfMin, 0>(a);
        case Kind::P4G: return packed_form<4, Form::Group, -8>(a);
        case Kind::P4K: return packed_form<4, Form::Super, 0>(a);
        case Kind::P4S: return packed_form<4, Form::Sub>(a);
        case Kind::P6S: return packed_form<6, Form::Sub>(a);
        case Kind::P8: return packed_form<8, Form::Half>(a);
        case Kind::P8M: return packed_form<8, Form::HalfMin>(a);
        case Kind::P8K: return packed_form<8, Form::Super>(a);
        default: return;
    }
}

}  // namespace
