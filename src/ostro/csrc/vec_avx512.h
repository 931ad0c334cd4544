// Sixteen float lanes: AVX-512 F, BW, VL and DQ.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace {

typedef __m512 Vec;

constexpr int L = 16;
constexpr int MR = 4, NR = 6;  // 24 accumulators + 4 + 1 of 32 registers
constexpr int DIRECT_NR[5] = {0, 8, 8, 8, 6};
constexpr int DIRECT_ROWS = 32;
constexpr int PRODUCT_ROWS = 8;  // by two vectors: the register tile of an encoder's attention
// Attention: queries of a tile, and for 1, 2, 4 and 8 of them the vectors of keys and of channels they meet.
constexpr int TILE_QUERIES = 8;
constexpr int SCORE_VECS[] = {0, 4, 4, 0, 4, 0, 0, 0, 2};
constexpr int WEIGH_VECS[] = {0, 8, 4, 0, 4, 0, 0, 0, 2};
constexpr int WIDEN_QUERIES = 32;  // from so many on, a block of K/V is widened once for all

inline Vec vset(float x) { return _mm512_set1_ps(x); }
inline Vec vzero() { return _mm512_setzero_ps(); }
inline Vec vload(const float* p) { return _mm512_loadu_ps(p); }
inline void vstore(float* p, Vec v) { _mm512_storeu_ps(p, v); }
inline Vec vfma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }
inline Vec vadd(Vec a, Vec b) { return _mm512_add_ps(a, b); }
inline Vec vsub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
inline Vec vmul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
inline Vec vdiv(Vec a, Vec b) { return _mm512_div_ps(a, b); }
// a where it is greater, else b: a NaN in b comes through.
inline Vec vmax(Vec a, Vec b) { return _mm512_max_ps(a, b); }
inline Vec vmin(Vec a, Vec b) { return _mm512_min_ps(a, b); }
// b where x > limit, else 0 (NaN gives 0).
inline Vec vkeep_above(Vec x, Vec limit, Vec b) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, limit, _CMP_GT_OQ), b);
}

inline __m256 upper(Vec v) { return _mm512_extractf32x8_ps(v, 1); }
inline __m128 fold(Vec v) {
    const __m256 x = _mm256_add_ps(_mm512_castps512_ps256(v), upper(v));
    return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
}
// The tree of both sums is the same: halves, quarters, then neighbours, then pairs.
inline float hsum(Vec v) {
    __m128 x = fold(v);
    x = _mm_hadd_ps(x, x);
    return _mm_cvtss_f32(_mm_hadd_ps(x, x));
}
inline void hsum4(float* out, Vec a, Vec b, Vec c, Vec d) {
    const __m128 ab = _mm_hadd_ps(fold(a), fold(b)), cd = _mm_hadd_ps(fold(c), fold(d));
    _mm_storeu_ps(out, _mm_hadd_ps(ab, cd));
}
inline float hmax(Vec v) {
    const __m256 y = _mm256_max_ps(_mm512_castps512_ps256(v), upper(v));
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

inline Vec vround(Vec x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// 2^n for whole n in -126 .. 127.
inline Vec vpow2(Vec n) {
    const __m512i whole = _mm512_cvtps_epi32(n);
    const __m512i biased = _mm512_add_epi32(whole, _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}

inline __m256i load_half(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline Vec vload_f16(const uint8_t* p) { return _mm512_cvtph_ps(load_half(p)); }
inline Vec vload_bf16(const uint8_t* p) {
    const __m512i wide = _mm512_cvtepu16_epi32(load_half(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline Vec vload_i8(const uint8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)));
}
// Whole numbers in -127 .. 127.
inline void vstore_i8(uint8_t* p, Vec x) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x))); }
inline void vstore_f16(uint8_t* p, Vec x) {
    const int round = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(x, round));
}
inline void vstore_bf16(uint8_t* p, Vec x) {
    const __m512i bits = _mm512_castps_si512(x), high = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    const __m512i sign = _mm512_and_si512(high, _mm512_set1_epi32(0x8000));
    const __m512i quiet = _mm512_or_si512(sign, _mm512_set1_epi32(0x7fc0));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i half = _mm512_mask_mov_epi32(rounded, nan, quiet);
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(half));
}

}  // namespace
