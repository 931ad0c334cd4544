#include "packed.h"

#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <new>

#include "thread_pool.h"

namespace ostro {
namespace {

constexpr int64_t TILE_ROWS = 64;              // their sums, 32 outputs wide, stay in L1
constexpr int64_t TILE_FLOATS = TILE_ROWS * 32;
constexpr int64_t ITEM_BYTES = 128 << 10;      // of codes: about what a thread reads in 10 microseconds
constexpr int64_t WORTH_A_THREAD = 1 << 16;    // multiply-adds
constexpr int64_t LOGIT_ROWS = 32;             // of the output head at once
constexpr int64_t ROUND_ON_THREADS = 1 << 16;  // activations

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

float half_to_float(const uint8_t* p) {
    const uint32_t h = static_cast<uint32_t>(p[0] | p[1] << 8), sign = (h & 0x8000u) << 16;
    uint32_t bits = (h & 0x7fffu) << 13;
    float value;
    if ((h & 0x7c00u) == 0x7c00u) {
        bits |= 0x7f800000u;
        memcpy(&value, &bits, sizeof value);
    } else {
        memcpy(&value, &bits, sizeof value);
        value *= 0x1p112f;
    }
    memcpy(&bits, &value, sizeof bits);
    bits |= sign;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// The value that the code of output n, column c of a group means.
int code_value(const WeightView& w, const uint8_t* group, int64_t n, int64_t c) {
    const int64_t unit = c / 4, b = c % 4;
    const int64_t bits = w.panel_bytes / (divide_up(w.cols, GROUP) * 64);
    if (bits == 8) return group[64 * unit + 4 * n + b] - 128;
    const int low = group[64 * (unit / 2) + 4 * n + b] >> (unit % 2 ? 4 : 0) & 15;
    if (bits == 4) return w.codebook[low];
    const int high = group[256 + 64 * (unit / 4) + 4 * n + b] >> (2 * (unit % 4)) & 3;
    return (low | high << 4) - 32;
}

struct Affine {
    float scale, minimum;
};
constexpr float NOTHING = -0.0f;  // added to any number it leaves that number, -0 too

// What output n, column c of a panel is multiplied with and what is added; `p` are the panel's scales.
Affine scale_of(Kind kind, const uint8_t* p, int64_t n, int64_t c) {
    const int64_t g = c / GROUP;
    switch (kind) {
        case Kind::P4M:
        case Kind::P8M: return {half_to_float(p + 64 * g + 2 * n), half_to_float(p + 64 * g + 32 + 2 * n)};
        case Kind::P4G: {
            const uint8_t* head = p + 160 * (g / 8);
            return {half_to_float(head + 2 * n) * static_cast<int8_t>(head[32 + 16 * (g % 8) + n]), NOTHING};
        }
        case Kind::P4K:
        case Kind::P8K: {
            const uint8_t *head = p + 320 * (g / 8), *fine = head + 64 + 32 * (g % 8) + n;
            return {half_to_float(head + 2 * n) * fine[0], -(half_to_float(head + 32 + 2 * n) * fine[16])};
        }
        case Kind::P4S:
        case Kind::P6S: {
            const uint8_t *head = p + 288 * (g / 8), *fine = head + 32 + 32 * (g % 8) + n;
            return {half_to_float(head + 2 * n) * static_cast<int8_t>(fine[c % GROUP < 16 ? 0 : 16]), NOTHING};
        }
        default: return {half_to_float(p + 32 * g + 2 * n), NOTHING};
    }
}

// Panels first .. first + count - 1 of job `job`.
struct Item {
    size_t job;
    int64_t first, count;
};

// Pieces small enough to end together, an even number of panels each.
std::vector<Item> make_items(const std::vector<const WeightView*>& weights, int64_t T) {
    std::vector<Item> items;
    for (size_t j = 0; j < weights.size(); ++j) {
        const WeightView& w = *weights[j];
        const int64_t panels = divide_up(w.rows, PANEL);
        const int64_t wanted = T > 8 ? 2 : std::max<int64_t>(2, ITEM_BYTES / w.panel_bytes / 2 * 2);
        for (int64_t p = 0; p < panels; p += wanted) items.push_back({j, p, std::min(wanted, panels - p)});
    }
    return items;
}

void store(const Projection& job, int64_t t, int64_t panel, const float* sums, int64_t count) {
    const int64_t N = job.weight->rows, n0 = panel * PANEL, n1 = std::min(N, n0 + count);
    float* y = job.y + t * N;
    if (job.residual == nullptr) {
        std::copy_n(sums, n1 - n0, y + n0);
    } else {
        const float* r = job.residual + t * N;
        for (int64_t n = n0; n < n1; ++n) y[n] = r[n] + sums[n - n0];
    }
}

void run_item(const Kernels& kernels, const RoundedRows& x, const Projection& job, const Item& item, float* acc) {
    const int64_t T = x.rows(), step = T == 1 ? item.count : 2;
    for (int64_t p = item.first; p < item.first + item.count; p += step) {
        const int64_t panels = std::min(step, item.first + item.count - p);
        for (int64_t t = 0; t < T; t += TILE_ROWS) {
            const int64_t end = std::min(T, t + TILE_ROWS);
            kernels.packed({job.weight, x.data(), x.groups(), T, t, end, p, panels, acc});
            for (int64_t row = t; row < end; ++row) store(job, row, p, acc + (row - t) * 32, panels * PANEL);
        }
    }
}

// Gate and up of the groups of 32 outputs first .. first + count - 1, for all rows, as bytes.
void gated_groups(const Kernels& kernels, const RoundedRows& x, const WeightView& gate, const WeightView& up,
                  int64_t first, int64_t count, const RoundedRows& out, float* gates, float* ups) {
    const int64_t T = x.rows(), step = T == 1 ? count : 1, all = divide_up(gate.rows, PANEL);
    for (int64_t g = first; g < first + count; g += step) {
        const int64_t panels = std::min(2 * step, all - 2 * g);
        const int64_t outputs = std::min(step * GROUP, gate.rows - GROUP * g);
        for (int64_t t = 0; t < T; t += TILE_ROWS) {
            const int64_t end = std::min(T, t + TILE_ROWS);
            kernels.packed({&gate, x.data(), x.groups(), T, t, end, 2 * g, panels, gates});
            kernels.packed({&up, x.data(), x.groups(), T, t, end, 2 * g, panels, ups});
            for (int64_t row = 0; row < end - t; ++row) {
                kernels.swiglu(gates + 32 * row, ups + 32 * row, outputs, gates + 32 * row);
            }
            kernels.round_rows({gates, 32, outputs, t, end, T, out.data() + g * T});
        }
    }
}

// Row t as bytes, and as row T + t what these bytes leave of it.
RoundedRows rounded_twice(const Kernels& kernels, const float* x, int64_t T, int64_t K) {
    RoundedRows both(2 * T, K);
    const auto round = [&](const float* row, int64_t t) {
        kernels.round_rows({row, K, K, t, t + 1, 2 * T, both.data()});
    };
    std::vector<float> rest(static_cast<size_t>(K));
    for (int64_t t = 0; t < T; ++t) {
        round(x + t * K, t);
        for (int64_t k = 0; k < K; ++k) {
            const RowGroup& group = both.data()[k / GROUP * 2 * T + t];
            rest[static_cast<size_t>(k)] = x[t * K + k] - group.scale * static_cast<float>(group.q[k % GROUP]);
        }
        round(rest.data(), T + t);
    }
    return both;
}

}  // namespace

WeightView make_packed(const std::string& kind, int64_t rows, int64_t cols, const uint8_t* codes, int64_t code_bytes,
                       const uint8_t* scales, int64_t scale_bytes, const int8_t* codebook, int64_t codebook_size) {
    const PackedInfo* info = nullptr;
    for (const PackedInfo& each : PACKED) {
        if (kind == each.name) info = &each;
    }
    if (info == nullptr) throw Error("The cpu backend does not know the packed kind '" + kind + "'.");
    if (rows < 1 || cols < 1) throw Error("A weight must have rows and columns.");
    const int64_t panel_bytes = divide_up(cols, GROUP) * 64 * info->bits;
    const int64_t panel_scale_bytes = divide_up(cols, info->scale_columns) * info->scale_bytes;
    const int64_t panels = divide_up(rows, PANEL);
    if (code_bytes != panels * panel_bytes || scale_bytes != panels * panel_scale_bytes) {
        throw Error("A " + kind + " weight of " + std::to_string(rows) + " x " + std::to_string(cols) + " has " +
                    std::to_string(panels * panel_bytes) + " bytes of codes and " +
                    std::to_string(panels * panel_scale_bytes) + " of scales, not " + std::to_string(code_bytes) +
                    " and " + std::to_string(scale_bytes) + ".");
    }
    if (codebook_size != (info->bits == 4 ? 16 : 0)) {
        throw Error("A codebook has 16 values, and only 4-bit kinds have one; " + kind + " was given " +
                    std::to_string(codebook_size) + ".");
    }
    if (std::any_of(codebook, codebook + codebook_size, [](int8_t v) { return v == -128; })) {
        throw Error("The values of a codebook lie in -127 .. 127.");
    }
    static constexpr int8_t NONE[16] = {};  // kernels load a table whether they need it or not
    const int8_t* values = codebook_size > 0 ? codebook : NONE;
    return {codes, rows, cols, 0, info->kind, scales, values, panel_bytes, panel_scale_bytes};
}

void unpack_row(const WeightView& w, int64_t row, float* out) {
    const int64_t panel = row / PANEL, n = row % PANEL;
    const uint8_t *codes = w.data + panel * w.panel_bytes, *scales = w.scales + panel * w.panel_scale_bytes;
    const int64_t group_bytes = w.panel_bytes / divide_up(w.cols, GROUP);
    Affine a{};
    for (int64_t c = 0; c < w.cols; ++c) {
        if (c % (GROUP / 2) == 0) a = scale_of(w.kind, scales, n, c);
        const float value = static_cast<float>(code_value(w, codes + c / GROUP * group_bytes, n, c % GROUP));
        out[c] = a.scale * value + a.minimum;
    }
}

void RoundedRows::Free::operator()(RowGroup* p) const { free(p); }

RoundedRows::RoundedRows(int64_t T, int64_t K) : T_(T), groups_(divide_up(K, GROUP)) {
    void* memory = nullptr;
    const size_t bytes = static_cast<size_t>(std::max<int64_t>(1, T_ * groups_)) * sizeof(RowGroup);
    if (posix_memalign(&memory, 64, bytes) != 0) throw std::bad_alloc();
    data_.reset(static_cast<RowGroup*>(memory));
}

RoundedRows::RoundedRows(const Kernels& kernels, int num_threads, const float* x, int64_t T, int64_t K)
    : RoundedRows(T, K) {
    const int64_t size = std::max<int64_t>(1, T / (8 * num_threads));
    parallel_for(T * K < ROUND_ON_THREADS ? 1 : num_threads, divide_up(T, size), [&](int64_t i) {
        const int64_t begin = i * size, end = std::min(T, begin + size);
        kernels.round_rows({x + begin * K, K, K, begin, end, T, data()});
    });
}

void packed_linears(const Kernels& kernels, int num_threads, const RoundedRows& x, const std::vector<Projection>& jobs) {
    std::vector<const WeightView*> weights;
    int64_t work = 0, most = 0;
    for (const Projection& job : jobs) {
        weights.push_back(job.weight);
        work += x.rows() * job.weight->rows * job.weight->cols;
    }
    const std::vector<Item> items = make_items(weights, x.rows());
    for (const Item& item : items) most = std::max(most, item.count);
    const int64_t floats = std::max(TILE_FLOATS, most * PANEL);
    parallel_for(work < WORTH_A_THREAD ? 1 : num_threads, static_cast<int64_t>(items.size()), [&](int64_t i) {
        const Item& item = items[static_cast<size_t>(i)];
        run_item(kernels, x, jobs[item.job], item, thread_scratch(floats));
    });
}

void packed_logits(const Kernels& kernels, int num_threads, const float* x, int64_t T, const WeightView& weight,
                   float* y) {
    const int64_t K = weight.cols, N = weight.rows;
    std::vector<float> sums(static_cast<size_t>(2 * std::min(T, LOGIT_ROWS) * N));
    for (int64_t first = 0; first < T; first += LOGIT_ROWS) {  // the sums of all rows would take twice what y does
        const int64_t rows = std::min(LOGIT_ROWS, T - first);
        const RoundedRows both = rounded_twice(kernels, x + first * K, rows, K);
        packed_linears(kernels, num_threads, both, {{&weight, sums.data(), nullptr}});
        const float *coarse = sums.data(), *fine = coarse + rows * N;
        for (int64_t i = 0; i < rows * N; ++i) y[first * N + i] = coarse[i] + fine[i];
    }
}

RoundedRows packed_gated(const Kernels& kernels, int num_threads, const RoundedRows& x, const WeightView& gate,
                         const WeightView& up) {
    RoundedRows out(x.rows(), gate.rows);
    const int64_t work = 2 * x.rows() * gate.rows * gate.cols, groups = out.groups();
    const int64_t size = x.rows() > 8 ? 1 : std::max<int64_t>(1, ITEM_BYTES / gate.panel_bytes);
    const int64_t floats = std::max(TILE_FLOATS, size * GROUP);
    parallel_for(work < WORTH_A_THREAD ? 1 : num_threads, divide_up(groups, size), [&](int64_t i) {
        const int64_t first = i * size, count = std::min(size, groups - first);
        float* sums = thread_scratch(2 * floats);
        gated_groups(kernels, x, gate, up, first, count, out, sums, sums + floats);
    });
    return out;
}

}  // namespace ostro
