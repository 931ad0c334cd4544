// The K/V pool of the cpu backend in memory, and the tasks of attention over it. Plain structs, as in types.h.
//
// A region holds the keys, or the values, of one head in one block of the pool. Regions of KV_RUN positions of a head
// lie one behind the other: a sequence that grew alone is read in runs of tens of KB, which is what the prefetchers of a
// CPU are made for (twice the bandwidth of runs of 4 KB, on AMD Zen 4).
// A region is cut into panels of KV_PANEL positions (the last may be narrower: w positions). Values lie as (w, d), for in
// the second product of attention a lane is a channel. Keys lie as (d, w), for in the first product a lane is a key.
// I8 has codes in the same order, and behind the codes of a panel their scales, float16: (d / KV_GROUP rounded up, w).
// An element of I8 is scale * code; that product is exact in float32.
#pragma once

#include <stdint.h>

namespace ostro {

inline constexpr int64_t KV_RUN = 128;   // positions
inline constexpr int64_t KV_PANEL = 16;  // positions
inline constexpr int64_t KV_GROUP = 32;  // channels that share a scale

enum class KvKind : int { F32, F16, BF16, I8 };

inline int64_t kv_groups(int64_t head_dim) { return (head_dim + KV_GROUP - 1) / KV_GROUP; }
inline int64_t kv_element_bytes(KvKind kind) { return kind == KvKind::F32 ? 4 : kind == KvKind::I8 ? 1 : 2; }
// Of one position of one head.
inline int64_t kv_row_bytes(KvKind kind, int64_t head_dim) {
    return head_dim * kv_element_bytes(kind) + (kind == KvKind::I8 ? 2 * kv_groups(head_dim) : 0);
}

// Keys and values of one layer.
struct KvLayer {
    uint8_t* keys;
    uint8_t* values;
    KvKind kind;
    int64_t num_blocks, num_kv_heads, block_size, head_dim;
};

struct KvPlace {
    int64_t panel;        // bytes from the beginning of the layer
    int64_t lane, width;  // the position in its panel, and how many there are
};
inline KvPlace kv_place(const KvLayer& kv, int64_t block, int64_t head, int64_t offset) {
    const int64_t run_blocks = kv.block_size < KV_RUN ? KV_RUN / kv.block_size : 1;
    const int64_t run = block / run_blocks * run_blocks, behind = kv.num_blocks - run;
    const int64_t region = run * kv.num_kv_heads + head * (behind < run_blocks ? behind : run_blocks) + block - run;
    const int64_t first = offset / KV_PANEL * KV_PANEL, left = kv.block_size - first;
    return {(region * kv.block_size + first) * kv_row_bytes(kv.kind, kv.head_dim), offset - first,
            left < KV_PANEL ? left : KV_PANEL};
}

// k and v (d,) of one position of one head, into their panels.
struct StoreTask {
    const float *k, *v;
    uint8_t *keys, *values;  // panels
    KvKind kind;
    int64_t head_dim, lane, width;
};

// Attention of `num_rows` rows of one sequence with one K/V head and the `rep` query heads that share it, over the
// positions of spans first_span .. end_span - 1 that the rows see.
struct AttentionTask {
    const float* q;  // first row of the tile; rows are `ldq` floats apart, as in `out`
    float* out;
    int64_t ldq;
    int64_t num_rows;
    const int32_t* positions;  // of the rows of the tile
    int64_t head;              // K/V head
    int64_t rep;               // query heads of a K/V head
    KvLayer kv;
    const int32_t* table;  // physical block of logical block table_start + i
    int64_t table_start;
    int64_t window;  // 0: none
    float scale;     // of the scores, which are exponents of 2
    int64_t first_span, end_span;
    // Null: these are all spans that the rows see, and `out` is written. Else the part of each span is left at
    // parts + (span - first_part) * attention_part(...), for attention_merge.
    float* parts;
    int64_t first_part;
};

// Positions whose sums are complete before they are added to those of the positions before.
inline constexpr int64_t SPAN = 512;

// Floats of the sums of a span.
inline int64_t attention_part(int64_t num_rows, int64_t rep, int64_t head_dim) {
    return num_rows * rep * ((head_dim + 15) / 16 * 16 + 2);
}

}  // namespace ostro
