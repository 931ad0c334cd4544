// The part of ostro._native that makes packed weights; ops/cpu.py calls it.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "ops.h"
#include "pack.h"
#include "packed.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace ostro {
namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using BytesOut = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

WeightView source(const std::string& kind, int64_t rows, int64_t cols, const Bytes& data) {
    return make_weight(kind, rows, cols, data.data(), static_cast<int64_t>(data.size()));
}

// Throws Error unless `codes` and `scales` have the sizes of `kind`.
void check_output(const std::string& kind, const WeightView& from, const BytesOut& codes, const BytesOut& scales,
                  const std::vector<int8_t>& codebook) {
    make_packed(kind, from.rows, from.cols, codes.data(), static_cast<int64_t>(codes.size()), scales.data(),
                static_cast<int64_t>(scales.size()), codebook.data(), static_cast<int64_t>(codebook.size()));
}

int64_t quantize_weight(const std::string& kind, int64_t rows, int64_t cols, const Bytes& data,
                        const std::string& packed_as, const std::vector<int8_t>& codebook, const BytesOut& codes,
                        const BytesOut& scales, const std::string& isa, int num_threads) {
    const WeightView floats = source(kind, rows, cols, data);
    if (kind_info(kind).elements != 1) throw Error("Floats can be quantized, not " + kind + ".");
    if (packed_as != "P4" && packed_as != "P4G" && packed_as != "P8") {
        throw Error("Floats can be quantized to P4, P4G and P8, not to " + packed_as + ".");
    }
    check_output(packed_as, floats, codes, scales, codebook);
    const Kind to = packed_as == "P8" ? Kind::P8 : packed_as == "P4" ? Kind::P4 : Kind::P4G;
    const Kernels& kernels = select_kernels(isa);
    nb::gil_scoped_release release;
    return quantize(kernels, num_threads, floats, to, codebook.data(), codes.data(), scales.data());
}

bool repack_weight(const std::string& kind, int64_t rows, int64_t cols, const Bytes& data, const BytesOut& codes,
                   const BytesOut& scales, int num_threads) {
    const WeightView blocks = source(kind, rows, cols, data);
    const char* packed_as = kind_name(repacked_kind(blocks.kind));
    check_output(packed_as, blocks, codes, scales, std::vector<int8_t>(packed_as[1] == '4' ? 16 : 0));
    nb::gil_scoped_release release;
    return repack(num_threads, blocks, codes.data(), scales.data());
}

}  // namespace

void bind_pack(nb::module_& m) {
    m.def("quantize", &quantize_weight, "kind"_a, "rows"_a, "cols"_a, "data"_a.noconvert(), "packed_as"_a,
          "codebook"_a, "codes"_a.noconvert(), "scales"_a.noconvert(), "isa"_a, "num_threads"_a);
    m.def("repack", &repack_weight, "kind"_a, "rows"_a, "cols"_a, "data"_a.noconvert(), "codes"_a.noconvert(),
          "scales"_a.noconvert(), "num_threads"_a);
}

}  // namespace ostro
