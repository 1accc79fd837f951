#include "cuda/library_search.h"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace cudnn_lstm::cuda {
namespace {

namespace fs = std::filesystem;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

// A folder's entries whose names start with `prefix`, sorted; empty if the folder cannot be read.
std::vector<fs::path> entries_with_prefix(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->path().filename().string().rfind(prefix, 0) == 0) found.push_back(it->path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

class PlanBuilder {
 public:
  void add(const fs::path& folder, const std::string& source) {
    std::error_code error;
    if (!fs::is_directory(folder, error)) return;
    const std::string path = fs::weakly_canonical(folder, error).string();
    for (const SearchFolder& known : plan_.folders) {
      if (known.path == path) return;
    }
    plan_.folders.push_back({path, source});
  }

  // A folder that holds libraries itself, or an unpacked toolkit, or NVIDIA's wheels.
  void add_root(const fs::path& root, const std::string& source) {
    std::error_code error;
    if (!fs::is_directory(root, error)) plan_.fault = root.string() + " (" + source + ") is not a folder";
    add(root, source);
    add(root / "lib", source);
    add(root / "lib64", source);
    add_wheels(root, source);
  }

  // NVIDIA's wheels put their libraries in nvidia/<package>/lib below a site-packages folder.
  void add_wheels(const fs::path& site, const std::string& source) {
    add(site / "nvidia" / "cudnn" / "lib", source);
    add(site / "nvidia" / "nccl" / "lib", source);
    for (const fs::path& package : entries_with_prefix(site / "nvidia", "cu")) add(package / "lib", source);
  }

  // The wheels of a Python installation; `prefix` holds its lib folders.
  void add_python(const fs::path& prefix, const std::string& source) {
    for (const char* library : {"lib", "lib64", "local/lib"}) {
      for (const fs::path& python : entries_with_prefix(prefix / library, "python3")) {
        add_wheels(python / "site-packages", source);
        add_wheels(python / "dist-packages", source);
      }
    }
  }

  // The folders that each python3 on PATH, or a pyenv shim in its place, would import from.
  void add_pythons_on_path() {
    std::error_code error;
    for (const std::string& bin : split(environment("PATH"), ':')) {
      const fs::path python = fs::path(bin) / "python3";
      if (!fs::exists(python, error)) continue;
      const std::string source = "site-packages of " + python.string();
      add_python(fs::path(bin).parent_path(), source);
      add_python(fs::weakly_canonical(python, error).parent_path().parent_path(), source);
      if (fs::path(bin).filename() == "shims")
        add_pyenv(fs::path(bin).parent_path(), "pyenv's shim " + python.string());
    }
  }

  void add_pyenv(const fs::path& root, const std::string& source) {
    for (const fs::path& version : entries_with_prefix(root / "versions", "")) add_python(version, source);
  }

  void mark_explicit() { plan_.explicit_count = plan_.folders.size(); }
  SearchPlan take() { return std::move(plan_); }

 private:
  SearchPlan plan_;
};

// The folder of an already loaded library, whose copy is the one any later dlopen would get.
std::string folder_of_loaded(const char* soname) {
  void* handle = dlopen(soname, RTLD_NOW | RTLD_NOLOAD);
  if (handle == nullptr) return {};
  link_map* map = nullptr;
  std::string path;
  if (dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map != nullptr && map->l_name != nullptr) path = map->l_name;
  dlclose(handle);
  return path.empty() ? path : fs::path(path).parent_path().string();
}

// The .nvidia folder of the package this binary belongs to: build/Release/x.node or prebuilds/<platform>/x.node.
fs::path own_wheels() {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&search_plan), &info) == 0 || info.dli_fname == nullptr) return {};
  std::error_code error;
  return fs::weakly_canonical(info.dli_fname, error).parent_path().parent_path().parent_path() / ".nvidia";
}

std::vector<std::string> system_folders() {
#if defined(__aarch64__)
  std::vector<std::string> folders = {"/usr/lib/aarch64-linux-gnu", "/lib/aarch64-linux-gnu"};
#else
  std::vector<std::string> folders = {"/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu"};
#endif
  for (const char* folder : {"/usr/lib64", "/usr/lib", "/lib64", "/usr/local/lib"}) folders.push_back(folder);
  std::vector<fs::path> files = entries_with_prefix("/etc/ld.so.conf.d", "");
  files.insert(files.begin(), "/etc/ld.so.conf");
  for (const fs::path& file : files) {
    std::ifstream stream(file);
    for (std::string line; std::getline(stream, line);) {
      const std::size_t first = line.find_first_not_of(" \t");
      if (first != std::string::npos && line[first] == '/') {
        folders.push_back(line.substr(first, line.find_last_not_of(" \t\r") - first + 1));
      }
    }
  }
  return folders;
}

}  // namespace

SearchPlan search_plan(const std::string& library_path) {
  PlanBuilder plan;
  if (!library_path.empty()) plan.add_root(library_path, "the library path");
  const std::string variable = environment("CUDNN_LSTM_LIBRARY_PATH");
  if (!variable.empty()) plan.add_root(variable, "CUDNN_LSTM_LIBRARY_PATH");
  plan.mark_explicit();
  for (const char* soname : {"libcudnn.so.9", "libcublas.so.13", "libcublas.so.12"}) {
    const std::string folder = folder_of_loaded(soname);
    if (!folder.empty()) plan.add(folder, "already loaded");
  }
  plan.add_wheels(own_wheels(), "the package's .nvidia");
  const std::string environment_of_python = environment("VIRTUAL_ENV");
  if (!environment_of_python.empty()) plan.add_python(environment_of_python, "VIRTUAL_ENV");
  for (const std::string& site : split(environment("PYTHONPATH"), ':')) plan.add_wheels(site, "PYTHONPATH");
  plan.add_pythons_on_path();
  const std::string home = environment("HOME");
  // Where pip installs for users who may not write to the system.
  if (!home.empty()) plan.add_python(fs::path(home) / ".local", "the user's site-packages");
  const std::string pyenv = environment("PYENV_ROOT");
  if (!pyenv.empty()) plan.add_pyenv(pyenv, "PYENV_ROOT");
  const std::string conda = environment("CONDA_PREFIX");
  if (!conda.empty()) {
    plan.add(fs::path(conda) / "lib", "CONDA_PREFIX");
    plan.add_python(conda, "CONDA_PREFIX");
  }
  for (const std::string& folder : split(environment("LD_LIBRARY_PATH"), ':')) plan.add(folder, "LD_LIBRARY_PATH");
  const std::string cuda = environment("CUDA_PATH");
  if (!cuda.empty()) {
    plan.add(fs::path(cuda) / "lib64", "CUDA_PATH");
    plan.add(fs::path(cuda) / "lib", "CUDA_PATH");
  }
  for (const std::string& folder : system_folders()) plan.add(folder, "the system's library folders");
  for (const fs::path& toolkit : entries_with_prefix("/usr/local", "cuda"))
    plan.add(toolkit / "lib64", "/usr/local/cuda*");
  return plan.take();
}

std::vector<std::string> describe(const SearchPlan& plan) {
  std::vector<std::string> lines;
  std::string source;
  for (const SearchFolder& folder : plan.folders) {
    if (folder.source == source) {
      lines.back() += ", " + folder.path;
    } else {
      lines.push_back(folder.source + ": " + folder.path);
      source = folder.source;
    }
  }
  return lines;
}

}  // namespace cudnn_lstm::cuda
