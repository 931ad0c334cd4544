#define OSTRO_VNNI

#include "vec_avx2.h"

#include "panel_avx2.h"

#include "kernels.inc.h"

namespace ostro {

extern const Kernels kernels_avx_vnni;
const Kernels kernels_avx_vnni = table("avx_vnni");

}  // namespace ostro
