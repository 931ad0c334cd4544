// Plain structs between the driver (ops.cpp) and the kernels, and the table of kernels that one ISA supplies.
//
// The kernels are compiled once per ISA from the same source. Those translation units may include this header and
// nothing of the C++ library: an inline function of the library compiled with AVX-512 could be the copy that the
// linker keeps for everybody, and would then crash on older CPUs.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "attention.h"

namespace ostro {

// How a tensor lies in memory: plain floats, GGUF blocks along a row, or packed in panels (checkpoint/packed.py).
enum class Kind : int {
    F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K,  // by rows
    P4, P4M, P4G, P4K, P4S, P6S, P8, P8M, P8K                                        // by panels
};
inline bool is_packed(Kind kind) { return kind >= Kind::P4; }

struct KindInfo {
    Kind kind;
    const char* name;
    int64_t elements;  // of one block
    int64_t bytes;     // of one block
};

inline constexpr KindInfo KINDS[] = {
    {Kind::F32, "F32", 1, 4},       {Kind::F16, "F16", 1, 2},       {Kind::BF16, "BF16", 1, 2},
    {Kind::Q4_0, "Q4_0", 32, 18},   {Kind::Q4_1, "Q4_1", 32, 20},   {Kind::Q5_0, "Q5_0", 32, 22},
    {Kind::Q5_1, "Q5_1", 32, 24},   {Kind::Q8_0, "Q8_0", 32, 34},   {Kind::Q2_K, "Q2_K", 256, 84},
    {Kind::Q3_K, "Q3_K", 256, 110}, {Kind::Q4_K, "Q4_K", 256, 144}, {Kind::Q5_K, "Q5_K", 256, 176},
    {Kind::Q6_K, "Q6_K", 256, 210},
};

struct PackedInfo {
    Kind kind;
    const char* name;
    int64_t bits;           // of a code; a group of 32 columns by 16 outputs has 64 * bits bytes
    int64_t scale_columns;  // columns that share a piece of scales
    int64_t scale_bytes;    // of a piece, for 16 outputs
};

inline constexpr PackedInfo PACKED[] = {
    {Kind::P4, "P4", 4, 32, 32},      {Kind::P4M, "P4M", 4, 32, 64}, {Kind::P4G, "P4G", 4, 256, 160}, {Kind::P4K, "P4K", 4, 256, 320},
    {Kind::P4S, "P4S", 4, 256, 288},  {Kind::P6S, "P6S", 6, 256, 288}, {Kind::P8, "P8", 8, 32, 32},
    {Kind::P8M, "P8M", 8, 32, 64},    {Kind::P8K, "P8K", 8, 256, 320},
};

constexpr const PackedInfo& packed_info(Kind kind) { return PACKED[(int)kind - (int)Kind::P4]; }

inline const char* kind_name(Kind kind) {
    return is_packed(kind) ? packed_info(kind).name : KINDS[(int)kind].name;
}

inline constexpr int64_t PANEL = 16;  // outputs of a panel
inline constexpr int64_t GROUP = 32;  // columns of a group

// A matrix (rows, cols); `data` may have any alignment. By rows: they follow each other. By panels: `data` are the codes.
struct WeightView {
    const uint8_t* data;
    int64_t rows;
    int64_t cols;
    int64_t row_bytes;  // by rows
    Kind kind;
    const uint8_t* scales = nullptr;  // by panels, from here on
    const int8_t* codebook = nullptr;
    int64_t panel_bytes = 0;
    int64_t panel_scale_bytes = 0;
};

// 32 columns of a row of activations, rounded to bytes: x = scale * q.
struct RowGroup {
    int8_t q[32];
    float scale;
    int32_t low, high;  // -SUM_FACTOR (rounding.inc.h) times the sums of the first and the last 16 of q
    float sum;          // scale * sum of q
};

// Rows t0 .. t1 - 1 of T, rounded into out[g * T + t]; x is row t0, and rows are `ldx` floats apart.
struct RoundTask {
    const float* x;
    int64_t ldx;
    int64_t K;
    int64_t t0, t1, T;
    RowGroup* out;
};

// acc = x[t0 .. t1 - 1] times panels panel .. panel + num_panels - 1 of a packed weight. With T = 1 any number of panels,
// 16 floats each; else one or two, row t at acc + (t - t0) * 32.
struct PackedTask {
    const WeightView* weight;
    const RowGroup* x;  // x[g * T + t]
    int64_t groups;
    int64_t T;
    int64_t t0, t1;
    int64_t panel;
    int64_t num_panels;
    float* acc;
};

// A codebook of 16 ascending whole numbers, as pack.inc.h wants it.
struct Levels {
    float first, last;
    float middles[15];  // between neighbours
    float steps[15];    // from a level to the next
    bool one_apart;     // all steps are 1
    float targets[10];  // where the search puts the largest weight
};

// A group of a panel: weights w[16 * column + output], finite and within float16. One kernel finds the 16 scales that
// lose least, the other rounds to codes (256 bytes; without levels 512) with the scales that it is given.
struct QuantizeTask {
    const float* w;
    const Levels* levels;
    float* scales;
    uint8_t* codes;
};

// y[t * ldy + n] = x[t] . weight[n] for all T rows and n0 <= n < n1. Rows of x are zero-padded to a multiple of
// MAX_LANES.
struct LinearTask {
    const WeightView* weight;
    const float* x;
    int64_t T;
    int64_t ldx;
    float* y;
    int64_t ldy;
    int64_t n0;
    int64_t n1;
};

inline constexpr int64_t MAX_LANES = 16;

// One head of one text of an encoder: q, k, v and out begin at its first row, and rows are `stride` floats apart.
// The score of key j for query i gets bias[bias_center + j - i] added, unless `bias` is null; whole vectors of it are
// read from there on.
struct EncoderTask {
    const float *q, *k, *v;
    float* out;
    int64_t stride;
    int64_t T;
    int64_t head_dim;
    float scale;
    const float* bias;
    int64_t bias_center;
};

struct Kernels {
    const char* name;
    // Floats of scratch that a task needs; scratch is aligned to 64 bytes.
    int64_t (*linear_scratch)(int64_t T, int64_t cols);
    void (*linear)(const LinearTask& task, float* scratch);
    int64_t (*attention_scratch)(int64_t num_rows, int64_t rep, int64_t head_dim);
    void (*attention)(const AttentionTask& task, float* scratch);
    // The parts of all spans first_span .. end_span - 1, merged upwards into `out`.
    void (*attention_merge)(const AttentionTask& task, float* scratch);
    void (*kv_store)(const StoreTask& task);
    // Elements [begin, end) of one row as float32; begin and end lie on block borders.
    void (*decode)(Kind kind, const uint8_t* row, int64_t begin, int64_t end, float* out);
    // float32 to `kind` (F32, F16 or BF16), round to nearest even.
    void (*encode)(Kind kind, const float* x, int64_t n, uint8_t* out);
    void (*rms_norm)(const float* x, const float* weight, int64_t D, float eps, float* y);
    void (*rotary)(float* x, const float* cos, const float* sin, int64_t num_heads, int64_t half);
    void (*swiglu)(const float* gate, const float* up, int64_t n, float* out);
    // out += scale * x
    void (*add_scaled)(float scale, const float* x, int64_t n, float* out);
    void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t D, float eps, float* y);
    void (*gelu)(const float* x, int64_t n, float* out);
    int64_t (*encoder_scratch)(int64_t T, int64_t head_dim);
    void (*encoder_attention)(const EncoderTask& task, float* scratch);
    void (*round_rows)(const RoundTask& task);
    void (*packed)(const PackedTask& task);
    void (*fit_scales)(const QuantizeTask& task);
    void (*encode_group)(const QuantizeTask& task);
    // For ceilings.cpp: reads `bytes`, a multiple of 512, from an address aligned to 64; and `rounds` of nothing but
    // multiply-adds on registers, which return how many multiply-adds those were.
    void (*read_memory)(const uint8_t* data, int64_t bytes);
    int64_t (*repeat_fma)(int64_t rounds);
    int64_t (*repeat_dot)(int64_t rounds);
};

}  // namespace ostro
