// Which kernels run: the best that was compiled in and that CPU and operating system support, or the one asked for.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "types.h"

namespace ostro {

// What a user or a caller did wrong; Python sees ostro.errors.BackendError.
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Extensions of interest that this CPU has and the operating system has switched on.
std::vector<std::string> cpu_features();

// Kernel sets that were compiled in, and those of them that can run here; the best is last.
std::vector<std::string> compiled_isas();
std::vector<std::string> usable_isas();

// The kernels of one set; an empty name means the best. Throws Error for a name that is unknown or cannot run here.
const Kernels& select_kernels(const std::string& name);

}  // namespace ostro
