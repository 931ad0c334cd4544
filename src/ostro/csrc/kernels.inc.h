// The kernels of one ISA; a translation unit includes its vec_*.h and then this.
#pragma once

#include "types.h"

#include <string.h>

#include "gguf_scales.h"
#include "unroll.h"

#include "decode.inc.h"
#include "linear.inc.h"
#include "elementwise.inc.h"
#include "encoder.inc.h"
#include "kv.inc.h"
#include "attention_tiles.inc.h"
#include "attention.inc.h"
#include "rounding.inc.h"
#include "packed.inc.h"
#include "pack.inc.h"
#include "ceilings.inc.h"

namespace {

constexpr ostro::Kernels table(const char* name) {
    return {name,       linear_scratch, linear, attention_scratch, attention,       attention_merge,   kv_store,
            decode,     encode,         rms_norm, rotary,          swiglu,          add_scaled,        layer_norm,
            gelu,       encoder_scratch, encoder_attention, round_rows, packed,     fit_scales,        encode_group,
            read_memory, repeat_fma,    repeat_dot};
}

}  // namespace
