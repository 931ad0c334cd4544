// A panel's sixteen outputs in one register: AVX-512, with VNNI where OSTRO_VNNI is defined.
#pragma once

#include <immintrin.h>
#include <stdint.h>

namespace {

typedef __m512i Bytes;   // four columns of sixteen outputs; byte 4 n + b belongs to output n
typedef __m512i Ints;    // an integer for each output
typedef __m512 Sixteen;  // a float for each output
typedef __m512i Table;   // sixteen bytes, once in every quarter

#if defined(OSTRO_VNNI)
constexpr bool UNSIGNED = true;  // bytes are value + 128
inline Ints dot4(Ints sum, Bytes w, int32_t x) { return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(x)); }
#else
#define OSTRO_BUFFERED
#define OSTRO_PAIRS               // see Pairs
constexpr bool UNSIGNED = false;  // bytes are values
constexpr int TILE = 8;           // rows that share a decoded group

// Sums of unsigned bytes below 16 times signed ones, two and two in 16 bits: a group of 32 columns cannot overflow,
// 16 * 15 * 127 < 2^15. Half the work of dot4, and no signs to move.
typedef __m512i Pairs;
inline Pairs dot_pairs(Pairs sum, Bytes w, int32_t x) {
    return _mm512_add_epi16(sum, _mm512_maddubs_epi16(w, _mm512_set1_epi32(x)));
}
inline Ints widen(Pairs v) { return _mm512_madd_epi16(v, _mm512_set1_epi16(1)); }

// |w| sign(w) x: products of an unsigned and a signed byte, in pairs; 2 * 127 * 127 fits into 16 bits.
inline Ints dot4(Ints sum, Bytes w, int32_t x) {
    const __m512i xs = _mm512_set1_epi32(x), zero = _mm512_setzero_si512();
    const __m512i signed_x = _mm512_mask_sub_epi8(xs, _mm512_movepi8_mask(w), zero, xs);
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_x);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif

inline Bytes load_bytes(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline Bytes low_nibbles(Bytes b) { return _mm512_and_si512(b, _mm512_set1_epi8(15)); }
inline Bytes high_nibbles(Bytes b) { return low_nibbles(_mm512_srli_epi16(b, 4)); }
// Bits 2 I and 2 I + 1 of every byte, moved to bits 4 and 5.
template <int I>
inline Bytes high_bits(Bytes b) {
    const __m512i moved = I < 2 ? _mm512_slli_epi16(b, I < 2 ? 4 - 2 * I : 0) : _mm512_srli_epi16(b, I > 2 ? 2 : 0);
    return _mm512_and_si512(moved, _mm512_set1_epi8(0x30));
}
inline Bytes join(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
inline Bytes shifted(Bytes b, int by) { return _mm512_add_epi8(b, _mm512_set1_epi8((char)by)); }
inline Table make_table(const int8_t* values) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)values));
}
inline Bytes lookup(Table table, Bytes codes) { return _mm512_shuffle_epi8(table, codes); }

inline Ints iset(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints iadd(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints ishift(Ints a, int by) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(by)); }
inline Ints imul(Ints a, Ints b) { return _mm512_mullo_epi32(a, b); }
inline Ints load_unsigned(const uint8_t* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }
inline Ints load_signed(const uint8_t* p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)); }

inline Sixteen to_floats(Ints v) { return _mm512_cvtepi32_ps(v); }
inline Sixteen fset(float x) { return _mm512_set1_ps(x); }
inline Sixteen fload(const float* p) { return _mm512_loadu_ps(p); }
inline Sixteen fload_half(const uint8_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
inline void fstore(float* p, Sixteen v) { _mm512_storeu_ps(p, v); }
inline Sixteen fmul(Sixteen a, Sixteen b) { return _mm512_mul_ps(a, b); }
inline Sixteen fneg(Sixteen a) { return _mm512_sub_ps(_mm512_setzero_ps(), a); }
inline Sixteen ffma(Sixteen a, Sixteen b, Sixteen c) { return _mm512_fmadd_ps(a, b, c); }

// Whole numbers in -127 .. 127 as bytes.
inline void store_int8(int8_t* p, Vec v) { _mm_storeu_si128((__m128i*)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v))); }

}  // namespace
