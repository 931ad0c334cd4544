#include "vec_avx512.h"

#include "panel_avx512.h"

#include "kernels.inc.h"

namespace ostro {

extern const Kernels kernels_avx512;
const Kernels kernels_avx512 = table("avx512");

}  // namespace ostro
