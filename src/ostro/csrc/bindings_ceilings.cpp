// ostro._native.measure_ceilings.

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include "bindings.h"
#include "ceilings.h"
#include "isa.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace ostro {
namespace {

std::tuple<double, double, double> measure(const std::string& isa, int num_threads, int64_t buffer_bytes,
                                           double seconds) {
    const Kernels& kernels = select_kernels(isa);
    nb::gil_scoped_release release;
    const Ceilings found = measure_ceilings(kernels, num_threads, buffer_bytes, seconds);
    return {found.read_bytes, found.dot_ops, found.fma_ops};
}

}  // namespace

void bind_ceilings(nb::module_& m) {
    m.def("measure_ceilings", &measure, "isa"_a, "num_threads"_a, "buffer_bytes"_a, "seconds"_a);
}

}  // namespace ostro
