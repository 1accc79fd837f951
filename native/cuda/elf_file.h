// Reads a shared library's headers without loading it. The dynamic loader maps a truncated file and dies of SIGBUS when
// it touches the missing pages, so a file is opened only after it has passed this check.
#pragma once

#include <string>

namespace cudnn_lstm::cuda {

// Empty if `path` is an intact ELF shared library for this machine whose soname is `soname` (any if empty); otherwise
// what is wrong with it, in a few words.
std::string shared_library_fault(const std::string& path, const std::string& soname);

}  // namespace cudnn_lstm::cuda
