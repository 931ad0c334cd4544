#include "vec_portable.h"

#include "panel_portable.h"

#include "kernels.inc.h"

namespace ostro {

extern const Kernels kernels_portable;
const Kernels kernels_portable = table("portable");

}  // namespace ostro
