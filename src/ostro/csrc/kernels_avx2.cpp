#include "vec_avx2.h"

#include "panel_avx2.h"

#include "kernels.inc.h"

namespace ostro {

extern const Kernels kernels_avx2;
const Kernels kernels_avx2 = table("avx2");

}  // namespace ostro
