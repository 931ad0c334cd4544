// One pool of threads for the process: the caller and its workers share numbered items.
//
// Each has a stretch of neighbouring items, which mostly lie side by side in memory: reading one stretch each, two
// threads got 10 % more out of the memory of a Zen 4 than taking pieces of 128 KB in turn. Who has done with its own
// helps the others from the back: who computes an item never shows in its result. A worker that wakes late finds the
// job closed and is not waited for: on a busy machine a step costs what the caller alone would need, not more.
// Idle workers spin for 200 microseconds (longer than the pause between two operations of a step), then sleep in the
// kernel. Calls from several Python threads take turns. After fork() the child starts a new pool when it first needs
// one; the parent's is untouched.
#pragma once

#include <stdint.h>

#include <functional>

namespace ostro {

// Runs task(item) for 0 <= item < num_items on at most num_threads threads; the first exception is thrown again here.
// `task` must not call parallel_for.
void parallel_for(int num_threads, int64_t num_items, const std::function<void(int64_t)>& task);

// At least `count` floats, aligned to 64 bytes, of the calling thread; valid until its next call. Contents: anything.
float* thread_scratch(int64_t count);

}  // namespace ostro
