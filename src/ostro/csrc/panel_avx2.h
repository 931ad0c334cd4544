// A panel's sixteen outputs in two registers: AVX2, with AVX-VNNI where OSTRO_VNNI is defined.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace {

struct Bytes {
    __m256i a, b;  // four columns of outputs 0 .. 7, and of 8 .. 15; byte 4 n + b belongs to output n
};
typedef Bytes Ints;  // an integer for each output
struct Sixteen {
    __m256 a, b;  // a float for each output
};
typedef __m256i Table;  // sixteen bytes, in both halves

#define OSTRO_BUFFERED   // 16 registers do not hold a decoded group
constexpr int TILE = 4;  // rows that share one: 8 registers hold their sums

#if defined(OSTRO_VNNI)
constexpr bool UNSIGNED = true;  // bytes are value + 128
inline __m256i dot4(__m256i sum, __m256i w, __m256i x) { return _mm256_dpbusd_avx_epi32(sum, w, x); }
#else
#define OSTRO_PAIRS               // see Pairs
constexpr bool UNSIGNED = false;  // bytes are values

// Sums of unsigned bytes below 16 times signed ones, two and two in 16 bits: a group of 32 columns cannot overflow,
// 16 * 15 * 127 < 2^15. Half the work of dot4, and no signs to move.
typedef Bytes Pairs;
inline Pairs dot_pairs(Pairs sum, Bytes w, int32_t x) {
    const __m256i xs = _mm256_set1_epi32(x);
    return {_mm256_add_epi16(sum.a, _mm256_maddubs_epi16(w.a, xs)),
            _mm256_add_epi16(sum.b, _mm256_maddubs_epi16(w.b, xs))};
}
inline Ints widen(Pairs v) {
    const __m256i one = _mm256_set1_epi16(1);
    return {_mm256_madd_epi16(v.a, one), _mm256_madd_epi16(v.b, one)};
}

// |w| sign(w) x: products of an unsigned and a signed byte, in pairs; 2 * 127 * 127 fits into 16 bits.
inline __m256i dot4(__m256i sum, __m256i w, __m256i x) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif

inline Ints dot4(Ints sum, Bytes w, int32_t x) {
    const __m256i xs = _mm256_set1_epi32(x);
    return {dot4(sum.a, w.a, xs), dot4(sum.b, w.b, xs)};
}

inline __m256i load256(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
inline Bytes load_bytes(const uint8_t* p) { return {load256(p), load256(p + 32)}; }
inline Bytes low_nibbles(Bytes v) {
    const __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(v.a, mask), _mm256_and_si256(v.b, mask)};
}
inline Bytes high_nibbles(Bytes v) { return low_nibbles({_mm256_srli_epi16(v.a, 4), _mm256_srli_epi16(v.b, 4)}); }
// Bits 2 I and 2 I + 1 of every byte, moved to bits 4 and 5.
template <int I>
inline __m256i high_bits(__m256i b) {
    const __m256i moved = I < 2 ? _mm256_slli_epi16(b, I < 2 ? 4 - 2 * I : 0) : _mm256_srli_epi16(b, I > 2 ? 2 : 0);
    return _mm256_and_si256(moved, _mm256_set1_epi8(0x30));
}
template <int I>
inline Bytes high_bits(Bytes v) {
    return {high_bits<I>(v.a), high_bits<I>(v.b)};
}
inline Bytes join(Bytes a, Bytes b) { return {_mm256_or_si256(a.a, b.a), _mm256_or_si256(a.b, b.b)}; }
inline Bytes shifted(Bytes v, int by) {
    const __m256i n = _mm256_set1_epi8((char)by);
    return {_mm256_add_epi8(v.a, n), _mm256_add_epi8(v.b, n)};
}
inline Table make_table(const int8_t* values) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)values));
}
inline Bytes lookup(Table table, Bytes codes) {
    return {_mm256_shuffle_epi8(table, codes.a), _mm256_shuffle_epi8(table, codes.b)};
}

inline Ints iset(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Ints iadd(Ints a, Ints b) { return {_mm256_add_epi32(a.a, b.a), _mm256_add_epi32(a.b, b.b)}; }
inline Ints ishift(Ints a, int by) {
    const __m128i count = _mm_cvtsi32_si128(by);
    return {_mm256_sll_epi32(a.a, count), _mm256_sll_epi32(a.b, count)};
}
inline Ints imul(Ints a, Ints b) { return {_mm256_mullo_epi32(a.a, b.a), _mm256_mullo_epi32(a.b, b.b)}; }
inline __m128i load64(const void* p) { return _mm_loadl_epi64((const __m128i*)p); }
inline Ints load_unsigned(const uint8_t* p) {
    return {_mm256_cvtepu8_epi32(load64(p)), _mm256_cvtepu8_epi32(load64(p + 8))};
}
inline Ints load_signed(const uint8_t* p) {
    return {_mm256_cvtepi8_epi32(load64(p)), _mm256_cvtepi8_epi32(load64(p + 8))};
}

inline Sixteen to_floats(Ints v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
inline Sixteen fset(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Sixteen fload(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline Sixteen fload_half(const uint8_t* p) { return {vload_f16(p), vload_f16(p + 16)}; }
inline void fstore(float* p, Sixteen v) { _mm256_storeu_ps(p, v.a), _mm256_storeu_ps(p + 8, v.b); }
inline Sixteen fmul(Sixteen a, Sixteen b) { return {_mm256_mul_ps(a.a, b.a), _mm256_mul_ps(a.b, b.b)}; }
inline Sixteen fneg(Sixteen a) { return {vsub(vzero(), a.a), vsub(vzero(), a.b)}; }
inline Sixteen ffma(Sixteen a, Sixteen b, Sixteen c) {
    return {_mm256_fmadd_ps(a.a, b.a, c.a), _mm256_fmadd_ps(a.b, b.b, c.b)};
}

// Whole numbers in -127 .. 127 as bytes.
inline void store_int8(int8_t* p, Vec v) {
    const __m256i whole = _mm256_cvtps_epi32(v);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64((__m128i*)p, _mm_packs_epi16(words, words));
}

}  // namespace
