// Eight float lanes: AVX2 with FMA and F16C.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace {

typedef __m256 Vec;

constexpr int L = 8;
constexpr int MR = 3, NR = 4;  // 12 accumulators + 3 + 1 = all 16 registers
constexpr int DIRECT_NR[5] = {0, 8, 4, 4, 3};
constexpr int DIRECT_ROWS = 32;
constexpr int PRODUCT_ROWS = 6;  // by two vectors: the register tile of an encoder's attention
// Attention: queries of a tile, and for 1, 2 and 4 of them the vectors of keys and of channels they meet.
constexpr int TILE_QUERIES = 4;
constexpr int SCORE_VECS[] = {0, 4, 4, 0, 2};
constexpr int WEIGH_VECS[] = {0, 8, 4, 0, 2};
constexpr int WIDEN_QUERIES = 32;  // from so many on, a block of K/V is widened once for all

inline Vec vset(float x) { return _mm256_set1_ps(x); }
inline Vec vzero() { return _mm256_setzero_ps(); }
inline Vec vload(const float* p) { return _mm256_loadu_ps(p); }
inline void vstore(float* p, Vec v) { _mm256_storeu_ps(p, v); }
inline Vec vfma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
inline Vec vadd(Vec a, Vec b) { return _mm256_add_ps(a, b); }
inline Vec vsub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
inline Vec vmul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
inline Vec vdiv(Vec a, Vec b) { return _mm256_div_ps(a, b); }
// a where it is greater, else b: a NaN in b comes through.
inline Vec vmax(Vec a, Vec b) { return _mm256_max_ps(a, b); }
inline Vec vmin(Vec a, Vec b) { return _mm256_min_ps(a, b); }
// b where x > limit, else 0 (NaN gives 0).
inline Vec vkeep_above(Vec x, Vec limit, Vec b) { return _mm256_and_ps(_mm256_cmp_ps(x, limit, _CMP_GT_OQ), b); }

inline __m128 fold(Vec v) { return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); }
// The tree of both sums is the same: halves, then neighbours, then pairs.
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
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}

inline Vec vround(Vec x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// 2^n for whole n in -126 .. 127.
inline Vec vpow2(Vec n) {
    const __m256i biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}

inline __m128i load_half(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }
inline Vec vload_f16(const uint8_t* p) { return _mm256_cvtph_ps(load_half(p)); }
inline Vec vload_bf16(const uint8_t* p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_half(p)), 16));
}
inline Vec vload_i8(const uint8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
}
// Whole numbers in -127 .. 127.
inline void vstore_i8(uint8_t* p, Vec x) {
    const __m256i whole = _mm256_cvtps_epi32(x);
    const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i*)p, _mm_packs_epi16(half, half));
}
inline void vstore_f16(uint8_t* p, Vec x) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline void vstore_bf16(uint8_t* p, Vec x) {
    const __m256i bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    const __m256i quiet = _mm256_or_si256(_mm256_and_si256(high, _mm256_set1_epi32(0x8000)), _mm256_set1_epi32(0x7fc0));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    const __m256i half = _mm256_blendv_epi8(rounded, quiet, nan);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(half, half), 0x08);
    _mm_storeu_si128((__m128i*)p, _mm256_castsi256_si128(packed));
}

}  // namespace
