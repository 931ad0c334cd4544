// Weights into panels: floats rounded to codes, GGUF blocks laid out anew, byte for byte as checkpoint/packing.py does.
#pragma once

#include <string>

#include "isa.h"
#include "types.h"

namespace ostro {

// Rounds floats (F32, F16 or BF16) to P8, or with 16 ascending values of a codebook to P4 or P4G. Returns -1, or the
// first row of a panel that holds a weight which is not finite or lies above the range of float16.
int64_t quantize(const Kernels& kernels, int num_threads, const WeightView& floats, Kind kind, const int8_t* codebook,
                 uint8_t* codes, uint8_t* scales);

// The packed kind that holds the values of a kind of GGUF blocks exactly; throws Error for one that has none.
Kind repacked_kind(Kind kind);

// Lays blocks out as that kind. False, and the output of no use, where a Q8_0 matrix holds -128.
bool repack(int num_threads, const WeightView& blocks, uint8_t* codes, uint8_t* scales);

}  // namespace ostro
