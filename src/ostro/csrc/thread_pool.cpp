#include "thread_pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "isa.h"

namespace ostro {
namespace {

// How long a thread looks for work before it sleeps: longer than the pause between two operations of a step, during
// which Python prepares the next one, and far shorter than anything a user or a scheduler would notice.
constexpr auto SPIN_TIME = std::chrono::microseconds(200);
constexpr int PAUSES = 32;  // between two looks at the clock

inline void cpu_pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Spins, then sleeps, until `value` is no longer `old`.
uint32_t wait_for_change(const std::atomic<uint32_t>& value, uint32_t old) {
    const auto end = std::chrono::steady_clock::now() + SPIN_TIME;
    do {
        for (int i = 0; i < PAUSES; ++i) {
            const uint32_t now = value.load(std::memory_order_acquire);
            if (now != old) return now;
            cpu_pause();
        }
    } while (std::chrono::steady_clock::now() < end);
    value.wait(old, std::memory_order_acquire);
    return value.load(std::memory_order_acquire);
}

// The items begin .. end - 1 that a thread has before it. It takes them from the front, so that what it reads lies in
// one stretch of memory; a thread that has none left takes from the back of another's.
class alignas(64) Stretch {
  public:
    void set(uint32_t begin, uint32_t end) { both_.store(pack(begin, end), std::memory_order_relaxed); }

    // An item, or -1 if there is none.
    int64_t take(bool front) {
        uint64_t both = both_.load(std::memory_order_relaxed);
        for (;;) {
            const auto begin = static_cast<uint32_t>(both), end = static_cast<uint32_t>(both >> 32);
            if (begin >= end) return -1;
            const uint64_t rest = front ? pack(begin + 1, end) : pack(begin, end - 1);
            if (both_.compare_exchange_weak(both, rest, std::memory_order_relaxed)) return front ? begin : end - 1;
        }
    }

  private:
    static uint64_t pack(uint32_t begin, uint32_t end) { return static_cast<uint64_t>(end) << 32 | begin; }

    std::atomic<uint64_t> both_{0};
};

class Pool {
  public:
    void run(int num_threads, int64_t num_items, const std::function<void(int64_t)>& task) {
        std::lock_guard<std::mutex> turn(turn_);
        grow(num_threads - 1);
        task_ = &task;
        share_out(num_threads, num_items);
        error_ = nullptr;
        failed_.store(false, std::memory_order_relaxed);
        gate_.store(0, std::memory_order_release);  // open, nobody inside
        epoch_.fetch_add(1, std::memory_order_release);
        epoch_.notify_all();
        work(0);
        close();
        if (error_) std::rethrow_exception(error_);
    }

  private:
    static constexpr uint32_t CLOSED = 1u << 31;

    void grow(int workers) {
        // Signals are for Python's main thread: a worker that took one would leave a blocked system call uninterrupted.
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        try {
            for (; workers_ < workers; ++workers_) {
                const uint32_t seen = epoch_.load(std::memory_order_relaxed);
                std::thread([this, id = workers_, seen] { serve(id, seen); }).detach();
            }
        } catch (...) {  // no more threads to be had: those that are there do the work
        }
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }

    [[noreturn]] void serve(int id, uint32_t seen) {
        for (;;) {
            seen = wait_for_change(epoch_, seen);
            if (!enter()) continue;
            if (id + 1 < num_threads_) work(id + 1);
            if (gate_.fetch_sub(1, std::memory_order_acq_rel) == (CLOSED | 1u)) gate_.notify_all();
        }
    }

    // Joins the current job unless it is closed. Only inside may a worker look at the job's fields.
    bool enter() {
        uint32_t gate = gate_.load(std::memory_order_acquire);
        while (!(gate & CLOSED)) {
            if (gate_.compare_exchange_weak(gate, gate + 1, std::memory_order_acq_rel)) return true;
        }
        return false;
    }

    // Lets nobody in any more and waits for those inside.
    void close() {
        uint32_t gate = gate_.fetch_or(CLOSED, std::memory_order_acq_rel) | CLOSED;
        while (gate != CLOSED) gate = wait_for_change(gate_, gate);
    }

    // Stretches of equal length, one for each thread. A thread that comes late finds the others at work on its own.
    void share_out(int num_threads, int64_t num_items) {
        if (num_items > UINT32_MAX) throw Error("Too many items of work: " + std::to_string(num_items) + ".");
        num_threads_ = num_threads;
        if (stretches_.size() < static_cast<size_t>(num_threads)) stretches_ = std::vector<Stretch>(num_threads);
        for (int64_t t = 0; t < num_threads; ++t) {
            const int64_t begin = num_items * t / num_threads, end = num_items * (t + 1) / num_threads;
            stretches_[t].set(static_cast<uint32_t>(begin), static_cast<uint32_t>(end));
        }
    }

    // The next item of thread `me`, or -1 if all are taken.
    int64_t next_item(int me) {
        int64_t item = stretches_[me].take(true);
        for (int other = 1; item < 0 && other < num_threads_; ++other) {
            item = stretches_[(me + other) % num_threads_].take(false);
        }
        return item;
    }

    void work(int me) {
        while (!failed_.load(std::memory_order_relaxed)) {
            const int64_t item = next_item(me);
            if (item < 0) return;
            try {
                (*task_)(item);
            } catch (...) {
                if (!failed_.exchange(true)) error_ = std::current_exception();
            }
        }
    }

    std::mutex turn_;
    int workers_ = 0;
    alignas(64) std::atomic<uint32_t> epoch_{0};
    alignas(64) std::atomic<uint32_t> gate_{CLOSED};  // CLOSED, or'ed with the number of workers inside
    std::vector<Stretch> stretches_;
    const std::function<void(int64_t)>* task_ = nullptr;
    int num_threads_ = 0;
    std::atomic<bool> failed_{false};
    std::exception_ptr error_;
};

// Never destroyed: its threads may outlive the static objects of the process.
std::atomic<Pool*> pool{nullptr};

void forget_pool() { pool.store(new Pool, std::memory_order_release); }

Pool& the_pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        forget_pool();
        pthread_atfork(nullptr, nullptr, forget_pool);  // the child has none of the threads
    });
    return *pool.load(std::memory_order_acquire);
}

struct Scratch {
    float* data = nullptr;
    int64_t count = 0;
    ~Scratch() { free(data); }
};

}  // namespace

void parallel_for(int num_threads, int64_t num_items, const std::function<void(int64_t)>& task) {
    if (num_threads <= 1 || num_items <= 1) {
        for (int64_t item = 0; item < num_items; ++item) task(item);
        return;
    }
    the_pool().run(num_threads, num_items, task);
}

float* thread_scratch(int64_t count) {
    thread_local Scratch scratch;
    if (count > scratch.count) {
        free(scratch.data);
        scratch.data = nullptr, scratch.count = 0;
        const int64_t rounded = (count + 1023) / 1024 * 1024;
        void* data = nullptr;
        if (posix_memalign(&data, 64, (size_t)rounded * sizeof(float)) != 0) throw std::bad_alloc();
        scratch.data = static_cast<float*>(data);
        scratch.count = rounded;
    }
    return scratch.data;
}

}  // namespace ostro
