#include "ceilings.h"

#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <new>
#include <string>

#include "isa.h"
#include "thread_pool.h"

namespace ostro {
namespace {

constexpr int64_t HUGE_PAGE = 2 << 20;
constexpr int64_t CHUNK = 4 << 20;  // what a thread reads at a stretch
constexpr int64_t PASS = 64;        // chunks of a pass, some milliseconds
constexpr int64_t ROUNDS = 20000;   // of an item: some tens of microseconds
constexpr int64_t ITEMS_OF_A_THREAD = 32;

// The largest of amount / seconds over repetitions of `work`, which returns the amount.
template <typename Work>
double best_rate(double seconds, const Work& work) {
    using Clock = std::chrono::steady_clock;
    const auto elapsed = [](Clock::time_point since) {
        return std::chrono::duration<double>(Clock::now() - since).count();
    };
    double best = 0.0;
    const auto start = Clock::now();
    for (int run = 0; run < 3 || elapsed(start) < seconds; ++run) {
        const auto begin = Clock::now();
        const double amount = work();
        best = std::max(best, amount / elapsed(begin));
    }
    return best;
}

// Memory in huge pages where the system has them, so that reading it is not bound by the look-up of pages.
class Buffer {
  public:
    explicit Buffer(int64_t bytes) {
        void* memory = nullptr;
        if (posix_memalign(&memory, HUGE_PAGE, static_cast<size_t>(bytes)) != 0) throw std::bad_alloc();
        data_.reset(static_cast<uint8_t*>(memory));
#if defined(__linux__)
        madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);
#endif
    }
    uint8_t* data() const { return data_.get(); }

  private:
    struct Free {
        void operator()(uint8_t* p) const { free(p); }
    };
    std::unique_ptr<uint8_t[], Free> data_;
};

double read_rate(const Kernels& kernels, int num_threads, int64_t chunks, double seconds) {
    const Buffer buffer(chunks * CHUNK);
    const auto chunk = [&](int64_t i) { return buffer.data() + i * CHUNK; };
    parallel_for(num_threads, chunks, [&](int64_t i) { memset(chunk(i), static_cast<int>(i + 1), CHUNK); });
    // Pass after pass goes on through the buffer, so that what it reads has long left the caches.
    int64_t begin = 0;
    return best_rate(seconds, [&] {
        const int64_t count = std::min(PASS, chunks);
        parallel_for(num_threads, count, [&](int64_t i) { kernels.read_memory(chunk((begin + i) % chunks), CHUNK); });
        begin = (begin + count) % chunks;
        return static_cast<double>(count * CHUNK);
    });
}

double repeat_rate(int64_t (*repeat)(int64_t), int num_threads, double seconds) {
    return best_rate(seconds, [&] {
        std::atomic<int64_t> multiply_adds{0};
        parallel_for(num_threads, ITEMS_OF_A_THREAD * num_threads,
                     [&](int64_t) { multiply_adds.fetch_add(repeat(ROUNDS), std::memory_order_relaxed); });
        return 2.0 * static_cast<double>(multiply_adds.load());
    });
}

}  // namespace

Ceilings measure_ceilings(const Kernels& kernels, int num_threads, int64_t buffer_bytes, double seconds) {
    if (num_threads < 1 || num_threads > 1024) {
        throw Error("num_threads must be between 1 and 1024, not " + std::to_string(num_threads) + ".");
    }
    if (buffer_bytes < CHUNK) {
        throw Error("buffer_bytes must be at least " + std::to_string(CHUNK) + ", not " + std::to_string(buffer_bytes) +
                    ".");
    }
    if (!(seconds >= 0.0 && seconds <= 60.0)) {
        throw Error("seconds must be between 0 and 60, not " + std::to_string(seconds) + ".");
    }
    const double bytes = read_rate(kernels, num_threads, buffer_bytes / CHUNK, seconds);
    const double dots = repeat_rate(kernels.repeat_dot, num_threads, seconds);
    return {bytes, dots, repeat_rate(kernels.repeat_fma, num_threads, seconds)};
}

}  // namespace ostro
