// What a core can do at most: loops that only read, or only repeat one instruction on registers (ceilings.cpp).
//
// A loop reaches the ceiling of an instruction if it keeps latency times instructions per cycle of them in flight: 12
// chains are enough for the multiply-adds of every core we know (5 cycles, 2 a cycle). The empty asm statements make
// the compiler believe that an operand has changed: it can neither compute a product once for all chains nor leave out
// a loop whose result nobody needs. Measured on a core of a Zen 4 at 3.7 GHz: 471 int8 GOPS with VNNI, which is 128
// operations a cycle, and 118 float32 GFLOPS, 32 a cycle.

namespace {

using namespace ostro;

typedef uint64_t Words __attribute__((vector_size(sizeof(Vec))));

// Makes the compiler forget what it knows of a vector in a register.
template <typename V>
ALWAYS_INLINE void forget(V& v) {
#if defined(__AVX512F__)
    asm volatile("" : "+v"(v));
#elif defined(__x86_64__)
    asm volatile("" : "+x"(v));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(v));
#else
    asm volatile("" : "+m"(v));
#endif
}

// Reads `bytes` (a multiple of 8 vectors) from an aligned address, in order.
void read_memory(const uint8_t* data, int64_t bytes) {
    constexpr int STREAMS = 8;
    const Words* p = (const Words*)data;
    Words sums[STREAMS] = {};
    for (int64_t i = 0; i < bytes / (int64_t)sizeof(Words); i += STREAMS)
        unroll<STREAMS>([&](auto s) { sums[s] ^= p[i + s]; });
    unroll<STREAMS>([&](auto s) { forget(sums[s]); });
}

constexpr int CHAINS = 12;

// `rounds` times 12 vectors of multiply-adds; returns how many multiply-adds that was.
int64_t repeat_fma(int64_t rounds) {
    Vec sums[CHAINS], x = vset(0.5f), y = vset(0.5f);
    unroll<CHAINS>([&](auto c) { sums[c] = vset(0.25f * c); });
    for (int64_t i = 0; i < rounds; ++i)
        unroll<CHAINS>([&](auto c) {
            forget(x);
            sums[c] = vfma(sums[c], x, y);
        });
    unroll<CHAINS>([&](auto c) { forget(sums[c]); });
    return rounds * CHAINS * L;
}

#if defined(__AVX512F__) || defined(__AVX2__)

#if defined(__AVX512F__)
typedef __m512i Dots;
ALWAYS_INLINE Dots dots_of(char value) { return _mm512_set1_epi8(value); }
#else
typedef __m256i Dots;
ALWAYS_INLINE Dots dots_of(char value) { return _mm256_set1_epi8(value); }
#endif

// sum + products of unsigned a and signed b by the best that the set has: four and four in 32 bits with VNNI, else two
// and two in 16 bits, to which a kernel must add what widens them now and then.
ALWAYS_INLINE Dots dot_bytes(Dots sum, Dots a, Dots b) {
#if defined(OSTRO_VNNI) && defined(__AVX512F__)
    return _mm512_dpbusd_epi32(sum, a, b);
#elif defined(OSTRO_VNNI)
    return _mm256_dpbusd_avx_epi32(sum, a, b);
#elif defined(__AVX512F__)
    return _mm512_add_epi16(sum, _mm512_maddubs_epi16(a, b));
#else
    return _mm256_add_epi16(sum, _mm256_maddubs_epi16(a, b));
#endif
}

// `rounds` times a vector of int8 dot products for each chain; returns how many multiply-adds that was.
int64_t repeat_dot(int64_t rounds) {
    Dots sums[CHAINS], a = dots_of(3), b = dots_of(2);
    unroll<CHAINS>([&](auto c) { sums[c] = dots_of(0); });
    for (int64_t i = 0; i < rounds; ++i)
        unroll<CHAINS>([&](auto c) {
            forget(a);
            sums[c] = dot_bytes(sums[c], a, b);
        });
    unroll<CHAINS>([&](auto c) { forget(sums[c]); });
    return rounds * CHAINS * (int64_t)sizeof(Dots);
}

#else

// The same in plain C++: what the compiler makes of a dot product of bytes that were widened before.
int64_t repeat_dot(int64_t rounds) {
    constexpr int LENGTH = 1024;
    int16_t a[LENGTH], b[LENGTH];
    for (int k = 0; k < LENGTH; ++k) a[k] = (int16_t)(k % 127), b[k] = (int16_t)(k % 101);
    const int64_t repetitions = (rounds + 15) / 16;
    for (int64_t i = 0; i < repetitions; ++i) {
        asm volatile("" : : "r"(a), "r"(b) : "memory");
        int32_t sum = 0;
        for (int k = 0; k < LENGTH; ++k) sum += (int32_t)a[k] * (int32_t)b[k];
        asm volatile("" : : "r"(sum));
    }
    return repetitions * LENGTH;
}

#endif

}  // namespace
