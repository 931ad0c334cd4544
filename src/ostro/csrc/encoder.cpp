#include <algorithm>

#include "ops.h"
#include "thread_pool.h"

namespace ostro {
namespace {

constexpr int64_t WORTH_A_THREAD = 1 << 13;  // numbers; below, another thread would not have woken up in time

}  // namespace

void Runtime::layer_norm(const float* x, int64_t T, int64_t D, const float* weight, const float* bias, float eps,
                         float* out) const {
    constexpr int64_t ROWS = 16;
    parallel_for(T * D < WORTH_A_THREAD ? 1 : num_threads_, (T + ROWS - 1) / ROWS, [&](int64_t item) {
        for (int64_t t = item * ROWS; t < std::min(T, (item + 1) * ROWS); ++t) {
            kernels_.layer_norm(x + t * D, weight, bias, D, eps, out + t * D);
        }
    });
}

void Runtime::gelu(const float* x, int64_t count, float* out) const {
    constexpr int64_t SIZE = 1 << 12;
    parallel_for(count < WORTH_A_THREAD ? 1 : num_threads_, (count + SIZE - 1) / SIZE, [&](int64_t item) {
        const int64_t begin = item * SIZE;
        kernels_.gelu(x + begin, std::min(SIZE, count - begin), out + begin);
    });
}

void Runtime::encoder_attention(const EncoderView& view, const float* bias, int64_t bias_stride, float* out) const {
    for (int64_t s = 0; s < view.S; ++s) {
        const int64_t length = view.row_starts[s + 1] - static_cast<int64_t>(view.row_starts[s]);
        if (length < 0 || (bias != nullptr && length + MAX_LANES > bias_stride / 2)) {
            throw Error("row_starts must ascend, and no text may be longer than the position bias reaches.");
        }
    }
    if (view.row_starts[0] != 0 || view.row_starts[view.S] != view.T) {
        throw Error("row_starts must go from 0 to the number of rows.");
    }
    const int64_t D = view.num_heads * view.head_dim;
    parallel_for(view.T * D < WORTH_A_THREAD ? 1 : num_threads_, view.S * view.num_heads, [&](int64_t item) {
        const int64_t s = item / view.num_heads, h = item % view.num_heads;
        const int64_t first = view.row_starts[s], at = first * D + h * view.head_dim;
        EncoderTask task{};
        task.q = view.q + at, task.k = view.k + at, task.v = view.v + at, task.out = out + at;
        task.stride = D, task.T = view.row_starts[s + 1] - first, task.head_dim = view.head_dim, task.scale = view.scale;
        task.bias = bias == nullptr ? nullptr : bias + h * bias_stride;
        task.bias_center = bias_stride / 2;
        if (task.T > 0) {
            kernels_.encoder_attention(task, thread_scratch(kernels_.encoder_scratch(task.T, task.head_dim)));
        }
    });
}

}  // namespace ostro
