// The six-bit scales of the K kinds of GGUF, for sub-blocks of 16 (Q3_K) and 32 elements (Q4_K, Q5_K).
#pragma once

#include <stdint.h>

namespace {

// Of sub-block `sub` < 16 of Q3_K, lowered by 32: four low bits, then two high ones, in 12 bytes.
inline int q3_scale(const uint8_t* s, int sub) {
    const int low = sub < 8 ? s[sub] & 15 : s[sub - 8] >> 4;
    return (low | (s[8 + sub % 4] >> (2 * (sub / 4)) & 3) << 4) - 32;
}

// Of sub-block `sub` < 8 of Q4_K and Q5_K, scale and minimum in 12 bytes.
inline void scale_and_minimum(const uint8_t* s, int sub, int* scale, int* minimum) {
    if (sub < 4) {
        *scale = s[sub] & 63, *minimum = s[sub + 4] & 63;
    } else {
        *scale = (s[sub + 4] & 15) | (s[sub - 4] >> 6) << 4;
        *minimum = (s[sub + 4] >> 4) | (s[sub] >> 6) << 4;
    }
}

}  // namespace
