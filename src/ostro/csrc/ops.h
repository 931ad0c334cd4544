// The operations of ostro.ops.base over plain pointers: they check indices, split the work and call the kernels.
//
// Shape letters are those of ops/base.py. Arrays are dense and row-major. Every function throws Error for a wrong
// argument before it writes anything.
#pragma once

#include <string>
#include <vector>

#include "isa.h"
#include "packed.h"
#include "types.h"

namespace ostro {

// The entry of KINDS called `name`; throws Error.
const KindInfo& kind_info(const std::string& name);

// Checks that `bytes` are exactly rows x cols of the kind.
WeightView make_weight(const std::string& kind, int64_t rows, int64_t cols, const uint8_t* data, int64_t bytes);

struct Pool5 {
    uint8_t* keys;  // (num_layers, num_blocks, num_kv_heads) regions, laid out as attention.h says
    uint8_t* values;
    KvKind kind;
    int64_t num_layers, num_blocks, num_kv_heads, block_size, head_dim;
};

// The kind of a pool's elements called `name`; throws Error.
KvKind kv_kind(const std::string& name);

struct BatchView {                // as ops/batch.py
    const int32_t* positions;     // (T,)
    const int32_t* row_starts;    // (S + 1,)
    const int64_t* slots;         // (T,)
    const int32_t* block_tables;  // (S, B)
    const int32_t* table_starts;  // (S,)
    int64_t T, S, B;
};

struct ExpertView {
    const WeightView *gate, *up, *down;
};

// Rows of several texts: those of text s are row_starts[s] .. row_starts[s + 1] - 1, and see each other alone.
struct EncoderView {
    const float *q, *k, *v;     // (T, num_heads * head_dim)
    const int32_t* row_starts;  // (S + 1,)
    int64_t T, S, num_heads, head_dim;
    float scale;
};

struct QkvView {
    const WeightView *q, *k, *v;
};

class Runtime {
  public:
    Runtime(const std::string& isa, int num_threads);

    const char* isa() const { return kernels_.name; }
    int num_threads() const { return num_threads_; }

    void embedding(const WeightView& table, const int32_t* ids, int64_t T, float* out) const;
    void rms_norm(const float* x, int64_t T, const WeightView& weight, float eps, float* out) const;
    void linear(const float* x, int64_t T, const WeightView& weight, float* out) const;
    void logits(const float* x, int64_t T, const WeightView& weight, float* out) const;
    void rope_table(const int32_t* positions, int64_t T, const float* inv_freq, int64_t half, float* cos_sin) const;
    void rotary(float* x, int64_t T, int64_t num_heads, const float* cos_sin, int64_t half) const;
    void swiglu(const float* gate, const float* up, int64_t count, float* out) const;
    void layer_norm(const float* x, int64_t T, int64_t D, const float* weight, const float* bias, float eps,
                    float* out) const;
    void gelu(const float* x, int64_t count, float* out) const;
    // Attention without a mask. `bias` is null or (num_heads, bias_stride): what a head adds to scores, by the distance
    // from query to key plus bias_stride / 2; texts may have half as many rows, less MAX_LANES for reading beyond.
    void encoder_attention(const EncoderView& view, const float* bias, int64_t bias_stride, float* out) const;
    void attention(const float* q, const float* k, const float* v, int64_t num_heads, const Pool5& pool, int64_t layer,
                   const BatchView& batch, int64_t window, float* out) const;
    // Every job's y = x W^T (plus its residual); x is prepared once for all of them.
    void project(const float* x, int64_t T, const std::vector<Projection>& jobs) const;
    // q, k, v of the normed x, the first two rotated in pairs.
    void qkv(const float* x, int64_t T, const WeightView& norm, float eps, const QkvView& weights, const float* cos_sin,
             int64_t half, float* q, float* k, float* v) const;
    // out = x + down(silu(gate) * up) of the normed x.
    void feed_forward(const float* x, int64_t T, const WeightView& norm, float eps, const ExpertView& mlp,
                      float* out) const;
    void moe(const float* x, int64_t T, const WeightView& router, const std::vector<ExpertView>& experts,
             int64_t num_experts_per_tok, float* out) const;

  private:
    void store(const float* k, const float* v, const KvLayer& kv, const BatchView& batch) const;
    void float_linear(const float* x, int64_t T, const WeightView& weight, float* out) const;
    void expert(const float* x, int64_t T, const ExpertView& expert, const float* residual, float* out) const;

    const Kernels& kernels_;
    int num_threads_;
};

}  // namespace ostro
