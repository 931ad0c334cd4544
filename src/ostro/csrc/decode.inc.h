// Rows of a weight as float32: plain floats, and the GGUF block formats.
//
// Written for exactness: in every block format the product of scale, sub-scale and quantum has at most 25 significant
// bits in one rounding, so the order of the multiplications does not matter, and -ffp-contract=off keeps the sums
// apart from them. The results equal the NumPy decoders bit for bit. Speed comes from the compiler's vectoriser.

namespace {

using namespace ostro;

inline float half_to_float(const uint8_t* p) {
    uint8_t padded[2 * L] = {p[0], p[1]};
    float out[L];
    vstore(out, vload_f16(padded));
    return out[0];
}

void decode_q4_0(const uint8_t* b, float* y) {
    const float d = half_to_float(b);
    const uint8_t* q = b + 2;
    for (int j = 0; j < 16; ++j) y[j] = d * (float)((q[j] & 15) - 8);
    for (int j = 0; j < 16; ++j) y[j + 16] = d * (float)((q[j] >> 4) - 8);
}
void decode_q4_1(const uint8_t* b, float* y) {
    const float d = half_to_float(b), m = half_to_float(b + 2);
    const uint8_t* q = b + 4;
    for (int j = 0; j < 16; ++j) y[j] = d * (float)(q[j] & 15) + m;
    for (int j = 0; j < 16; ++j) y[j + 16] = d * (float)(q[j] >> 4) + m;
}
inline uint32_t fifth_bits(const uint8_t* p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
void decode_q5_0(const uint8_t* b, float* y) {
    const float d = half_to_float(b);
    const uint32_t high = fifth_bits(b + 2);
    const uint8_t* q = b + 6;
    for (int j = 0; j < 16; ++j) y[j] = d * (float)((int)((q[j] & 15) | ((high >> j & 1) << 4)) - 16);
    for (int j = 0; j < 16; ++j) y[j + 16] = d * (float)((int)((q[j] >> 4) | ((high >> (j + 16) & 1) << 4)) - 16);
}
void decode_q5_1(const uint8_t* b, float* y) {
    const float d = half_to_float(b), m = half_to_float(b + 2);
    const uint32_t high = fifth_bits(b + 4);
    const uint8_t* q = b + 8;
    for (int j = 0; j < 16; ++j) y[j] = d * (float)(int)((q[j] & 15) | ((high >> j & 1) << 4)) + m;
    for (int j = 0; j < 16; ++j) y[j + 16] = d * (float)(int)((q[j] >> 4) | ((high >> (j + 16) & 1) << 4)) + m;
}
void decode_q8_0(const uint8_t* b, float* y) {
    const float d = half_to_float(b);
    for (int j = 0; j < 32; ++j) y[j] = d * (float)(int8_t)b[2 + j];
}

// The K formats: 256 elements, whose sub-blocks have scales of their own.
void decode_q2_k(const uint8_t* b, float* y) {
    const uint8_t *scales = b, *q = b + 16;
    const float d = half_to_float(b + 80), dmin = half_to_float(b + 82);
    for (int sub = 0; sub < 16; ++sub) {
        const float scale = d * (float)(scales[sub] & 15), minimum = dmin * (float)(scales[sub] >> 4);
        const uint8_t* p = q + 32 * (sub / 8) + 16 * (sub % 2);
        const int shift = 2 * (sub / 2 % 4);
        for (int j = 0; j < 16; ++j) y[16 * sub + j] = scale * (float)(p[j] >> shift & 3) - minimum;
    }
}
void decode_q3_k(const uint8_t* b, float* y) {
    const uint8_t *high = b, *q = b + 32, *scales = b + 96;
    const float d = half_to_float(b + 108);
    for (int sub = 0; sub < 16; ++sub) {
        const float scale = d * (float)q3_scale(scales, sub);
        const uint8_t* p = q + 32 * (sub / 8) + 16 * (sub % 2);
        const uint8_t* h = high + 16 * (sub % 2);
        const int shift = 2 * (sub / 2 % 4), bit = sub / 2;
        for (int j = 0; j < 16; ++j) y[16 * sub + j] = scale * (float)((p[j] >> shift & 3) - 4 + 4 * (h[j] >> bit & 1));
    }
}
void decode_q4_k(const uint8_t* b, float* y) {
    const float d = half_to_float(b), dmin = half_to_float(b + 2);
    for (int sub = 0; sub < 8; ++sub) {
        int s, m;
        scale_and_minimum(b + 4, sub, &s, &m);
        const float scale = d * (float)s, minimum = dmin * (float)m;
        const uint8_t* q = b + 16 + 32 * (sub / 2);
        const int shift = 4 * (sub % 2);
        for (int j = 0; j < 32; ++j) y[32 * sub + j] = scale * (float)(q[j] >> shift & 15) - minimum;
    }
}
void decode_q5_k(const uint8_t* b, float* y) {
    const float d = half_to_float(b), dmin = half_to_float(b + 2);
    const uint8_t* high = b + 16;
    for (int sub = 0; sub < 8; ++sub) {
        int s, m;
        scale_and_minimum(b + 4, sub, &s, &m);
        const float scale = d * (float)s, minimum = dmin * (float)m;
        const uint8_t* q = b + 48 + 32 * (sub / 2);
        const int shift = 4 * (sub % 2);
        for (int j = 0; j < 32; ++j)
            y[32 * sub + j] = scale * (float)((q[j] >> shift & 15) | (high[j] >> sub & 1) << 4) - minimum;
    }
}
void decode_q6_k(const uint8_t* b, float* y) {
    const uint8_t *low = b, *high = b + 128, *scales = b + 192;
    const float d = half_to_float(b + 208);
    for (int sub = 0; sub < 16; ++sub) {
        const float scale = d * (float)(int8_t)scales[sub];
        const int half = sub / 8, quarter = sub / 2 % 4, odd = sub % 2;
        const uint8_t* p = low + 64 * half + 32 * (quarter % 2) + 16 * odd;
        const uint8_t* h = high + 32 * half + 16 * odd;
        const int shift = 4 * (quarter / 2), bits = 2 * quarter;
        for (int j = 0; j < 16; ++j)
            y[16 * sub + j] = scale * (float)(((p[j] >> shift & 15) | (h[j] >> bits & 3) << 4) - 32);
    }
}

template <void (*BLOCK)(const uint8_t*, float*)>
void decode_blocks(const KindInfo& kind, const uint8_t* row, int64_t begin, int64_t end, float* out) {
    const uint8_t* block = row + begin / kind.elements * kind.bytes;
    for (int64_t k = begin; k < end; k += kind.elements, block += kind.bytes) BLOCK(block, out + (k - begin));
}

// L plain floats of kind K, beginning `p`.
template <Kind K>
inline Vec load_as(const uint8_t* p) {
    if constexpr (K == Kind::F32) {
        return vload((const float*)(const void*)p);
    } else if constexpr (K == Kind::F16) {
        return vload_f16(p);
    } else {
        return vload_bf16(p);
    }
}
template <Kind K>
constexpr int SIZE = K == Kind::F32 ? 4 : 2;

// The last n < L elements; lanes behind them are zero, and memory behind them is not read.
template <Kind K>
inline Vec load_tail(const uint8_t* p, int64_t n) {
    uint8_t padded[SIZE<K> * L] = {};
    memcpy(padded, p, (size_t)(SIZE<K> * n));
    return load_as<K>(padded);
}
inline void store_tail(float* p, Vec v, int64_t n) {
    float padded[L];
    vstore(padded, v);
    memcpy(p, padded, (size_t)n * sizeof(float));
}

template <Kind K>
void decode_plain(const uint8_t* p, int64_t n, float* out) {
    int64_t k = 0;
    for (; k + L <= n; k += L) vstore(out + k, load_as<K>(p + SIZE<K> * k));
    if (k < n) store_tail(out + k, load_tail<K>(p + SIZE<K> * k, n - k), n - k);
}

void decode(Kind kind, const uint8_t* row, int64_t begin, int64_t end, float* out) {
    const KindInfo& info = KINDS[(int)kind];
    switch (kind) {
        case Kind::F32: return decode_plain<Kind::F32>(row + 4 * begin, end - begin, out);
        case Kind::F16: return decode_plain<Kind::F16>(row + 2 * begin, end - begin, out);
        case Kind::BF16: return decode_plain<Kind::BF16>(row + 2 * begin, end - begin, out);
        case Kind::Q4_0: return decode_blocks<decode_q4_0>(info, row, begin, end, out);
        case Kind::Q4_1: return decode_blocks<decode_q4_1>(info, row, begin, end, out);
        case Kind::Q5_0: return decode_blocks<decode_q5_0>(info, row, begin, end, out);
        case Kind::Q5_1: return decode_blocks<decode_q5_1>(info, row, begin, end, out);
        case Kind::Q8_0: return decode_blocks<decode_q8_0>(info, row, begin, end, out);
        case Kind::Q2_K: return decode_blocks<decode_q2_k>(info, row, begin, end, out);
        case Kind::Q3_K: return decode_blocks<decode_q3_k>(info, row, begin, end, out);
        case Kind::Q4_K: return decode_blocks<decode_q4_k>(info, row, begin, end, out);
        case Kind::Q5_K: return decode_blocks<decode_q5_k>(info, row, begin, end, out);
        case Kind::Q6_K: return decode_blocks<decode_q6_k>(info, row, begin, end, out);
        default: return;  // packed weights have no rows that could be decoded alone
    }
}

void encode(Kind kind, const float* x, int64_t n, uint8_t* out) {
    if (kind == Kind::F32) {
        memcpy(out, x, (size_t)n * sizeof(float));
        return;
    }
    for (int64_t k = 0; k < n; k += L) {
        const int64_t count = n - k < L ? n - k : L;
        const Vec v = count == L ? vload(x + k) : load_tail<Kind::F32>((const uint8_t*)(x + k), count);
        uint8_t half[2 * L];
        kind == Kind::F16 ? vstore_f16(half, v) : vstore_bf16(half, v);
        memcpy(out + 2 * k, half, (size_t)(2 * count));
    }
}

}  // namespace
