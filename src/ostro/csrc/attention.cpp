// Attention over the paged pool: checks of the batch, the K/V store, and the list of tiles.

#include <math.h>

#include <algorithm>

#include "ops.h"
#include "thread_pool.h"

namespace ostro {
namespace {

// Queries (rows times query heads of a K/V head) that share a pass over K and V.
constexpr int64_t TILE_QUERIES = 16;

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

struct Tile {
    int64_t sequence, row, num_rows, head;
};

// Later rows see more keys: they come first, so that no thread is left with a long one at the end.
std::vector<Tile> make_tiles(const BatchView& batch, int64_t num_kv_heads, int64_t rows_per_tile) {
    std::vector<Tile> tiles;
    for (int64_t s = 0; s < batch.S; ++s) {
        for (int64_t row = batch.row_starts[s]; row < batch.row_starts[s + 1]; row += rows_per_tile) {
            const int64_t count = std::min<int64_t>(rows_per_tile, batch.row_starts[s + 1] - row);
            for (int64_t head = 0; head < num_kv_heads; ++head) tiles.push_back({s, row, count, head});
        }
    }
    std::stable_sort(tiles.begin(), tiles.end(),
                     [&](const Tile& a, const Tile& b) { return batch.positions[a.row] > batch.positions[b.row]; });
    return tiles;
}

}  // namespace

void Runtime::store(const float* x, const Pool5& pool, uint8_t* layer, const BatchView& batch) const {
    const int64_t d = pool.head_dim, G = pool.num_kv_heads, size = pool.kind == Kind::F32 ? 4 : 2;
    const int threads = batch.T * G * d < (1 << 14) ? 1 : num_threads_;
    parallel_for(threads, batch.T, [&](int64_t t) {
        const int64_t block = batch.slots[t] / pool.block_size, offset = batch.slots[t] % pool.block_size;
        for (int64_t g = 0; g < G; ++g) {
            const int64_t index = (block * G + g) * pool.block_size + offset;
            kernels_.encode(pool.kind, x + (t * G + g) * d, d, layer + index * d * size);
        }
    });
}

void Runtime::attention(const float* q, const float* k, const float* v, int64_t num_heads, const Pool5& pool,
                        int64_t layer, const BatchView& batch, int64_t window, float* out) const {
    const int64_t d = pool.head_dim, G = pool.num_kv_heads, size = pool.kind == Kind::F32 ? 4 : 2;
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
    const int64_t layer_bytes = pool.num_blocks * G * pool.block_size * d * size;
    uint8_t *keys = pool.keys + layer * layer_bytes, *values = pool.values + layer * layer_bytes;
    store(k, pool, keys, batch);
    store(v, pool, values, batch);

    const int64_t rep = num_heads / G, rows_per_tile = std::max<int64_t>(1, TILE_QUERIES / rep);
    const std::vector<Tile> tiles = make_tiles(batch, G, rows_per_tile);
    const int64_t scratch = kernels_.attention_scratch(rows_per_tile, rep, d);
    const float scale = static_cast<float>(1.0 / sqrt(static_cast<double>(d)));
    parallel_for(num_threads_, static_cast<int64_t>(tiles.size()), [&](int64_t i) {
        const Tile& tile = tiles[static_cast<size_t>(i)];
        const int64_t first = tile.row * num_heads * d;
        const AttentionTask task{.q = q + first,
                                 .out = out + first,
                                 .ldq = num_heads * d,
                                 .num_rows = tile.num_rows,
                                 .positions = batch.positions + tile.row,
                                 .head = tile.head,
                                 .rep = rep,
                                 .head_dim = d,
                                 .keys = keys,
                                 .values = values,
                                 .kind = pool.kind,
                                 .num_kv_heads = G,
                                 .block_size = pool.block_size,
                                 .table = batch.block_tables + tile.sequence * batch.B,
                                 .table_start = batch.table_starts[tile.sequence],
                                 .window = window,
                                 .scale = scale};
        kernels_.attention(task, thread_scratch(scratch));
    });
}

}  // namespace ostro
