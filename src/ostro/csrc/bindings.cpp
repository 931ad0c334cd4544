// ostro._native: what ops/cpu.py calls. Arrays are checked here for type, rank, contiguity and agreement of shapes;
// indices are checked in the driver. The GIL is released while kernels run.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <memory>

#include "bindings.h"
#include "ops.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace ostro {
namespace {

template <typename T, int N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
using Floats = Array<const float, 2>;
using FloatsOut = Array<float, 2>;
using Bytes = Array<const uint8_t, 1>;
using Ints = Array<const int32_t, 1>;
using Vector = Array<const float, 1>;
using PoolArray = nb::ndarray<uint8_t, nb::ndim<5>, nb::c_contig, nb::device::cpu>;

int64_t dim(const auto& array, size_t axis) { return static_cast<int64_t>(array.shape(axis)); }

void expect(bool fits, const char* what) {
    if (!fits) throw Error(std::string("Shapes do not agree: ") + what + ".");
}

// A checkpoint tensor where it lies; the array, and with it the file mapping, lives as long as this.
struct Weight {
    Weight(const std::string& kind, int64_t rows, int64_t cols, Bytes data)
        : owner(std::move(data)),
          view(make_weight(kind, rows, cols, owner.data(), static_cast<int64_t>(owner.size()))) {}

    Weight(const std::string& kind, int64_t rows, int64_t cols, Bytes codes, Bytes scale_bytes,
           const std::vector<int8_t>& values)
        : owner(std::move(codes)),
          scales(std::move(scale_bytes)),
          codebook(values),
          view(make_packed(kind, rows, cols, owner.data(), static_cast<int64_t>(owner.size()), scales.data(),
                           static_cast<int64_t>(scales.size()), codebook.data(),
                           static_cast<int64_t>(codebook.size()))) {}

    Bytes owner, scales;
    std::vector<int8_t> codebook;
    WeightView view;
};

bool is_norm(const Weight& weight) { return weight.view.rows == 1 && !is_packed(weight.view.kind); }

using Expert = std::tuple<const Weight*, const Weight*, const Weight*>;

void embedding(const Runtime& self, const Weight& table, const Ints& ids, const FloatsOut& out) {
    expect(dim(out, 0) == dim(ids, 0) && dim(out, 1) == table.view.cols,
           "embedding (V, D), token_ids (T,), out (T, D)");
    nb::gil_scoped_release release;
    self.embedding(table.view, ids.data(), dim(ids, 0), out.data());
}

void rms_norm(const Runtime& self, const Floats& x, const Weight& weight, float eps, const FloatsOut& out) {
    expect(is_norm(weight) && dim(x, 1) == weight.view.cols, "rms_norm of x (T, D) needs a weight (D,) of floats");
    expect(dim(out, 0) == dim(x, 0) && dim(out, 1) == dim(x, 1), "rms_norm needs out like x");
    nb::gil_scoped_release release;
    self.rms_norm(x.data(), dim(x, 0), weight.view, eps, out.data());
}

void linear(const Runtime& self, const Floats& x, const Weight& weight, const FloatsOut& out) {
    expect(dim(x, 1) == weight.view.cols, "linear of x (T, K) needs a weight (N, K)");
    expect(dim(out, 0) == dim(x, 0) && dim(out, 1) == weight.view.rows, "linear needs out (T, N)");
    nb::gil_scoped_release release;
    self.linear(x.data(), dim(x, 0), weight.view, out.data());
}

void logits(const Runtime& self, const Floats& x, const Weight& weight, const FloatsOut& out) {
    expect(dim(x, 1) == weight.view.cols, "logits of x (T, K) needs a weight (N, K)");
    expect(dim(out, 0) == dim(x, 0) && dim(out, 1) == weight.view.rows, "logits needs out (T, N)");
    nb::gil_scoped_release release;
    self.logits(x.data(), dim(x, 0), weight.view, out.data());
}

void linear_add(const Runtime& self, const Floats& x, const Weight& weight, const Floats& residual,
                const FloatsOut& out) {
    expect(dim(x, 1) == weight.view.cols, "linear_add of x (T, K) needs a weight (N, K)");
    expect(dim(out, 0) == dim(x, 0) && dim(out, 1) == weight.view.rows && dim(residual, 0) == dim(x, 0) &&
               dim(residual, 1) == weight.view.rows,
           "linear_add needs residual and out (T, N)");
    nb::gil_scoped_release release;
    self.project(x.data(), dim(x, 0), {{&weight.view, out.data(), residual.data()}});
}

void qkv(const Runtime& self, const Floats& x, const Weight& norm, float eps, const Weight& wq, const Weight& wk,
         const Weight& wv, const Array<const float, 3>& table, const FloatsOut& q, const FloatsOut& k,
         const FloatsOut& v) {
    const int64_t T = dim(x, 0), D = dim(x, 1), d = 2 * dim(table, 2);
    expect(is_norm(norm) && norm.view.cols == D, "qkv of x (T, D) needs a norm (D,) of floats");
    expect(wq.view.cols == D && wk.view.cols == D && wv.view.cols == D, "qkv of x (T, D) needs weights (N, D)");
    expect(d > 0 && dim(table, 0) == 2 && dim(table, 1) == T && wq.view.rows % d == 0 && wk.view.rows % d == 0,
           "qkv needs a table (2, T, d/2), and q and k of whole heads");
    expect(dim(q, 0) == T && dim(q, 1) == wq.view.rows && dim(k, 0) == T && dim(k, 1) == wk.view.rows &&
               dim(v, 0) == T && dim(v, 1) == wv.view.rows,
           "qkv needs q, k, v (T, N)");
    nb::gil_scoped_release release;
    self.qkv(x.data(), T, norm.view, eps, {&wq.view, &wk.view, &wv.view}, table.data(), d / 2, q.data(), k.data(),
             v.data());
}

void feed_forward(const Runtime& self, const Floats& x, const Weight& norm, float eps, const Weight& gate,
                  const Weight& up, const Weight& down, const FloatsOut& out) {
    const int64_t D = dim(x, 1), F = gate.view.rows;
    expect(is_norm(norm) && norm.view.cols == D, "feed_forward of x (T, D) needs a norm (D,) of floats");
    expect(gate.view.cols == D && up.view.cols == D && up.view.rows == F && down.view.cols == F && down.view.rows == D,
           "feed_forward needs gate and up (F, D) and down (D, F)");
    expect(dim(out, 0) == dim(x, 0) && dim(out, 1) == D, "feed_forward needs out like x");
    nb::gil_scoped_release release;
    self.feed_forward(x.data(), dim(x, 0), norm.view, eps, {&gate.view, &up.view, &down.view}, out.data());
}

void rope_table(const Runtime& self, const Ints& positions, const Array<const float, 1>& inv_freq,
                const Array<float, 3>& out) {
    expect(dim(out, 0) == 2 && dim(out, 1) == dim(positions, 0) && dim(out, 2) == dim(inv_freq, 0),
           "rope_table of positions (T,) and inv_freq (d/2,) needs out (2, T, d/2)");
    nb::gil_scoped_release release;
    self.rope_table(positions.data(), dim(positions, 0), inv_freq.data(), dim(inv_freq, 0), out.data());
}

void rotary(const Runtime& self, const FloatsOut& x, const Array<const float, 3>& table, int64_t num_heads) {
    expect(
        num_heads > 0 && dim(table, 0) == 2 && dim(table, 1) == dim(x, 0) && dim(x, 1) == num_heads * 2 * dim(table, 2),
        "rotary of x (T, num_heads * d) needs a table (2, T, d/2)");
    nb::gil_scoped_release release;
    self.rotary(x.data(), dim(x, 0), num_heads, table.data(), dim(table, 2));
}

void swiglu(const Runtime& self, const Floats& gate, const Floats& up, const FloatsOut& out) {
    expect(gate.size() == up.size() && gate.size() == out.size() && dim(gate, 1) == dim(up, 1) &&
               dim(gate, 1) == dim(out, 1),
           "swiglu needs gate, up and out alike");
    nb::gil_scoped_release release;
    self.swiglu(gate.data(), up.data(), static_cast<int64_t>(gate.size()), out.data());
}

void layer_norm(const Runtime& self, const Floats& x, const Vector& weight, const Vector& bias, float eps,
                const FloatsOut& out) {
    const int64_t T = dim(x, 0), D = dim(x, 1);
    expect(dim(weight, 0) == D && dim(bias, 0) == D, "layer_norm of x (T, D) needs weight and bias (D,)");
    expect(dim(out, 0) == T && dim(out, 1) == D, "layer_norm needs out like x");
    nb::gil_scoped_release release;
    self.layer_norm(x.data(), T, D, weight.data(), bias.data(), eps, out.data());
}

void gelu(const Runtime& self, const Floats& x, const FloatsOut& out) {
    expect(dim(out, 0) == dim(x, 0) && dim(out, 1) == dim(x, 1), "gelu needs out like x");
    nb::gil_scoped_release release;
    self.gelu(x.data(), static_cast<int64_t>(x.size()), out.data());
}

void encoder_attention(const Runtime& self, const Floats& q, const Floats& k, const Floats& v, const Ints& row_starts,
                       int64_t num_heads, const Floats& bias, const FloatsOut& out) {
    const int64_t T = dim(q, 0), D = dim(q, 1), S = dim(row_starts, 0) - 1, reach = dim(bias, 1);
    expect(num_heads > 0 && D % num_heads == 0, "encoder_attention needs q (T, num_heads * d)");
    for (const Floats& other : {k, v}) expect(dim(other, 0) == T && dim(other, 1) == D, "k and v are like q");
    expect(dim(out, 0) == T && dim(out, 1) == D && S >= 0, "out is like q, and row_starts (S + 1,)");
    expect(dim(bias, 0) == 0 || dim(bias, 0) == num_heads, "bias is (num_heads, reach), or (0, 0)");
    const int64_t d = D / num_heads;
    const EncoderView view{q.data(), k.data(), v.data(), row_starts.data(), T, S, num_heads, d,
                           1.0f / std::sqrt(static_cast<float>(d))};
    nb::gil_scoped_release release;
    self.encoder_attention(view, dim(bias, 0) == 0 ? nullptr : bias.data(), reach, out.data());
}

// The pool's arrays come as bytes: their last axis is what one position of one head takes.
Pool5 pool_view(const std::string& dtype, int64_t head_dim, const PoolArray& keys, const PoolArray& values) {
    const KvKind kind = kv_kind(dtype);
    expect(head_dim > 0 && dim(keys, 4) == kv_row_bytes(kind, head_dim), "a row of a K/V pool has the bytes of head_dim");
    for (size_t axis = 0; axis < 5; ++axis) {
        expect(keys.shape(axis) == values.shape(axis) && keys.shape(axis) > 0,
               "keys and values of a K/V pool are alike");
    }
    return {keys.data(),  values.data(), kind,         dim(keys, 0),
            dim(keys, 1), dim(keys, 2),  dim(keys, 3), head_dim};
}

void attention(const Runtime& self, const Floats& q, const Floats& k, const Floats& v, const std::string& dtype,
               int64_t head_dim, const PoolArray& keys, const PoolArray& values, int64_t layer, const Ints& positions,
               const Ints& row_starts, const Array<const int64_t, 1>& slots,
               const Array<const int32_t, 2>& block_tables, const Ints& table_starts, int64_t window,
               const FloatsOut& out) {
    const Pool5 pool = pool_view(dtype, head_dim, keys, values);
    const int64_t T = dim(q, 0), S = dim(table_starts, 0), kv_width = pool.num_kv_heads * pool.head_dim;
    expect(dim(k, 0) == T && dim(v, 0) == T && dim(k, 1) == kv_width && dim(v, 1) == kv_width,
           "k and v are (T, G * d) with the pool's G and d");
    expect(dim(q, 1) % pool.head_dim == 0 && dim(out, 0) == T && dim(out, 1) == dim(q, 1), "q and out are (T, H * d)");
    expect(dim(positions, 0) == T && dim(slots, 0) == T, "the batch has a position and a slot for each of the T rows");
    expect(dim(row_starts, 0) == S + 1 && dim(block_tables, 0) == S,
           "the batch has row_starts (S + 1,), block_tables (S, B) and table_starts (S,)");
    const BatchView batch{
        positions.data(),    row_starts.data(), slots.data(), block_tables.data(), table_starts.data(), T, S,
        dim(block_tables, 1)};
    nb::gil_scoped_release release;
    self.attention(q.data(), k.data(), v.data(), dim(q, 1) / pool.head_dim, pool, layer, batch, window, out.data());
}

void moe(const Runtime& self, const Floats& x, const Weight& router, const std::vector<Expert>& experts,
         int64_t num_experts_per_tok, const FloatsOut& out) {
    expect(dim(x, 1) == router.view.cols, "moe of x (T, D) needs a router (E, D)");
    expect(dim(out, 0) == dim(x, 0) && dim(out, 1) == dim(x, 1), "moe needs out like x");
    std::vector<ExpertView> views;
    for (const auto& [gate, up, down] : experts) {
        expect(gate && up && down, "an expert is (gate, up, down)");
        views.push_back({&gate->view, &up->view, &down->view});
    }
    nb::gil_scoped_release release;
    self.moe(x.data(), dim(x, 0), router.view, views, num_experts_per_tok, out.data());
}

}  // namespace
}  // namespace ostro

NB_MODULE(_native, m) {
    nb::set_leak_warnings(false);  // a server's engine thread may hold weights to the very end of the process
    using namespace ostro;
    m.doc() = "The C++ kernels of ostro.ops.cpu.";
    nb::exception<Error>(m, "NativeError", nb::module_::import_("ostro.errors").attr("BackendError").ptr());
    m.attr("MAX_LANES") = MAX_LANES;
    m.def("cpu_features", &cpu_features);
    m.def("compiled_isas", &compiled_isas);
    m.def("usable_isas", &usable_isas);
    bind_pack(m);
    nb::class_<Weight>(m, "Weight")
        .def(nb::init<const std::string&, int64_t, int64_t, Bytes>(), "kind"_a, "rows"_a, "cols"_a,
             "data"_a.noconvert())
        .def(nb::init<const std::string&, int64_t, int64_t, Bytes, Bytes, const std::vector<int8_t>&>(), "kind"_a,
             "rows"_a, "cols"_a, "codes"_a.noconvert(), "scales"_a.noconvert(), "codebook"_a)
        .def_prop_ro("kind", [](const Weight& w) { return kind_name(w.view.kind); })
        .def_prop_ro("rows", [](const Weight& w) { return w.view.rows; })
        .def_prop_ro("cols", [](const Weight& w) { return w.view.cols; })
        .def_prop_ro("nbytes", [](const Weight& w) { return w.owner.size() + w.scales.size(); });
    nb::class_<Runtime>(m, "Runtime")
        .def(nb::init<const std::string&, int>(), "isa"_a, "num_threads"_a)
        .def_prop_ro("isa", &Runtime::isa)
        .def_prop_ro("num_threads", &Runtime::num_threads)
        .def("embedding", &embedding, "table"_a, "ids"_a.noconvert(), "out"_a.noconvert())
        .def("rms_norm", &rms_norm, "x"_a.noconvert(), "weight"_a, "eps"_a, "out"_a.noconvert())
        .def("linear", &linear, "x"_a.noconvert(), "weight"_a, "out"_a.noconvert())
        .def("logits", &logits, "x"_a.noconvert(), "weight"_a, "out"_a.noconvert())
        .def("linear_add", &linear_add, "x"_a.noconvert(), "weight"_a, "residual"_a.noconvert(), "out"_a.noconvert())
        .def("qkv", &qkv, "x"_a.noconvert(), "norm"_a, "eps"_a, "wq"_a, "wk"_a, "wv"_a, "table"_a.noconvert(),
             "q"_a.noconvert(), "k"_a.noconvert(), "v"_a.noconvert())
        .def("feed_forward", &feed_forward, "x"_a.noconvert(), "norm"_a, "eps"_a, "gate"_a, "up"_a, "down"_a,
             "out"_a.noconvert())
        .def("rope_table", &rope_table, "positions"_a.noconvert(), "inv_freq"_a.noconvert(), "out"_a.noconvert())
        .def("rotary", &rotary, "x"_a.noconvert(), "table"_a.noconvert(), "num_heads"_a)
        .def("swiglu", &swiglu, "gate"_a.noconvert(), "up"_a.noconvert(), "out"_a.noconvert())
        .def("layer_norm", &layer_norm, "x"_a.noconvert(), "weight"_a.noconvert(), "bias"_a.noconvert(), "eps"_a,
             "out"_a.noconvert())
        .def("gelu", &gelu, "x"_a.noconvert(), "out"_a.noconvert())
        .def("encoder_attention", &encoder_attention, "q"_a.noconvert(), "k"_a.noconvert(), "v"_a.noconvert(),
             "row_starts"_a.noconvert(), "num_heads"_a, "bias"_a.noconvert(), "out"_a.noconvert())
        .def("attention", &attention, "q"_a.noconvert(), "k"_a.noconvert(), "v"_a.noconvert(), "dtype"_a, "head_dim"_a,
             "keys"_a.noconvert(), "values"_a.noconvert(), "layer"_a, "positions"_a.noconvert(),
             "row_starts"_a.noconvert(), "slots"_a.noconvert(), "block_tables"_a.noconvert(),
             "table_starts"_a.noconvert(), "window"_a, "out"_a.noconvert())
        .def("moe", &moe, "x"_a.noconvert(), "router"_a, "experts"_a, "num_experts_per_tok"_a, "out"_a.noconvert());
    bind_ceilings(m);
}
