// Mixture of experts: each expert's weights are read once for all the rows that chose it.

#include <math.h>

#include <algorithm>

#include "ops.h"
#include "thread_pool.h"

namespace ostro {
namespace {

struct Choice {
    int64_t expert;
    float weight;
};

// The best experts of one row of logits, ties towards the lower one, with their softmax weights, best first.
std::vector<Choice> route(const float* logits, int64_t num_experts, int64_t num_experts_per_tok) {
    std::vector<Choice> all(static_cast<size_t>(num_experts));
    for (int64_t e = 0; e < num_experts; ++e) all[static_cast<size_t>(e)] = {e, logits[e]};
    // NaN logits are all equally bad, so that the order stays a strict one.
    const auto better = [](const Choice& a, const Choice& b) {
        return isnan(b.weight) ? !isnan(a.weight) : a.weight > b.weight;
    };
    std::stable_sort(all.begin(), all.end(), better);
    all.resize(static_cast<size_t>(num_experts_per_tok));
    float sum = 0.0f;
    const float best = all[0].weight;
    for (Choice& choice : all) sum += choice.weight = expf(choice.weight - best);
    for (Choice& choice : all) choice.weight /= sum;
    return all;
}

void check_experts(const WeightView& router, const std::vector<ExpertView>& experts, int64_t num_experts_per_tok) {
    const int64_t E = static_cast<int64_t>(experts.size()), D = router.cols;
    if (E < 1 || router.rows != E) {
        throw Error("The router scores " + std::to_string(router.rows) + " experts, but there are " +
                    std::to_string(E) + ".");
    }
    if (num_experts_per_tok < 1 || num_experts_per_tok > E) {
        throw Error("num_experts_per_tok must be between 1 and " + std::to_string(E) + ", not " +
                    std::to_string(num_experts_per_tok) + ".");
    }
    for (const ExpertView& e : experts) {
        const int64_t F = e.gate->rows;
        if (e.gate->cols != D || e.up->cols != D || e.up->rows != F || e.down->cols != F || e.down->rows != D) {
            throw Error("The shapes of an expert's gate, up and down projections do not fit each other or the router.");
        }
    }
}

struct Member {
    int64_t row;
    float weight;
};

}  // namespace

void Runtime::moe(const float* x, int64_t T, const WeightView& router, const std::vector<ExpertView>& experts,
                  int64_t num_experts_per_tok, float* out) const {
    check_experts(router, experts, num_experts_per_tok);
    const int64_t E = router.rows, D = router.cols;
    std::vector<float> logits(static_cast<size_t>(T * E));
    linear(x, T, router, logits.data());
    std::vector<std::vector<Member>> members(experts.size());
    for (int64_t t = 0; t < T; ++t) {
        for (const Choice& choice : route(logits.data() + t * E, E, num_experts_per_tok)) {
            members[static_cast<size_t>(choice.expert)].push_back({t, choice.weight});
        }
    }
    std::fill_n(out, T * D, 0.0f);
    std::vector<float> rows, results;
    for (size_t e = 0; e < experts.size(); ++e) {
        const int64_t count = static_cast<int64_t>(members[e].size());
        if (count == 0) continue;
        rows.resize(static_cast<size_t>(count * D));
        results.resize(static_cast<size_t>(count * D));
        for (int64_t i = 0; i < count; ++i) {
            std::copy_n(x + members[e][static_cast<size_t>(i)].row * D, D, rows.data() + i * D);
        }
        expert(rows.data(), count, experts[e], nullptr, results.data());
        for (int64_t i = 0; i < count; ++i) {
            const Member& m = members[e][static_cast<size_t>(i)];
            kernels_.add_scaled(m.weight, results.data() + i * D, D, out + m.row * D);
        }
    }
}

}  // namespace ostro
