// Elements of the K/V pool: stored, and loaded as float32 (their order is described in attention.h).

namespace {

using namespace ostro;

constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t round_up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

template <KvKind K>
constexpr int64_t KV_SIZE = K == KvKind::F32 ? 4 : K == KvKind::I8 ? 1 : 2;

// L elements; of I8 the codes.
template <KvKind K>
inline Vec kv_load(const uint8_t* p) {
    if constexpr (K == KvKind::F32) {
        return vload((const float*)(const void*)p);
    } else if constexpr (K == KvKind::F16) {
        return vload_f16(p);
    } else if constexpr (K == KvKind::BF16) {
        return vload_bf16(p);
    } else {
        return vload_i8(p);
    }
}

// n elements as float32; memory behind them is not read.
template <KvKind K>
void kv_widen(const uint8_t* p, int64_t n, float* out) {
    int64_t i = 0;
    for (; i + L <= n; i += L) vstore(out + i, kv_load<K>(p + KV_SIZE<K> * i));
    if (i == n) return;
    uint8_t padded[KV_SIZE<K> * L] = {};
    memcpy(padded, p + KV_SIZE<K> * i, (size_t)(KV_SIZE<K> * (n - i)));
    store_tail(out + i, kv_load<K>(padded), n - i);
}

// Elements of SIZE bytes, `stride` elements apart in `out`.
template <int SIZE>
void scatter(const uint8_t* elements, int64_t n, uint8_t* out, int64_t stride) {
    for (int64_t i = 0; i < n; ++i) memcpy(out + i * stride * SIZE, elements + i * SIZE, SIZE);
}

// n <= KV_GROUP channels as codes: x / scale to nearest even, at most 127, where scale is max |x| / 127 as float16. Where
// x or the scale is not finite the codes are 0 and the scale is not finite either, so that their product is NaN.
void quantize_group(const float* x, int64_t n, uint8_t* codes, uint8_t* scale_half) {
    float padded[KV_GROUP] = {};
    memcpy(padded, x, (size_t)n * sizeof(float));
    Vec top = vzero(), odd = vzero();
    for (int64_t i = 0; i < KV_GROUP; i += L) {
        const Vec v = vload(padded + i);
        top = vmax(top, vmax(v, vsub(vzero(), v)));
        odd = vadd(odd, vsub(v, v));  // NaN where v is not finite
    }
    uint8_t halves[2 * L];
    vstore_f16(halves, vset(hmax(top) / 127.0f + hsum(odd)));
    memcpy(scale_half, halves, 2);
    const float scale = half_to_float(halves);
    if (!(scale > 0.0f && scale <= 65504.0f)) {
        memset(codes, 0, KV_GROUP);
        return;
    }
    for (int64_t i = 0; i < KV_GROUP; i += L) {
        const Vec code = vround(vdiv(vload(padded + i), vset(scale)));
        vstore_i8(codes + i, vmax(vset(-127.0f), vmin(vset(127.0f), code)));
    }
}

// k and v (d,) into panels of I8.
void store_codes(const StoreTask& a) {
    const int64_t d = a.head_dim, w = a.width;
    for (int64_t i = 0; i < d; i += KV_GROUP) {
        const int64_t n = smaller(KV_GROUP, d - i), scale = d * w + 2 * (i / KV_GROUP * w + a.lane);
        uint8_t codes[KV_GROUP];
        quantize_group(a.k + i, n, codes, a.keys + scale);
        scatter<1>(codes, n, a.keys + i * w + a.lane, w);
        quantize_group(a.v + i, n, codes, a.values + scale);
        memcpy(a.values + a.lane * d + i, codes, (size_t)n);
    }
}

void kv_store(const StoreTask& a) {
    const int64_t d = a.head_dim, w = a.width, size = kv_element_bytes(a.kind);
    if (a.kind == KvKind::I8) return store_codes(a);
    const Kind kind = a.kind == KvKind::F32 ? Kind::F32 : a.kind == KvKind::F16 ? Kind::F16 : Kind::BF16;
    encode(kind, a.v, d, a.values + a.lane * d * size);
    for (int64_t i = 0; i < d; i += L) {
        uint8_t elements[4 * L];
        const int64_t n = smaller(L, d - i);
        encode(kind, a.k + i, n, elements);
        uint8_t* out = a.keys + (i * w + a.lane) * size;
        size == 4 ? scatter<4>(elements, n, out, w) : scatter<2>(elements, n, out, w);
    }
}

}  // namespace
