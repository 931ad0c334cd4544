// Linear layers over packed weights: rounding of rows, and the split of panels over threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "isa.h"
#include "types.h"

namespace ostro {

// Checks that codes and scales are exactly those of rows x cols of the kind, and that a 4-bit kind has its 16 values.
WeightView make_packed(const std::string& kind, int64_t rows, int64_t cols, const uint8_t* codes, int64_t code_bytes,
                       const uint8_t* scales, int64_t scale_bytes, const int8_t* codebook, int64_t codebook_size);

// Row `row` of a packed weight as float32.
void unpack_row(const WeightView& weight, int64_t row, float* out);

// T rows of K activations as bytes; row t of group g is data()[g * T + t].
class RoundedRows {
  public:
    RoundedRows(int64_t T, int64_t K);
    RoundedRows(const Kernels& kernels, int num_threads, const float* x, int64_t T, int64_t K);
    RowGroup* data() const { return data_.get(); }
    int64_t rows() const { return T_; }
    int64_t groups() const { return groups_; }

  private:
    struct Free {
        void operator()(RowGroup* p) const;
    };
    int64_t T_, groups_;
    std::unique_ptr<RowGroup[], Free> data_;
};

// y (T, rows of the weight) = x times the weight, plus `residual` (like y, may be y) if there is one.
struct Projection {
    const WeightView* weight;
    float* y;
    const float* residual;
};

void packed_linears(const Kernels& kernels, int num_threads, const RoundedRows& x, const std::vector<Projection>& jobs);

// y (T, rows of the weight) = x (T, K) times the weight, x in two bytes: what the first leaves is rounded once more.
void packed_logits(const Kernels& kernels, int num_threads, const float* x, int64_t T, const WeightView& weight,
                   float* y);

// silu(x gate) * (x up), rounded for the layer that takes it: no float32 of it is ever written to memory.
RoundedRows packed_gated(const Kernels& kernels, int num_threads, const RoundedRows& x, const WeightView& gate,
                         const WeightView& up);

}  // namespace ostro
