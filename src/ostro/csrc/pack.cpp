// GGUF blocks into panels. A word holds four columns of one output, a code a byte, so that the layouts, which keep four
// columns of an output together, are made by shifts of whole words. Measured on two threads of a busy Zen 4 machine:
// 1.8 GB/s of blocks (Q3_K, Q5_K) to 6.6 (Q4_0), 5 to 40 times NumPy.

#include "pack.h"

#include <string.h>

#include <algorithm>
#include <atomic>

#include "gguf_scales.h"
#include "thread_pool.h"

namespace ostro {
namespace {

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

inline uint32_t word(const uint8_t* p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
constexpr uint32_t each(uint32_t byte) { return byte * 0x01010101u; }
// The bits 0 .. 3 as bytes of 0 or 1.
inline uint32_t bits_to_bytes(uint32_t bits) { return (bits & 15) * 0x00204081u & each(1); }

// Number `i` of the layout's small scales of Q4_K and Q5_K: for each group its scale, then its minimum.
inline uint8_t scale_or_minimum(const uint8_t* s, int i) {
    int scale, minimum;
    scale_and_minimum(s, i / 2, &scale, &minimum);
    return static_cast<uint8_t>(i % 2 ? minimum : scale);
}

// Codes of 32 columns, four to a word.
struct Group {
    uint32_t u[8];
};

// 16 bytes whose low halves are the first 16 columns.
inline Group nibbles(const uint8_t* q) {
    Group g;
    for (int i = 0; i < 4; ++i) {
        g.u[i] = word(q + 4 * i) & each(15);
        g.u[4 + i] = word(q + 4 * i) >> 4 & each(15);
    }
    return g;
}
inline Group nibbles_and_fifth(const uint8_t* q, const uint8_t* high, uint32_t offset) {
    Group g = nibbles(q);
    for (int i = 0; i < 8; ++i) g.u[i] = (g.u[i] | bits_to_bytes(word(high) >> (4 * i)) << 4) + each(offset);
    return g;
}

// How each kind of block is taken apart: where its float16 scale and minimum lie, the codes of its group `g`, and
// number `i` of the 16 small scales as the layout orders them.
template <Kind K>
struct Block;

template <>
struct Block<Kind::Q4_0> {
    static constexpr Kind PACKED_AS = Kind::P4;
    static constexpr int HEADS[] = {0};
    static Group group(const uint8_t* b, int) { return nibbles(b + 2); }
};
template <>
struct Block<Kind::Q4_1> {
    static constexpr Kind PACKED_AS = Kind::P4M;
    static constexpr int HEADS[] = {0, 2};
    static Group group(const uint8_t* b, int) { return nibbles(b + 4); }
};
template <>
struct Block<Kind::Q5_0> {
    static constexpr Kind PACKED_AS = Kind::P8;
    static constexpr int HEADS[] = {0};
    static Group group(const uint8_t* b, int) { return nibbles_and_fifth(b + 6, b + 2, 128 - 16); }
};
template <>
struct Block<Kind::Q5_1> {
    static constexpr Kind PACKED_AS = Kind::P8M;
    static constexpr int HEADS[] = {0, 2};
    static Group group(const uint8_t* b, int) { return nibbles_and_fifth(b + 8, b + 4, 128); }
};
template <>
struct Block<Kind::Q8_0> {
    static constexpr Kind PACKED_AS = Kind::P8;
    static constexpr int HEADS[] = {0};
    static Group group(const uint8_t* b, int) {
        Group g;
        for (int i = 0; i < 8; ++i) g.u[i] = word(b + 2 + 4 * i) ^ each(128);
        return g;
    }
};
template <>
struct Block<Kind::Q3_K> {
    static constexpr Kind PACKED_AS = Kind::P4S;
    static constexpr int HEADS[] = {108};
    static Group group(const uint8_t* b, int g) {
        Group out;
        for (int i = 0; i < 8; ++i) {
            const uint32_t low = word(b + 32 + 32 * (g / 4) + 4 * i) >> (2 * (g % 4)) & each(3);
            out.u[i] = low | (word(b + 4 * i) >> g & each(1)) << 2;
        }
        return out;
    }
    static uint8_t fine(const uint8_t* b, int i) { return static_cast<uint8_t>(q3_scale(b + 96, i)); }
};
template <>
struct Block<Kind::Q4_K> {
    static constexpr Kind PACKED_AS = Kind::P4K;
    static constexpr int HEADS[] = {0, 2};
    static Group group(const uint8_t* b, int g) {
        Group out;
        for (int i = 0; i < 8; ++i) out.u[i] = word(b + 16 + 32 * (g / 2) + 4 * i) >> (4 * (g % 2)) & each(15);
        return out;
    }
    static uint8_t fine(const uint8_t* b, int i) { return scale_or_minimum(b + 4, i); }
};
template <>
struct Block<Kind::Q5_K> {
    static constexpr Kind PACKED_AS = Kind::P8K;
    static constexpr int HEADS[] = {0, 2};
    static Group group(const uint8_t* b, int g) {
        Group out;
        for (int i = 0; i < 8; ++i) {
            const uint32_t low = word(b + 48 + 32 * (g / 2) + 4 * i) >> (4 * (g % 2)) & each(15);
            out.u[i] = (low | (word(b + 16 + 4 * i) >> g & each(1)) << 4) + each(128);
        }
        return out;
    }
    static uint8_t fine(const uint8_t* b, int i) { return scale_or_minimum(b + 4, i); }
};
template <>
struct Block<Kind::Q6_K> {
    static constexpr Kind PACKED_AS = Kind::P6S;
    static constexpr int HEADS[] = {208};
    static Group group(const uint8_t* b, int g) {
        const uint8_t *low = b + 64 * (g / 4) + 32 * (g % 2), *high = b + 128 + 32 * (g / 4);
        Group out;
        for (int i = 0; i < 8; ++i) {
            const uint32_t four = word(low + 4 * i) >> (4 * (g % 4 / 2)) & each(15);
            out.u[i] = four | (word(high + 4 * i) >> (2 * (g % 4)) & each(3)) << 4;
        }
        return out;
    }
    static uint8_t fine(const uint8_t* b, int i) { return b[192 + i]; }
};

inline void put(uint8_t* unit, uint32_t codes) { memcpy(unit, &codes, sizeof codes); }

// The words of one output of a group; `p` is the group's first byte of that output.
template <int64_t BITS>
void store_group(const Group& g, uint8_t* p) {
    if constexpr (BITS == 8) {
        for (int v = 0; v < 8; ++v) put(p + 64 * v, g.u[v]);
        return;
    }
    for (int v = 0; v < 4; ++v) put(p + 64 * v, (g.u[2 * v] & each(15)) | (g.u[2 * v + 1] & each(15)) << 4);
    if constexpr (BITS == 6) {
        for (int h = 0; h < 2; ++h) {
            uint32_t high = 0;
            for (int i = 0; i < 4; ++i) high |= (g.u[4 * h + i] >> 4 & each(3)) << (2 * i);
            put(p + 256 + 64 * h, high);
        }
    }
}

// The code of the value nearest to zero, which outputs behind the last have: of the codebooks of these kinds too
// (those of Q4_0 and IQ4_NL, 0 .. 15, and -4 .. 3).
constexpr uint32_t zero_code(Kind kind) {
    switch (kind) {
        case Kind::P4: return 8;
        case Kind::P4S: return 4;
        case Kind::P4M:
        case Kind::P4K: return 0;
        case Kind::P6S: return 32;
        default: return 128;
    }
}

// One block of output n. False where Q8_0 holds -128, which is the code 0.
template <Kind K>
bool repack_block(const uint8_t* b, int64_t n, uint8_t* codes, uint8_t* scales) {
    using B = Block<K>;
    constexpr const PackedInfo& info = packed_info(B::PACKED_AS);
    constexpr int GROUPS = static_cast<int>(info.scale_columns / GROUP), NUM_HEADS = std::size(B::HEADS);
    uint32_t zeros = 0;
    for (int g = 0; g < GROUPS; ++g) {
        const Group group = B::group(b, g);
        if constexpr (K == Kind::Q8_0) {
            for (const uint32_t u : group.u) zeros |= (u - each(1)) & ~u & each(128);
        }
        store_group<info.bits>(group, codes + 64 * info.bits * g + 4 * n);
    }
    for (int h = 0; h < NUM_HEADS; ++h) memcpy(scales + 32 * h + 2 * n, b + B::HEADS[h], 2);
    if constexpr (GROUPS > 1) {
        for (int i = 0; i < 16; ++i) scales[32 * NUM_HEADS + 16 * i + n] = B::fine(b, i);
    }
    return zeros == 0;
}

template <Kind K>
bool repack_panel(const WeightView& w, int64_t panel, uint8_t* codes, uint8_t* scales) {
    constexpr const PackedInfo& info = packed_info(Block<K>::PACKED_AS);
    constexpr int64_t GROUPS = info.scale_columns / GROUP, CODE_BYTES = 64 * info.bits * GROUPS;
    const int64_t blocks = w.cols / info.scale_columns, num_rows = std::min(PANEL, w.rows - PANEL * panel);
    const int64_t block_bytes = w.row_bytes / blocks;
    const uint8_t* rows = w.data + PANEL * panel * w.row_bytes;
    uint8_t *code = codes + panel * blocks * CODE_BYTES, *scale = scales + panel * blocks * info.scale_bytes;
    constexpr uint32_t ZERO = each(zero_code(info.kind));
    constexpr Group NOTHING = {{ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO, ZERO}};
    bool exact = true;
    for (int64_t i = 0; i < blocks; ++i, code += CODE_BYTES, scale += info.scale_bytes) {
        if (num_rows < PANEL) memset(scale, 0, info.scale_bytes);
        for (int64_t n = 0; n < num_rows; ++n) {
            exact &= repack_block<K>(rows + n * w.row_bytes + i * block_bytes, n, code, scale);
        }
        for (int64_t n = num_rows; n < PANEL; ++n) {
            for (int64_t g = 0; g < GROUPS; ++g) store_group<info.bits>(NOTHING, code + 64 * info.bits * g + 4 * n);
        }
    }
    return exact;
}

struct Repacker {
    Kind packed_as;
    bool (*panel)(const WeightView&, int64_t, uint8_t*, uint8_t*);
};
template <Kind K>
Repacker repacker() {
    return {Block<K>::PACKED_AS, repack_panel<K>};
}

Repacker repacker_of(Kind kind) {
    switch (kind) {
        case Kind::Q4_0: return repacker<Kind::Q4_0>();
        case Kind::Q4_1: return repacker<Kind::Q4_1>();
        case Kind::Q5_0: return repacker<Kind::Q5_0>();
        case Kind::Q5_1: return repacker<Kind::Q5_1>();
        case Kind::Q8_0: return repacker<Kind::Q8_0>();
        case Kind::Q3_K: return repacker<Kind::Q3_K>();
        case Kind::Q4_K: return repacker<Kind::Q4_K>();
        case Kind::Q5_K: return repacker<Kind::Q5_K>();
        case Kind::Q6_K: return repacker<Kind::Q6_K>();
        default: throw Error(std::string("No packed layout holds the values of ") + kind_name(kind) + " exactly.");
    }
}

}  // namespace

Kind repacked_kind(Kind kind) { return repacker_of(kind).packed_as; }

bool repack(int num_threads, const WeightView& blocks, uint8_t* codes, uint8_t* scales) {
    const Repacker repacker = repacker_of(blocks.kind);
    std::atomic<bool> exact{true};
    parallel_for(num_threads, divide_up(blocks.rows, PANEL), [&](int64_t panel) {
        if (exact.load(std::memory_order_relaxed) && !repacker.panel(blocks, panel, codes, scales)) exact.store(false);
    });
    return exact.load();
}

}  // namespace ostro
