#include "cuda/libraries.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>

#include "cuda/elf_file.h"
#include "cuda/library_search.h"

namespace cudnn_lstm::cuda {
namespace {

namespace fs = std::filesystem;

constexpr const char* kRemedy =
    "install cuDNN 9 and cuBLAS (pip install nvidia-cudnn-cu13 nvidia-cublas, or NVIDIA's packages for your system), "
    "or name "
    "their folder with CUDNN_LSTM_LIBRARY_PATH, or use device cpu";

// cublasGemmEx_64 came with CUDA 12.
constexpr int kOldestRelease = 12;

// In the order they are opened, so that each finds its dependencies already loaded, under their sonames, and
// libcudnn.so never has to look for a part (if one is missing it prints a line and aborts the process). The first needs
// only the C library, and knows which CUDA release all are built for.
struct CudnnPart {
  const char* soname;
  bool required;
};
constexpr CudnnPart kCudnnParts[] = {
    {"libcudnn_graph.so.9", true},
    {"libcudnn_ops.so.9", true},
    {"libcudnn_heuristic.so.9", true},
    {"libcudnn_engines_precompiled.so.9", true},
    {"libcudnn_engines_runtime_compiled.so.9", true},
    {"libcudnn_engines_tensor_ir.so.9", false},
    {"libcudnn_cnn.so.9", true},
    {"libcudnn_ext.so.9", false},
    {"libcudnn_adv.so.9", true},
    {"libcudnn.so.9", true},
};

bool exists(const std::string& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

std::string join(const std::vector<std::string>& lines, const char* separator) {
  std::string text;
  for (const std::string& line : lines) text += (text.empty() ? "" : separator) + line;
  return text;
}

class Loader {
 public:
  Loader(const std::string& library_path, std::vector<std::string>& searched)
      : plan_(search_plan(library_path)), searched_(searched) {}

  void find() {
    find_cudnn();
    find_cublas({"13", "12"});
  }

  std::shared_ptr<const Libraries> load() {
    find_cudnn();
    // cuDNN opens cuBLAS itself when it first needs it, under the name of the release that cuDNN is built for, and must
    // find that one already loaded.
    void* graph = open(cudnn_folder_ + "/" + kCudnnParts[0].soname);
    decltype(&::cudnnGetCudartVersion) cudart_version = nullptr;
    resolve(graph, "cudnnGetCudartVersion", "cuDNN", cudart_version);
    const int release = static_cast<int>(cudart_version() / 1000);
    if (release < kOldestRelease) {
      fail("cuDNN in " + cudnn_folder_ + " is built for CUDA " + std::to_string(release) +
           ", whose cuBLAS lacks what is needed: take cuDNN for CUDA 12 or 13");
    }
    find_cublas({std::to_string(release)});
    auto libraries = std::make_shared<Libraries>();
    open(cublas_folder_ + "/libcublasLt.so." + cublas_major_);
    const std::string cublas_path = cublas_folder_ + "/libcublas.so." + cublas_major_;
    void* cublas = open(cublas_path);
    libraries->nvrtc = open_nvrtc();
    void* cudnn = nullptr;
    for (const CudnnPart& part : kCudnnParts) {
      const std::string path = cudnn_folder_ + "/" + part.soname;
      if (part.required || exists(path)) cudnn = open(path);
    }
#define RESOLVE(name) resolve(cudnn, #name, "cuDNN", libraries->cudnn.name);
    CUDNN_LSTM_CUDNN_FUNCTIONS(RESOLVE)
#undef RESOLVE
#define TEXT(name) #name
#define RESOLVE(name) resolve(cublas, TEXT(name), "cuBLAS", libraries->cublas.name);
    CUDNN_LSTM_CUBLAS_FUNCTIONS(RESOLVE)
#undef RESOLVE
#undef TEXT
    check_cudnn_version(*libraries, cudnn_folder_ + "/libcudnn.so.9");
    libraries->cublas_version = {read_cublas_version(*libraries), cublas_path};
    note("cuBLAS " + libraries->cublas_version.version + ": " + cublas_path);
    return libraries;
  }

 private:
  void note(const std::string& line) { searched_.push_back(line); }

  [[noreturn]] void fail(const std::string& what) {
    note(what);
    throw Error(kDeviceUnavailable, what + "; " + kRemedy + ". Looked in: " + join(describe(plan_), "; "));
  }

  // Finds the first folder with an intact libcublas of one of these major versions.
  void find_cublas(const std::vector<std::string>& majors) {
    for (std::size_t i = 0; i < plan_.folders.size(); ++i) {
      const SearchFolder& folder = plan_.folders[i];
      for (const std::string& major : majors) {
        const std::string soname = "libcublas.so." + major;
        if (!exists(folder.path + "/" + soname)) continue;
        const std::string light = "libcublasLt.so." + major;
        std::string fault = fault_of(folder.path, soname);
        if (fault.empty()) fault = fault_of(folder.path, light);
        if (fault.empty()) {
          cublas_major_ = major;
          cublas_folder_ = folder.path;
          note("cuBLAS: found in " + folder.path + " (" + folder.source + ")");
          return;
        }
        note("cuBLAS: " + fault + " (" + folder.source + ")");
        if (i < plan_.explicit_count) fail("cuBLAS cannot be used: " + fault);
      }
    }
    std::vector<std::string> names;
    for (const std::string& major : majors) names.push_back("libcublas.so." + major);
    fail("cuBLAS was not found (" + join(names, ", ") + ")");
  }

  // All parts of cuDNN come from one folder, lest two versions end up in one process. A folder that was named must have
  // all of them, intact; one that was found with fewer is noted, and the next is tried.
  void find_cudnn() {
    if (!plan_.fault.empty()) fail(plan_.fault);
    for (std::size_t i = 0; i < plan_.folders.size(); ++i) {
      const SearchFolder& folder = plan_.folders[i];
      bool any = false;
      for (const CudnnPart& part : kCudnnParts) any = any || exists(folder.path + "/" + part.soname);
      if (!any) {
        if (exists(folder.path + "/libcudnn.so.8"))
          note("cuDNN: " + folder.path + " holds cuDNN 8, 9 is needed (" + folder.source + ")");
        continue;
      }
      std::vector<std::string> faults;
      for (const CudnnPart& part : kCudnnParts) {
        if (!part.required && !exists(folder.path + "/" + part.soname)) continue;
        const std::string fault = fault_of(folder.path, part.soname);
        if (!fault.empty()) faults.push_back(fault);
      }
      if (faults.empty()) {
        note("cuDNN: found in " + folder.path + " (" + folder.source + ")");
        cudnn_folder_ = folder.path;
        return;
      }
      note("cuDNN: " + join(faults, ", ") + " (" + folder.source + ")");
      if (i < plan_.explicit_count) fail("cuDNN cannot be used: " + join(faults, ", "));
      broken_ = join(faults, ", ");
    }
    if (!broken_.empty()) fail("cuDNN cannot be used: " + broken_);
    fail("cuDNN 9 was not found (libcudnn.so.9)");
  }

  static std::string fault_of(const std::string& folder, const std::string& soname) {
    const std::string path = folder + "/" + soname;
    if (!exists(path)) return path + " is missing";
    const std::string fault = shared_library_fault(path, soname);
    return fault.empty() ? fault : path + ": " + fault;
  }

  void* open(const std::string& path) {
    void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      const char* reason = dlerror();
      fail(path + " could not be opened: " + (reason ? reason : "unknown reason"));
    }
    return handle;
  }

  // Optional: only the run-time compiled algorithms need it.
  bool open_nvrtc() {
    for (const SearchFolder& folder : plan_.folders) {
      const std::string soname = "libnvrtc.so." + cublas_major_;
      const std::string path = folder.path + "/" + soname;
      if (!exists(path) || !shared_library_fault(path, soname).empty()) continue;
      if (!open_nvrtc_builtins(folder.path)) {
        note("NVRTC: " + path + " has no libnvrtc-builtins beside it, without which it compiles nothing");
        continue;
      }
      if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr) {
        note("NVRTC: " + path);
        return true;
      }
    }
    note("NVRTC: not found (optional; cuDNN's persist-dynamic algorithm needs it)");
    return false;
  }

  // NVRTC opens its builtins by name when it first compiles, and searches only the system's folders. If NVRTC lies in a
  // wheel's folder, every compilation fails unless the builtins are already loaded.
  static bool open_nvrtc_builtins(const std::string& folder) {
    const std::string prefix = "libnvrtc-builtins.so.";
    bool opened = false;
    std::error_code error;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename().string();
      if (name.rfind(prefix, 0) != 0 || !shared_library_fault(entry.path().string(), "").empty()) continue;
      opened = dlopen(entry.path().c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr || opened;
    }
    return opened;
  }

  template <class Function>
  void resolve(void* library, const char* name, const char* title, Function& function) {
    function = reinterpret_cast<Function>(dlsym(library, name));
    if (function == nullptr) fail(std::string(title) + " has no function " + name + ": another version is needed");
  }

  void check_cudnn_version(Libraries& libraries, const std::string& path) {
    const std::size_t number = libraries.cudnn.cudnnGetVersion();
    const std::size_t unit = number < 10'000 ? 1000 : 10'000;  // 8907 is 8.9.7, 92400 is 9.24.0
    const std::string version =
        std::to_string(number / unit) + "." + std::to_string(number % unit / 100) + "." + std::to_string(number % 100);
    if (number / unit != 9) fail("cuDNN " + version + " in " + path + " cannot be used: version 9 is needed");
    for (const auto check : {libraries.cudnn.cudnnGraphVersionCheck, libraries.cudnn.cudnnOpsVersionCheck,
                             libraries.cudnn.cudnnCnnVersionCheck, libraries.cudnn.cudnnAdvVersionCheck}) {
      const cudnnStatus_t status = check();
      if (status == CUDNN_STATUS_SUCCESS) continue;
      fail("cuDNN " + version + " in " + path + " cannot be used: its parts are of different versions (" +
           libraries.cudnn.cudnnGetErrorString(status) + ")");
    }
    libraries.cudnn_version = {version, path};
    note("cuDNN " + version + ": " + path);
  }

  // Needs no handle in any cuBLAS version tried.
  static std::string read_cublas_version(const Libraries& libraries) {
    int number = 0;
    if (libraries.cublas.cublasGetVersion_v2(nullptr, &number) != CUBLAS_STATUS_SUCCESS) return "unknown";
    return std::to_string(number / 10'000) + "." + std::to_string(number / 100 % 100) + "." +
           std::to_string(number % 100);
  }

  SearchPlan plan_;
  std::vector<std::string>& searched_;
  std::string cublas_folder_, cudnn_folder_;
  std::string cublas_major_ = "13";
  std::string broken_;
};

}  // namespace

std::shared_ptr<const Libraries> open_libraries(const std::string& library_path, std::vector<std::string>& searched) {
  return Loader(library_path, searched).load();
}

void prepare_process() {
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:2", 0);
  setenv("NCCL_ALGO", "^NVLS", 0);
}

void find_libraries(const std::string& library_path, std::vector<std::string>& searched) {
  Loader(library_path, searched).find();
}

}  // namespace cudnn_lstm::cuda
