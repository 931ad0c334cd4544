// The parts of ostro._native that have a file of their own; bindings.cpp calls them.
#pragma once

#include <nanobind/nanobind.h>

namespace ostro {

void bind_ceilings(nanobind::module_& m);
void bind_pack(nanobind::module_& m);

}  // namespace ostro
