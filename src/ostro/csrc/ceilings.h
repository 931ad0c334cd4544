// What this machine can do at most, measured: what `ostro bench` holds its own speed against.
//
// Every number is the best of many short measurements: whatever else runs on the machine only slows a loop down.
#pragma once

#include "types.h"

namespace ostro {

struct Ceilings {
    double read_bytes;  // a second, from memory that no cache holds
    double dot_ops;     // a second: int8 dot products of the kernel set; a multiply-add is two operations
    double fma_ops;     // a second: float32 multiply-adds; the same
};

// On `num_threads` threads, about `seconds` for each of the three. `buffer_bytes` should be several times the last
// cache. Throws Error for numbers that make no sense.
Ceilings measure_ceilings(const Kernels& kernels, int num_threads, int64_t buffer_bytes, double seconds);

}  // namespace ostro
