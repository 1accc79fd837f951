// Where NVIDIA's libraries may be on this machine. This only names folders; nothing is loaded.
#pragma once

#include <string>
#include <vector>

namespace cudnn_lstm::cuda {

struct SearchFolder {
  std::string path;
  std::string source;  // why it is searched: "CUDNN_LSTM_LIBRARY_PATH", "python3's site-packages" ...
};

// In order: `library_path`, CUDNN_LSTM_LIBRARY_PATH, the folder of a library of this name that is already loaded, the
// package's own .nvidia, then where Python would import NVIDIA's wheels from (VIRTUAL_ENV, PYTHONPATH, every python3 on
// PATH, ~/.local, PYENV_ROOT), CONDA_PREFIX, LD_LIBRARY_PATH, CUDA_PATH, the system's folders with those of ld.so.conf,
// /usr/local/cuda*. Existing folders only, each once; the first `explicit_count` are explicit.
struct SearchPlan {
  std::vector<SearchFolder> folders;
  std::size_t explicit_count = 0;
  std::string fault;  // what is wrong with a named folder; empty if nothing
};
SearchPlan search_plan(const std::string& library_path);

// The folders found per source, for error messages: "LD_LIBRARY_PATH: /a, /b".
std::vector<std::string> describe(const SearchPlan& plan);

}  // namespace cudnn_lstm::cuda
