// The driver of pack.inc.h: panels go to threads, rows are widened, groups turned on their side, scales rounded.

#include <string.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include "pack.h"
#include "thread_pool.h"

namespace ostro {
namespace {

constexpr int64_t WIDENED = 512;                // columns of a panel's 16 rows that are widened together: 32 KB
constexpr float LARGEST = 65504.0f;             // of float16
constexpr uint32_t LARGEST_BITS = 0x477fe000u;  // of that number
constexpr float STARTS[5] = {46 / 64.0f, 54 / 64.0f, 62 / 64.0f, 65 / 64.0f, 69 / 64.0f};  // as in packing.py

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

Levels make_levels(const int8_t* codebook) {
    Levels a{};
    a.first = codebook[0], a.last = codebook[15], a.one_apart = true;
    for (int i = 0; i < 10; ++i) a.targets[i] = (i < 5 ? a.first : a.last) * STARTS[i % 5];
    for (int i = 0; i < 15; ++i) {
        const int step = codebook[i + 1] - codebook[i];
        a.steps[i] = static_cast<float>(step);
        a.middles[i] = static_cast<float>(codebook[i + 1] + codebook[i]) / 2.0f;
        a.one_apart = a.one_apart && step == 1;
    }
    return a;
}

// Whether a float is not finite or above 65504: such a number has a large pattern of bits.
bool any_unfit(const float* x, int64_t count) {
    int32_t top = 0;
    for (int64_t i = 0; i < count; ++i) {
        int32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffff;
        top = bits > top ? bits : top;
    }
    return static_cast<uint32_t>(top) > LARGEST_BITS;
}

// Group of 32 columns beginning at `rows` (16 rows, WIDENED apart) column by column.
void turn(const float* rows, float* out) {
    for (int64_t n = 0; n < PANEL; ++n) {
        for (int64_t k = 0; k < GROUP; ++k) out[PANEL * k + n] = rows[WIDENED * n + k];
    }
}

// Scales as float16 at `out`; in place of each, what it is worth.
void round_scales(const Kernels& kernels, float* scales, uint8_t* out) {
    kernels.encode(Kind::F16, scales, PANEL, out);
    kernels.decode(Kind::F16, out, 0, PANEL, scales);
}

// The same for the scales of 8-bit groups and of superblocks, of which 127 must reach the largest number: where
// rounding made one so small that it would have to be 128, the next larger float16 is taken.
void round_scales_up(const Kernels& kernels, float* scales, uint8_t* out) {
    float wanted[PANEL];
    std::copy_n(scales, PANEL, wanted);
    round_scales(kernels, scales, out);
    for (int64_t n = 0; n < PANEL; ++n) {
        uint16_t bits;
        memcpy(&bits, out + 2 * n, sizeof bits);
        bits = static_cast<uint16_t>(bits + (scales[n] * 127.5f < wanted[n] * 127.0f));
        memcpy(out + 2 * n, &bits, sizeof bits);
    }
    kernels.decode(Kind::F16, out, 0, PANEL, scales);
}

// A panel on its way: `code` and `scale` advance with the columns.
struct Cursor {
    const Kernels& kernels;
    Kind kind;
    const Levels* levels;
    uint8_t *code, *scale;
    float turned[8][GROUP * PANEL];
    float scales[8][PANEL];

    QuantizeTask task(int64_t i) { return {turned[i], levels, scales[i], code}; }

    // Up to 8 groups beginning at `rows`; one scale each, or under the scales of the superblock.
    void take(const float* rows, int64_t groups) {
        for (int64_t i = 0; i < groups; ++i) {
            turn(rows + GROUP * i, turned[i]);
            kernels.fit_scales(task(i));
        }
        if (kind == Kind::P4G) round_superblock(groups);
        for (int64_t i = 0; i < groups; ++i, code += levels == nullptr ? 512 : 256) {
            if (kind == Kind::P4) round_scales(kernels, clipped(scales[i]), scale);
            if (kind == Kind::P8) round_scales_up(kernels, scales[i], scale);
            if (kind != Kind::P4G) scale += 2 * PANEL;
            kernels.encode_group(task(i));
        }
    }

    // d = the largest of the scales over 127, and the others as whole multiples of it.
    void round_superblock(int64_t groups) {
        float d[PANEL] = {};
        for (int64_t i = 0; i < groups; ++i) {
            for (int64_t n = 0; n < PANEL; ++n) d[n] = std::max(d[n], std::abs(scales[i][n]));
        }
        for (float& x : d) x = x / 127.0f;
        round_scales_up(kernels, d, scale);
        memset(scale + 2 * PANEL, 0, 8 * PANEL);
        for (int64_t i = 0; i < groups; ++i) {
            for (int64_t n = 0; n < PANEL; ++n) {
                const float times = d[n] != 0.0f ? std::nearbyint(scales[i][n] * (1.0f / d[n])) : 0.0f;
                const float whole = std::clamp(times, -127.0f, 127.0f);
                scale[2 * PANEL + PANEL * i + n] = static_cast<uint8_t>(static_cast<int8_t>(whole));
                scales[i][n] = d[n] * whole;
            }
        }
        scale += 10 * PANEL;
    }

    static float* clipped(float* s) {
        for (int64_t n = 0; n < PANEL; ++n) s[n] = std::clamp(s[n], -LARGEST, LARGEST);
        return s;
    }
};

// False where a weight is unfit.
bool quantize_panel(const WeightView& w, int64_t panel, Cursor& to) {
    float* wide = thread_scratch(PANEL * WIDENED);
    const int64_t num_rows = std::min(PANEL, w.rows - PANEL * panel);
    std::fill(wide + num_rows * WIDENED, wide + PANEL * WIDENED, 0.0f);
    for (int64_t begin = 0; begin < w.cols; begin += WIDENED) {
        const int64_t width = std::min(WIDENED, w.cols - begin), groups = divide_up(width, GROUP);
        for (int64_t n = 0; n < num_rows; ++n) {
            float* row = wide + n * WIDENED;
            to.kernels.decode(w.kind, w.data + (PANEL * panel + n) * w.row_bytes, begin, begin + width, row);
            if (any_unfit(row, width)) return false;
            std::fill(row + width, row + groups * GROUP, 0.0f);
        }
        for (int64_t g = 0; g < groups; g += 8) to.take(wide + GROUP * g, std::min<int64_t>(8, groups - g));
    }
    return true;
}

}  // namespace

int64_t quantize(const Kernels& kernels, int num_threads, const WeightView& floats, Kind kind, const int8_t* codebook,
                 uint8_t* codes, uint8_t* scales) {
    const Levels levels = kind == Kind::P8 ? Levels{} : make_levels(codebook);
    const PackedInfo& info = packed_info(kind);
    const int64_t panels = divide_up(floats.rows, PANEL);
    const int64_t code_bytes = divide_up(floats.cols, GROUP) * 64 * info.bits;
    const int64_t scale_bytes = divide_up(floats.cols, info.scale_columns) * info.scale_bytes;
    std::atomic<int64_t> unfit{panels};
    parallel_for(num_threads, panels, [&](int64_t panel) {
        Cursor to{kernels, kind, kind == Kind::P8 ? nullptr : &levels, codes + panel * code_bytes,
                  scales + panel * scale_bytes, {}, {}};
        if (quantize_panel(floats, panel, to)) return;
        int64_t first = unfit.load();
        while (panel < first && !unfit.compare_exchange_weak(first, panel)) {
        }
    });
    return unfit.load() == panels ? -1 : PANEL * unfit.load();
}

}  // namespace ostro
