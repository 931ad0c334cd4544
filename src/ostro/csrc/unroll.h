// Loops that are unrolled before the optimiser looks at arrays: GCC keeps an array of accumulators in registers only if
// every index is a constant by then, and its own unrolling comes too late for that.
#pragma once

#define ALWAYS_INLINE inline __attribute__((always_inline))

namespace {

template <int I>
struct Index {
    constexpr operator int() const { return I; }
};

template <int N, int I = 0, typename Body>
ALWAYS_INLINE void unroll(Body&& body) {
    if constexpr (I < N) {
        body(Index<I>{});
        unroll<N, I + 1>(body);
    }
}

}  // namespace
