// A panel's sixteen outputs as arrays: loops that a compiler turns into whatever vectors the machine has.
#pragma once

#include <stdint.h>
#include <string.h>

namespace {

struct Bytes {
    uint8_t v[64];  // four columns of sixteen outputs; byte 4 n + b belongs to output n
};
struct Ints {
    int32_t v[16];  // an integer for each output
};
struct Sixteen {
    float v[16];  // a float for each output
};
struct Table {
    uint8_t v[16];
};

#define OSTRO_BUFFERED   // unrolled for eight rows the loops took a compiler three minutes, and ran slower
constexpr int TILE = 4;  // rows that share a decoded group

constexpr bool UNSIGNED = false;  // bytes are values

template <typename T, typename Make>
inline T each(Make&& make) {
    T out;
    for (int i = 0; i < (int)(sizeof out.v / sizeof out.v[0]); ++i) out.v[i] = make(i);
    return out;
}

inline Ints dot4(Ints sum, const Bytes& w, int32_t x) {
    int8_t xs[4];
    memcpy(xs, &x, sizeof xs);
    return each<Ints>([&](int n) {
        int32_t s = sum.v[n];
        for (int b = 0; b < 4; ++b) s += (int8_t)w.v[4 * n + b] * xs[b];
        return s;
    });
}

inline Bytes load_bytes(const uint8_t* p) {
    Bytes out;
    memcpy(out.v, p, sizeof out.v);
    return out;
}
inline Bytes low_nibbles(const Bytes& b) {
    return each<Bytes>([&](int i) { return (uint8_t)(b.v[i] & 15); });
}
inline Bytes high_nibbles(const Bytes& b) {
    return each<Bytes>([&](int i) { return (uint8_t)(b.v[i] >> 4); });
}
// Bits 2 I and 2 I + 1 of every byte, moved to bits 4 and 5.
template <int I>
inline Bytes high_bits(const Bytes& b) {
    return each<Bytes>([&](int i) { return (uint8_t)((b.v[i] >> (2 * I) & 3) << 4); });
}
inline Bytes join(const Bytes& a, const Bytes& b) {
    return each<Bytes>([&](int i) { return (uint8_t)(a.v[i] | b.v[i]); });
}
inline Bytes shifted(const Bytes& b, int by) {
    return each<Bytes>([&](int i) { return (uint8_t)(b.v[i] + by); });
}
inline Table make_table(const int8_t* values) {
    return each<Table>([&](int i) { return (uint8_t)values[i]; });
}
inline Bytes lookup(const Table& table, const Bytes& codes) {
    return each<Bytes>([&](int i) { return table.v[codes.v[i] & 15]; });
}

inline Ints iset(int32_t x) {
    return each<Ints>([&](int) { return x; });
}
inline Ints iadd(const Ints& a, const Ints& b) {
    return each<Ints>([&](int n) { return a.v[n] + b.v[n]; });
}
inline Ints imul(const Ints& a, const Ints& b) {
    return each<Ints>([&](int n) { return a.v[n] * b.v[n]; });
}
inline Ints load_unsigned(const uint8_t* p) {
    return each<Ints>([&](int n) { return (int32_t)p[n]; });
}
inline Ints load_signed(const uint8_t* p) {
    return each<Ints>([&](int n) { return (int32_t)(int8_t)p[n]; });
}

inline Sixteen to_floats(const Ints& v) {
    return each<Sixteen>([&](int n) { return (float)v.v[n]; });
}
inline Sixteen fset(float x) {
    return each<Sixteen>([&](int) { return x; });
}
inline Sixteen fload(const float* p) {
    return each<Sixteen>([&](int n) { return p[n]; });
}
inline Sixteen fload_half(const uint8_t* p) {
    Sixteen out;
    for (int n = 0; n < 16; n += L) vstore(out.v + n, vload_f16(p + 2 * n));
    return out;
}
inline void fstore(float* p, const Sixteen& v) { memcpy(p, v.v, sizeof v.v); }
inline Sixteen fmul(const Sixteen& a, const Sixteen& b) {
    return each<Sixteen>([&](int n) { return a.v[n] * b.v[n]; });
}
inline Sixteen fneg(const Sixteen& a) {
    return each<Sixteen>([&](int n) { return 0.0f - a.v[n]; });
}
inline Sixteen ffma(const Sixteen& a, const Sixteen& b, const Sixteen& c) {
    Sixteen out;
    for (int n = 0; n < 16; n += L) vstore(out.v + n, vfma(vload(a.v + n), vload(b.v + n), vload(c.v + n)));
    return out;
}

// Whole numbers in -127 .. 127 as bytes.
inline void store_int8(int8_t* p, Vec v) {
    for (int i = 0; i < L; ++i) p[i] = (int8_t)v[i];
}

}  // namespace
