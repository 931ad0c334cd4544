// Operations that belong together in a layer: x is normed and rounded once, and what only the next step needs stays in
// its cache. Each gives the bits of the plain operations one after another.

#include "ops.h"

namespace ostro {

void Runtime::qkv(const float* x, int64_t T, const WeightView& norm, float eps, const QkvView& weights,
                  const float* cos_sin, int64_t half, float* q, float* k, float* v) const {
    std::vector<float> normed(static_cast<size_t>(T * norm.cols));
    rms_norm(x, T, norm, eps, normed.data());
    project(normed.data(), T, {{weights.q, q, nullptr}, {weights.k, k, nullptr}, {weights.v, v, nullptr}});
    rotary(q, T, weights.q->rows / (2 * half), cos_sin, half);
    rotary(k, T, weights.k->rows / (2 * half), cos_sin, half);
}

void Runtime::feed_forward(const float* x, int64_t T, const WeightView& norm, float eps, const ExpertView& mlp,
                           float* out) const {
    std::vector<float> normed(static_cast<size_t>(T * norm.cols));
    rms_norm(x, T, norm, eps, normed.data());
    expert(normed.data(), T, mlp, x, out);
}

void Runtime::expert(const float* x, int64_t T, const ExpertView& e, const float* residual, float* out) const {
    if (T == 0) return;
    if (is_packed(e.gate->kind) && is_packed(e.up->kind) && is_packed(e.down->kind)) {
        const RoundedRows rows(kernels_, num_threads_, x, T, e.gate->cols);
        const RoundedRows inner = packed_gated(kernels_, num_threads_, rows, *e.gate, *e.up);
        return packed_linears(kernels_, num_threads_, inner, {{e.down, out, residual}});
    }
    const size_t size = static_cast<size_t>(T * e.gate->rows);
    std::vector<float> gate(size), up(size);
    project(x, T, {{e.gate, gate.data(), nullptr}, {e.up, up.data(), nullptr}});
    swiglu(gate.data(), up.data(), static_cast<int64_t>(size), gate.data());
    project(gate.data(), T, {{e.down, out, residual}});
}

}  // namespace ostro
