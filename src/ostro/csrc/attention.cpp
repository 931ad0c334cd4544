// Attention over the paged pool: checks of the batch, the K/V store, and the list of tiles.

#include <math.h>

#include <algorithm>
#include <memory>

#include "ops.h"
#include "thread_pool.h"

namespace ostro {
namespace {

// Queries (rows times query heads of a K/V head) that share a pass over K and V.
constexpr int64_t TASK_QUERIES = 128;
// Multiply-adds that one thread has done before another would have woken up.
constexpr int64_t WORTH_A_THREAD = 1 << 16;

int64_t divide_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

[[noreturn]] void bad_batch(const char* field, int64_t index, int64_t value, const std::string& rule) {
    throw Error("The batch is wrong: " + std::string(field) + "[" + std::to_string(index) + "] is " +
                std::to_string(value) + "; " + rule + ".");
}

int64_t first_seen(int64_t position, int64_t window) {
    return window > 0 && position >= window ? position - window + 1 : 0;
}

// The table of sequence s must name a block of the pool for every position from `first` to `last`.
void check_table(const BatchView& batch, const Pool5& pool, int64_t s, int64_t first, int64_t last) {
    const int64_t start = batch.table_starts[s];
    const int64_t begin = first / pool.block_size - start, end = last / pool.block_size - start;
    if (start < 0 || begin < 0) {
        bad_batch("table_starts", s, start,
                  "position " + std::to_string(first) + ", which a row must see, lies before it");
    }
    if (end >= batch.B) {
        throw Error("The batch is wrong: the block table of sequence " + std::to_string(s) + " has " +
                    std::to_string(batch.B) + " entries and ends before position " + std::to_string(last) + ".");
    }
    for (int64_t i = begin; i <= end; ++i) {
        const int64_t block = batch.block_tables[s * batch.B + i];
        if (block < 0 || block >= pool.num_blocks) {
            bad_batch("block_tables", s * batch.B + i, block,
                      "the pool has " + std::to_string(pool.num_blocks) + " blocks");
        }
    }
}

void check_batch(const BatchView& batch, const Pool5& pool, int64_t window) {
    const int64_t num_slots = pool.num_blocks * pool.block_size;
    for (int64_t t = 0; t < batch.T; ++t) {
        if (batch.slots[t] < 0 || batch.slots[t] >= num_slots) {
            bad_batch("slots", t, batch.slots[t], "the pool has " + std::to_string(num_slots) + " slots");
        }
        if (batch.positions[t] < 0) bad_batch("positions", t, batch.positions[t], "positions begin at 0");
    }
    if (batch.row_starts[0] != 0) bad_batch("row_starts", 0, batch.row_starts[0], "it must be 0");
    for (int64_t s = 0; s < batch.S; ++s) {
        const int64_t begin = batch.row_starts[s], end = batch.row_starts[s + 1];
        if (end < begin || end > batch.T) {
            bad_batch("row_starts", s + 1, end, "it must rise and end at " + std::to_string(batch.T) + " rows");
        }
        if (begin == end) continue;
        const auto [low, high] = std::minmax_element(batch.positions + begin, batch.positions + end);
        check_table(batch, pool, s, first_seen(*low, window), *high);
    }
    if (batch.row_starts[batch.S] != batch.T) {
        bad_batch("row_starts", batch.S, batch.row_starts[batch.S], "there are " + std::to_string(batch.T) + " rows");
    }
}

// Rows row .. row + num_rows - 1 of a sequence with one K/V head.
struct Tile {
    int64_t sequence, row, num_rows, head;
    int64_t first_span, end_span;
    int64_t work;        // rows times keys
    int64_t parts = -1;  // where the parts of the spans are kept, if threads share the tile
};

std::vector<Tile> make_tiles(const BatchView& batch, int64_t num_kv_heads, int64_t rows_per_tile, int64_t window) {
    std::vector<Tile> tiles;
    for (int64_t s = 0; s < batch.S; ++s) {
        for (int64_t row = batch.row_starts[s]; row < batch.row_starts[s + 1]; row += rows_per_tile) {
            const int64_t count = std::min<int64_t>(rows_per_tile, batch.row_starts[s + 1] - row);
            const auto [low, high] = std::minmax_element(batch.positions + row, batch.positions + row + count);
            const int64_t first = first_seen(*low, window), end = *high + 1;
            for (int64_t head = 0; head < num_kv_heads; ++head) {
                tiles.push_back({s, row, count, head, first / SPAN, divide_up(end, SPAN), count * (end - first)});
            }
        }
    }
    // The longest first, so that no thread is left with one at the end.
    std::stable_sort(tiles.begin(), tiles.end(), [](const Tile& a, const Tile& b) { return a.work > b.work; });
    return tiles;
}

// Spans of a tile that one thread computes.
struct Work {
    int64_t tile, first_span, end_span;
};

struct Shares {
    std::vector<Work> work;
    std::unique_ptr<float[]> parts;
};

// Cuts tiles that would keep one thread long after the others into shares of whole spans; nothing that is computed
// changes. `part_size`: floats of the part of a row.
Shares share_out(std::vector<Tile>& tiles, int num_threads, int64_t part_size) {
    Shares shares;
    int64_t total = 0, size = 0;
    for (const Tile& tile : tiles) total += tile.work;
    const int64_t fair = divide_up(total, 8 * num_threads);
    for (size_t i = 0; i < tiles.size(); ++i) {
        Tile& tile = tiles[i];
        const int64_t spans = tile.end_span - tile.first_span;
        int64_t step = spans;
        if (num_threads > 1 && tile.work > fair) step = std::max<int64_t>(1, fair / (tile.num_rows * SPAN));
        if (step < spans) {
            tile.parts = size;
            size += spans * tile.num_rows * part_size;
        }
        for (int64_t s = tile.first_span; s < tile.end_span; s += step) {
            shares.work.push_back({static_cast<int64_t>(i), s, std::min(s + step, tile.end_span)});
        }
    }
    shares.parts.reset(new float[static_cast<size_t>(size)]);
    return shares;
}

}  // namespace

KvKind kv_kind(const std::string& name) {
    if (name == "F32") return KvKind::F32;
    if (name == "F16") return KvKind::F16;
    if (name == "BF16") return KvKind::BF16;
    if (name == "I8") return KvKind::I8;
    throw Error("A K/V pool of type '" + name + "' is not known; it holds F32, F16, BF16 or I8.");
}

void Runtime::store(const float* k, const float* v, const KvLayer& kv, const BatchView& batch) const {
    const int64_t d = kv.head_dim, G = kv.num_kv_heads;
    const int threads = batch.T * G * d < (1 << 14) ? 1 : num_threads_;
    const int64_t chunks = divide_up(batch.T, KV_PANEL);  // rows of a chunk mostly share their panels
    parallel_for(threads, chunks * G, [&](int64_t item) {
        const int64_t g = item % G, begin = item / G * KV_PANEL;
        for (int64_t t = begin; t < std::min(begin + KV_PANEL, batch.T); ++t) {
            const KvPlace at = kv_place(kv, batch.slots[t] / kv.block_size, g, batch.slots[t] % kv.block_size);
            kernels_.kv_store({.k = k + (t * G + g) * d,
                               .v = v + (t * G + g) * d,
                               .keys = kv.keys + at.panel,
                               .values = kv.values + at.panel,
                               .kind = kv.kind,
                               .head_dim = d,
                               .lane = at.lane,
                               .width = at.width});
        }
    });
}

void Runtime::attention(const float* q, const float* k, const float* v, int64_t num_heads, const Pool5& pool,
                        int64_t layer, const BatchView& batch, int64_t window, float* out) const {
    const int64_t d = pool.head_dim, G = pool.num_kv_heads;
    if (layer < 0 || layer >= pool.num_layers) {
        throw Error("Layer " + std::to_string(layer) + " is not one of the pool's " + std::to_string(pool.num_layers) +
                    ".");
    }
    if (num_heads < 1 || num_heads % G != 0) {
        throw Error(std::to_string(num_heads) + " query heads cannot share " + std::to_string(G) +
                    " key/value heads evenly.");
    }
    if (window < 0) throw Error("A window must be at least 1, not " + std::to_string(window) + ".");
    check_batch(batch, pool, window);
    const int64_t layer_bytes = pool.num_blocks * G * pool.block_size * kv_row_bytes(pool.kind, d);
    const KvLayer kv{pool.keys + layer * layer_bytes, pool.values + layer * layer_bytes, pool.kind, pool.num_blocks, G,
                     pool.block_size, d};
    store(k, v, kv, batch);

    const int64_t rep = num_heads / G, rows_per_tile = std::max<int64_t>(1, TASK_QUERIES / rep);
    std::vector<Tile> tiles = make_tiles(batch, G, rows_per_tile, window);
    int64_t total = 0;
    for (const Tile& tile : tiles) total += tile.work;
    const int threads = total * rep * d < WORTH_A_THREAD ? 1 : num_threads_;
    const Shares shares = share_out(tiles, threads, attention_part(1, rep, d));
    const int64_t scratch = kernels_.attention_scratch(rows_per_tile, rep, d);
    // Scores come as powers of two.
    const float scale = static_cast<float>(1.4426950408889634 / sqrt(static_cast<double>(d)));
    const auto task = [&](const Tile& tile, int64_t first_span, int64_t end_span) {
        const int64_t first = tile.row * num_heads * d;
        return AttentionTask{.q = q + first,
                             .out = out + first,
                             .ldq = num_heads * d,
                             .num_rows = tile.num_rows,
                             .positions = batch.positions + tile.row,
                             .head = tile.head,
                             .rep = rep,
                             .kv = kv,
                             .table = batch.block_tables + tile.sequence * batch.B,
                             .table_start = batch.table_starts[tile.sequence],
                             .window = window,
                             .scale = scale,
                             .first_span = first_span,
                             .end_span = end_span,
                             .parts = tile.parts < 0 ? nullptr : shares.parts.get() + tile.parts,
                             .first_part = tile.first_span};
    };
    parallel_for(threads, static_cast<int64_t>(shares.work.size()), [&](int64_t i) {
        const Work& share = shares.work[static_cast<size_t>(i)];
        const Tile& tile = tiles[static_cast<size_t>(share.tile)];
        kernels_.attention(task(tile, share.first_span, share.end_span), thread_scratch(scratch));
    });
    for (const Tile& tile : tiles) {
        if (tile.parts < 0) continue;
        kernels_.attention_merge(task(tile, tile.first_span, tile.end_span), thread_scratch(scratch));
    }
}

}  // namespace ostro
