#include "isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ostro {

extern const Kernels kernels_portable;
#if defined(OSTRO_X86_ISAS)
extern const Kernels kernels_avx2;
extern const Kernels kernels_avx_vnni;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512_vnni;
#endif

namespace {

struct Isa {
    const Kernels* kernels;
    std::vector<std::string> needs;
};

const std::vector<Isa>& isas() {
    static const std::vector<Isa> all = {
        {&kernels_portable, {}},
#if defined(OSTRO_X86_ISAS)
        {&kernels_avx2, {"avx2", "fma", "f16c"}},
        {&kernels_avx_vnni, {"avx2", "fma", "f16c", "avx_vnni"}},
        {&kernels_avx512, {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq"}},
        {&kernels_avx512_vnni, {"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_vnni"}},
#endif
    };
    return all;
}

#if defined(__x86_64__)
struct Registers {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};
Registers cpuid(unsigned leaf, unsigned subleaf) {
    Registers r;
    __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
    return r;
}
// Register states that the operating system saves and restores: bits 1, 2 for AVX, and 5 to 7 for AVX-512.
unsigned saved_states() {
    if (!(cpuid(1, 0).ecx >> 27 & 1)) return 0;
    unsigned low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}
std::vector<std::string> detect() {
    std::vector<std::string> found = {"sse2"};
    const auto add = [&found](const char* name, unsigned reg, int bit) {
        if (reg >> bit & 1) found.push_back(name);
    };
    const unsigned states = saved_states();
    const Registers one = cpuid(1, 0), seven = cpuid(7, 0), seven1 = cpuid(7, 1);
    if ((states & 0x6) != 0x6) return found;
    add("avx", one.ecx, 28), add("fma", one.ecx, 12), add("f16c", one.ecx, 29), add("avx2", seven.ebx, 5);
    add("avx_vnni", seven1.eax, 4);
    if ((states & 0xe6) != 0xe6) return found;
    add("avx512f", seven.ebx, 16), add("avx512dq", seven.ebx, 17), add("avx512bw", seven.ebx, 30);
    add("avx512vl", seven.ebx, 31), add("avx512_vnni", seven.ecx, 11), add("avx512_bf16", seven1.eax, 5);
    return found;
}
#elif defined(__aarch64__)
std::vector<std::string> detect() { return {"neon"}; }
#else
std::vector<std::string> detect() { return {}; }
#endif

bool runs_here(const Isa& isa) {
    const std::vector<std::string> have = cpu_features();
    for (const std::string& need : isa.needs) {
        bool found = false;
        for (const std::string& feature : have) found = found || feature == need;
        if (!found) return false;
    }
    return true;
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
    return text;
}

}  // namespace

std::vector<std::string> cpu_features() {
    static const std::vector<std::string> features = detect();
    return features;
}

std::vector<std::string> compiled_isas() {
    std::vector<std::string> names;
    for (const Isa& isa : isas()) names.push_back(isa.kernels->name);
    return names;
}

std::vector<std::string> usable_isas() {
    std::vector<std::string> names;
    for (const Isa& isa : isas()) {
        if (runs_here(isa)) names.push_back(isa.kernels->name);
    }
    return names;
}

const Kernels& select_kernels(const std::string& name) {
    const Kernels* best = nullptr;
    for (const Isa& isa : isas()) {
        if ((name.empty() || name == isa.kernels->name) && runs_here(isa)) best = isa.kernels;
    }
    if (best == nullptr) {
        throw Error("The kernel set '" + name + "' (OSTRO_ISA) cannot run here; this CPU and build can run: " +
                    joined(usable_isas()) + ". Unset OSTRO_ISA to take the best.");
    }
    return *best;
}

}  // namespace ostro
