#include "ops.h"

#include <math.h>
#include <stdlib.h>

#include <algorithm>
#include <memory>
#include <new>

#include "thread_pool.h"

namespace ostro {
namespace {

// Work below this many multiply-adds is done before another thread would have woken up.
constexpr int64_t WORTH_A_THREAD = 1 << 15;

[[noreturn]] void fail(const std::string& text) { throw Error(text); }

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

// Splits 0 .. count - 1 into ranges of about `ranges` pieces, multiples of `unit`, and runs task(begin, end) on them.
template <typename Task>
void parallel_ranges(int num_threads, int64_t count, int64_t ranges, int64_t unit, const Task& task) {
    if (count == 0) return;
    const int64_t size = divide_up(divide_up(count, ranges), unit) * unit;
    parallel_for(num_threads, divide_up(count, size),
                 [&](int64_t i) { task(i * size, std::min(count, (i + 1) * size)); });
}

// A copy of x (T, K) for the kernels of `linear`: zero-padded to whole vectors, every row aligned to a cache line, and
// one line more than a row needs, since rows that lie a power of two apart would push each other out of the cache.
class AlignedRows {
  public:
    AlignedRows(const float* x, int64_t T, int64_t K) : stride_(divide_up(K, MAX_LANES) * MAX_LANES + MAX_LANES) {
        void* memory = nullptr;
        if (posix_memalign(&memory, 64, static_cast<size_t>(T * stride_) * sizeof(float)) != 0) throw std::bad_alloc();
        data_.reset(static_cast<float*>(memory));
        for (int64_t t = 0; t < T; ++t) {
            float* row = data_.get() + t * stride_;
            std::copy_n(x + t * K, K, row);
            std::fill(row + K, row + stride_, 0.0f);
        }
    }
    const float* data() const { return data_.get(); }
    int64_t stride() const { return stride_; }

  private:
    struct Free {
        void operator()(float* p) const { free(p); }
    };
    int64_t stride_;
    std::unique_ptr<float[], Free> data_;
};

}  // namespace

const KindInfo& kind_info(const std::string& name) {
    std::string known;
    for (const KindInfo& info : KINDS) {
        if (name == info.name) return info;
        known += (known.empty() ? "" : ", ") + std::string(info.name);
    }
    fail("The cpu backend does not know the tensor type '" + name + "'; it knows " + known + ".");
}

WeightView make_weight(const std::string& kind, int64_t rows, int64_t cols, const uint8_t* data, int64_t bytes) {
    const KindInfo& info = kind_info(kind);
    if (rows < 1 || cols < 1) {
        fail("A weight must have rows and columns, not " + std::to_string(rows) + " x " + std::to_string(cols) + ".");
    }
    if (cols % info.elements != 0) {
        fail("A row of " + std::to_string(cols) + " elements does not divide into " + kind + " blocks of " +
             std::to_string(info.elements) + ".");
    }
    const int64_t row_bytes = cols / info.elements * info.bytes;
    if (bytes != rows * row_bytes) {
        fail("A " + kind + " weight of " + std::to_string(rows) + " x " + std::to_string(cols) + " has " +
             std::to_string(rows * row_bytes) + " bytes, not " + std::to_string(bytes) + ".");
    }
    return {data, rows, cols, row_bytes, info.kind};
}

Runtime::Runtime(const std::string& isa, int num_threads) : kernels_(select_kernels(isa)), num_threads_(num_threads) {
    if (num_threads < 1 || num_threads > 1024) {
        fail("num_threads must be between 1 and 1024, not " + std::to_string(num_threads) + ".");
    }
}

void Runtime::embedding(const WeightView& table, const int32_t* ids, int64_t T, float* out) const {
    for (int64_t t = 0; t < T; ++t) {
        if (ids[t] < 0 || ids[t] >= table.rows) {
            fail("Token id " + std::to_string(ids[t]) + " (row " + std::to_string(t) + ") lies outside the " +
                 std::to_string(table.rows) + " rows of the embedding.");
        }
    }
    const int threads = T * table.cols < WORTH_A_THREAD ? 1 : num_threads_;
    parallel_for(threads, T, [&](int64_t t) {
        if (is_packed(table.kind)) return unpack_row(table, ids[t], out + t * table.cols);
        kernels_.decode(table.kind, table.data + ids[t] * table.row_bytes, 0, table.cols, out + t * table.cols);
    });
}

void Runtime::rms_norm(const float* x, int64_t T, const WeightView& weight, float eps, float* out) const {
    const int64_t D = weight.cols;
    std::vector<float> wide(static_cast<size_t>(D));
    kernels_.decode(weight.kind, weight.data, 0, D, wide.data());
    const int threads = T * D < WORTH_A_THREAD ? 1 : num_threads_;
    parallel_ranges(threads, T, 4 * num_threads_, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) kernels_.rms_norm(x + t * D, wide.data(), D, eps, out + t * D);
    });
}

void Runtime::linear(const float* x, int64_t T, const WeightView& weight, float* out) const {
    project(x, T, {{&weight, out, nullptr}});
}

void Runtime::logits(const float* x, int64_t T, const WeightView& weight, float* out) const {
    if (T == 0 || !is_packed(weight.kind)) return linear(x, T, weight, out);
    packed_logits(kernels_, num_threads_, x, T, weight, out);
}

void Runtime::project(const float* x, int64_t T, const std::vector<Projection>& jobs) const {
    if (T == 0) return;
    std::vector<Projection> packed;
    for (const Projection& job : jobs) {
        if (is_packed(job.weight->kind)) {
            packed.push_back(job);
        } else if (job.residual == nullptr) {
            float_linear(x, T, *job.weight, job.y);
        } else {
            const int64_t count = T * job.weight->rows;
            std::vector<float> sums(static_cast<size_t>(count));
            float_linear(x, T, *job.weight, sums.data());
            for (int64_t i = 0; i < count; ++i) job.y[i] = job.residual[i] + sums[static_cast<size_t>(i)];
        }
    }
    if (packed.empty()) return;
    const RoundedRows rows(kernels_, num_threads_, x, T, packed[0].weight->cols);
    packed_linears(kernels_, num_threads_, rows, packed);
}

void Runtime::float_linear(const float* x, int64_t T, const WeightView& weight, float* out) const {
    const int64_t K = weight.cols, N = weight.rows;
    const AlignedRows rows(x, T, K);
    const int threads = T * N * K < WORTH_A_THREAD ? 1 : num_threads_;
    parallel_ranges(threads, N, threads == 1 ? 1 : 8 * threads, 24, [&](int64_t begin, int64_t end) {
        const LinearTask task{&weight, rows.data(), T, rows.stride(), out, N, begin, end};
        kernels_.linear(task, thread_scratch(kernels_.linear_scratch(T, K)));
    });
}

void Runtime::rope_table(const int32_t* positions, int64_t T, const float* inv_freq, int64_t half,
                         float* cos_sin) const {
    const int threads = T * half < 2048 ? 1 : num_threads_;
    parallel_ranges(threads, T, 4 * threads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            float *cosines = cos_sin + t * half, *sines = cosines + T * half;
            for (int64_t i = 0; i < half; ++i) {
                const double angle = static_cast<float>(positions[t]) * inv_freq[i];
                cosines[i] = static_cast<float>(cos(angle));
                sines[i] = static_cast<float>(sin(angle));
            }
        }
    });
}

void Runtime::rotary(float* x, int64_t T, int64_t num_heads, const float* cos_sin, int64_t half) const {
    const int threads = T * num_heads * half < WORTH_A_THREAD ? 1 : num_threads_;
    parallel_ranges(threads, T, 4 * threads, 1, [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
            const float* cosines = cos_sin + t * half;
            kernels_.rotary(x + t * num_heads * 2 * half, cosines, cosines + T * half, num_heads, half);
        }
    });
}

void Runtime::swiglu(const float* gate, const float* up, int64_t count, float* out) const {
    const int threads = count < WORTH_A_THREAD / 4 ? 1 : num_threads_;
    parallel_ranges(threads, count, 4 * threads, MAX_LANES, [&](int64_t begin, int64_t end) {
        kernels_.swiglu(gate + begin, up + begin, end - begin, out + begin);
    });
}

}  // namespace ostro
