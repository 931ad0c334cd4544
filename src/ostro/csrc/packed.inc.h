// y = x W^T for packed weights (checkpoint/packed.py), in integers, where the bits of a row depend on that row alone.
//
// Identity: with w = s value and x = r q in each group of 32 columns,
//     y[n] = sum over groups, ascending, of s[n] r ( sum over the group of value[n][k] q[k] ).
// The inner sum is a sum of integers and exact in any order; the outer one is one fused multiply-add a group, in the
// order of the groups, whatever the tile. A lane owns an output, so nothing is summed across lanes, and one dot4 takes
// four columns of sixteen outputs. Where dot4 wants unsigned bytes, values carry a bias of 128, and the sums begin at
// -128 sum(q), which was found when the row was rounded. A minimum m adds m r sum(q).
// - one row: codes go from memory through registers, one stream after another. Bound by memory.
// - more rows: two panels' groups are decoded into 16 registers once and meet all rows of the tile; sums wait in `acc`
//   (L1). Of 10 operations on the multiplying ports 8 are dot products, so 80 % of the integer peak is the limit.
// - more rows with 16 registers: a group is decoded into L1 and met by TILE rows at a time.
// - without VNNI, codes that span 16 neighbours (all but NF4's) are taken as unsigned nibbles, code - lowest, whose sums fit into 16 bits for a whole group.
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
constexpr int SUM_FACTOR = UNSIGNED ? 128 : 1;  // RowGroup's low and high are -SUM_FACTOR times the sums

inline Table value_table(const WeightView& w) {
    int8_t values[16];
    for (int i = 0; i < 16; ++i) values[i] = (int8_t)(w.codebook[i] + BIAS);
    return make_table(values);
}

// The columns of a group as values (plus BIAS), four a unit.
template <int BITS>
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
            unroll<8>([&](auto u) { w[u] = lookup(table, w[u]); });
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

inline Ints start(int32_t x) { return iset(UNSIGNED ? x : 0); }

struct PanelView {
    const uint8_t *codes, *scales;
};
inline PanelView panel_at(const WeightView& w, int64_t panel) {
    return {w.data + panel * w.panel_bytes, w.scales + panel * w.panel_scale_bytes};
}

constexpr int AHEAD = 4096;  // bytes of codes that are asked for before they are needed

template <int BITS>
ALWAYS_INLINE void prefetch_group(const uint8_t* codes) {
    unroll<BITS>([&](auto line) { __builtin_prefetch(codes + AHEAD + 64 * line, 0, 2); });
}

// One row: panel after panel, straight through memory.
template <int BITS, Form F>
void one_row(const PackedTask& a, const Table& table) {
    for (int64_t i = 0; i < a.num_panels; ++i) {
        const PanelView p = panel_at(*a.weight, a.panel + i);
        Sixteen acc = fset(0.0f);
        for (int64_t g = 0; g < a.groups; ++g) {
            const uint8_t* codes = p.codes + group_bytes(BITS) * g;
            prefetch_group<BITS>(codes);
            const RowGroup& x = a.x[g];
            Bytes w[8];
            decode_group<BITS>(codes, table, w);
            Ints low = start(x.low), high = start(x.high);
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
template <int BITS, Form F, int N>
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
            decode_group<BITS>(codes, table, w[n]);
            s[n] = load_scale<F>(p[n].scales, g);
        });
        const RowGroup* x = a.x + g * a.T + a.t0;
        float* acc = a.acc;
        for (int64_t t = a.t0; t < a.t1; ++t, ++x, acc += 32) {
            Ints low[N], high[N];
            unroll<N>([&](auto n) { low[n] = start(x->low), high[n] = start(x->high); });
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
template <bool NIBBLES, int R>
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
    unroll<R>([&](auto r) { low[r] = start(x[r].low), high[r] = start(x[r].high); });
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
    meet_rows<NIBBLES, R>(x, w, shift, low, high);
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
            decode_group<BITS>(codes, table, w);
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

template <int BITS, Form F>
void many_rows(const PackedTask& a, const Table& table) {
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
template <int BITS, Form F>
void many_rows(const PackedTask& a, const Table& table) {
    a.num_panels == 2 ? rows_tile<BITS, F, 2>(a, table) : rows_tile<BITS, F, 1>(a, table);
}
#endif

template <int BITS, Form F>
void packed_form(const PackedTask& a) {
    const Table table = value_table(*a.weight);
    a.T == 1 ? one_row<BITS, F>(a, table) : many_rows<BITS, F>(a, table);
}

void packed(const PackedTask& a) {
    switch (a.weight->kind) {
        case Kind::P4: return packed_form<4, Form::Half>(a);
        case Kind::P4M: return packed_form<4, Form::HalfMin>(a);
        case Kind::P4G: return packed_form<4, Form::Group>(a);
        case Kind::P4K: return packed_form<4, Form::Super>(a);
        case Kind::P4S: return packed_form<4, Form::Sub>(a);
        case Kind::P6S: return packed_form<6, Form::Sub>(a);
        case Kind::P8: return packed_form<8, Form::Half>(a);
        case Kind::P8M: return packed_form<8, Form::HalfMin>(a);
        case Kind::P8K: return packed_form<8, Form::Super>(a);
        default: return;
    }
}

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
