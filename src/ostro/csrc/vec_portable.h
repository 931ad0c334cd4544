// Four float lanes in plain GCC/Clang vector syntax: SSE2 on x86-64, NEON on aarch64, scalar code elsewhere.
// Without hardware FMA a multiply-add rounds twice; that is the same everywhere in this variant, which is all we need.
#pragma once

#include <stdint.h>
#include <string.h>
#if defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

typedef float Vec __attribute__((vector_size(16)));
typedef int32_t VecInt __attribute__((vector_size(16)));
typedef uint32_t VecUint __attribute__((vector_size(16)));
typedef uint16_t VecHalf __attribute__((vector_size(8)));

constexpr int L = 4;
// Register tiles: 8 accumulators, since x86-64 has 16 registers and needs one more for each product.
constexpr int MR = 2, NR = 4;
constexpr int DIRECT_NR[5] = {0, 8, 4, 2, 2};
constexpr int DIRECT_ROWS = 4;  // widening a half is dear here: more rows share one
constexpr int PRODUCT_ROWS = 4;  // by two vectors: the register tile of an encoder's attention
// Attention: queries of a tile, and for 1, 2 and 4 of them the vectors of keys and of channels they meet.
constexpr int TILE_QUERIES = 4;
constexpr int SCORE_VECS[] = {0, 4, 4, 0, 2};
constexpr int WEIGH_VECS[] = {0, 8, 4, 0, 2};
constexpr int WIDEN_QUERIES = 8;  // from so many on, a block of K/V is widened once for all

inline Vec vset(float x) { return Vec{x, x, x, x}; }
inline Vec vzero() { return vset(0.0f); }
inline Vec vload(const float* p) {
    Vec v;
    memcpy(&v, p, sizeof v);
    return v;
}
inline void vstore(float* p, Vec v) { memcpy(p, &v, sizeof v); }
inline Vec vfma(Vec a, Vec b, Vec c) {
#if defined(__ARM_NEON) && defined(__aarch64__)
    return (Vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}
inline Vec vadd(Vec a, Vec b) { return a + b; }
inline Vec vsub(Vec a, Vec b) { return a - b; }
inline Vec vmul(Vec a, Vec b) { return a * b; }
inline Vec vdiv(Vec a, Vec b) { return a / b; }
// a where it is greater, else b: a NaN in b comes through.
inline Vec vselect(VecInt mask, Vec a, Vec b) { return (Vec)((mask & (VecInt)a) | (~mask & (VecInt)b)); }
inline Vec vmax(Vec a, Vec b) { return vselect((VecInt)(a > b), a, b); }
inline Vec vmin(Vec a, Vec b) { return vselect((VecInt)(a < b), a, b); }
// b where x > limit, else 0 (NaN gives 0).
inline Vec vkeep_above(Vec x, Vec limit, Vec b) { return (Vec)((VecInt)(x > limit) & (VecInt)b); }

inline float hsum(Vec v) { return (v[0] + v[1]) + (v[2] + v[3]); }
inline float hmax(Vec v) {
    float a = v[0] > v[1] ? v[0] : v[1], b = v[2] > v[3] ? v[2] : v[3];
    return a > b ? a : b;
}
inline void hsum4(float* out, Vec a, Vec b, Vec c, Vec d) {
    out[0] = hsum(a), out[1] = hsum(b), out[2] = hsum(c), out[3] = hsum(d);
}

// Nearest integer for |x| < 2^22, by the rounding of the addition itself.
inline Vec vround(Vec x) {
    const Vec magic = vset(12582912.0f);  // 1.5 * 2^23
    return (x + magic) - magic;
}
// 2^n for whole n in -126 .. 127.
inline Vec vpow2(Vec n) { return (Vec)((__builtin_convertvector(n, VecInt) + 127) << 23); }

inline Vec vload_bf16(const uint8_t* p) {
    VecHalf h;
    memcpy(&h, p, sizeof h);
    return (Vec)(__builtin_convertvector(h, VecUint) << 16);
}
// The exponent is rebased by a multiplication, which also normalises subnormals; infinity and NaN are put back.
inline Vec vload_f16(const uint8_t* p) {
    VecHalf h;
    memcpy(&h, p, sizeof h);
    const VecUint wide = __builtin_convertvector(h, VecUint);
    const VecUint sign = (wide & 0x8000u) << 16, magnitude = (wide & 0x7fffu) << 13;
    const VecUint scaled = (VecUint)((Vec)magnitude * vset(0x1p112f));
    const VecUint special = (VecUint)((wide & 0x7c00u) == 0x7c00u);
    return (Vec)(sign | (special & (magnitude | 0x7f800000u)) | (~special & scaled));
}
typedef int8_t VecCodes __attribute__((vector_size(4)));
inline Vec vload_i8(const uint8_t* p) {
    VecCodes c;
    memcpy(&c, p, sizeof c);
    return __builtin_convertvector(c, Vec);
}
// Whole numbers in -127 .. 127.
inline void vstore_i8(uint8_t* p, Vec x) {
    const VecCodes c = __builtin_convertvector(x, VecCodes);
    memcpy(p, &c, sizeof c);
}
inline void store_half(uint8_t* p, VecUint v) {
    const VecHalf h = __builtin_convertvector(v, VecHalf);
    memcpy(p, &h, sizeof h);
}
inline void vstore_bf16(uint8_t* p, Vec x) {
    const VecUint bits = (VecUint)x;
    const VecUint rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const VecUint nan = (VecUint)(x != x);
    store_half(p, (nan & ((bits >> 16 & 0x8000u) | 0x7fc0u)) | (~nan & rounded));
}
// Subnormal halves come from adding 0.5, whose last bit is worth 2^-24: the addition rounds to nearest even for us.
inline void vstore_f16(uint8_t* p, Vec x) {
    const VecUint bits = (VecUint)x, sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    const VecUint normal = (magnitude - 0x38000000u + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
    const VecUint small = (VecUint)((Vec)magnitude + vset(0.5f)) - 0x3f000000u;
    const VecUint is_small = (VecUint)(magnitude < 0x38800000u);
    const VecUint is_large = (VecUint)(magnitude >= 0x47800000u), is_nan = (VecUint)(magnitude > 0x7f800000u);
    VecUint h = (is_small & small) | (~is_small & normal);
    h = (is_large & 0x7c00u) | (~is_large & h);
    h = (is_nan & 0x7e00u) | (~is_nan & h);
    store_half(p, sign | h);
}

}  // namespace
