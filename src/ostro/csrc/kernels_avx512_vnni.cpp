#define OSTRO_VNNI

#include "vec_avx512.h"

#include "panel_avx512.h"

#include "kernels.inc.h"

namespace ostro {

extern const Kernels kernels_avx512_vnni;
const Kernels kernels_avx512_vnni = table("avx512_vnni");

}  // namespace ostro
