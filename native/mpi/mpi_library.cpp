#include "mpi/mpi_library.h"

#ifndef _WIN32
#include <dlfcn.h>
#endif

#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <sstream>

#include "core/error.h"

namespace cudnn_lstm::mpi {

#ifdef _WIN32

void prepare_environment() {}

std::unique_ptr<Library> open_library(const std::vector<std::string>& /*names*/, bool /*to_use*/) {
  throw Error(kDeviceUnavailable, "MPI is used on Linux and macOS alone");
}

#else

namespace {

constexpr int kLongestText = 8192;  // of a version or an error in any ABI: at most MPI_MAX_LIBRARY_VERSION_STRING

// The constants of one ABI. A handle is a pointer in the standard ABI and Open MPI's, an int in MPICH's.
template <typename Handle>
struct Constants {
  Handle world, real, byte, sum, errors_return, no_info;
  void* in_place;
  int shared_memory;  // for MPI_Comm_split_type
  int serialized;     // for MPI_Init_thread; higher levels are greater
};

template <typename Handle>
class Table final : public Library {
 public:
  Table(void* library, const Constants<Handle>& constants) : library_(library), of_(constants) {
    find(initialized_, "MPI_Initialized");
    find(init_thread_, "MPI_Init_thread");
    find(comm_rank_, "MPI_Comm_rank");
    find(comm_size_, "MPI_Comm_size");
    find(comm_split_type_, "MPI_Comm_split_type");
    find(comm_free_, "MPI_Comm_free");
    find(set_errhandler_, "MPI_Comm_set_errhandler");
    find(allreduce_, "MPI_Allreduce");
    find(allgather_, "MPI_Allgather");
    find(bcast_, "MPI_Bcast");
    find(barrier_, "MPI_Barrier");
    find(finalize_, "MPI_Finalize");
    find(abort_, "MPI_Abort");
    find(error_string_, "MPI_Error_string");
  }

  bool started() override {
    int flag = 0;
    initialized_(&flag);
    return flag != 0;
  }
  int start() override { return init_thread_(nullptr, nullptr, of_.serialized, &provided_); }
  bool any_thread() override { return provided_ >= of_.serialized; }
  int return_errors() override { return set_errhandler_(of_.world, of_.errors_return); }
  int rank() override {
    int rank = -1;
    return comm_rank_(of_.world, &rank) == 0 ? rank : -1;
  }
  int size() override {
    int size = -1;
    return comm_size_(of_.world, &size) == 0 ? size : -1;
  }
  int place_on_machine(int& rank, int& size) override {
    Handle machine{};
    if (const int code = comm_split_type_(of_.world, of_.shared_memory, 0, of_.no_info, &machine)) return code;
    int code = comm_rank_(machine, &rank);
    if (code == 0) code = comm_size_(machine, &size);
    const int freed = comm_free_(&machine);
    return code != 0 ? code : freed;
  }
  int sum(float* values, int count) override {
    return allreduce_(of_.in_place, values, count, of_.real, of_.sum, of_.world);
  }
  int gather(const void* mine, int bytes, void* all) override {
    return allgather_(mine, bytes, of_.byte, all, bytes, of_.byte, of_.world);
  }
  int broadcast(void* data, int bytes) override { return bcast_(data, bytes, of_.byte, 0, of_.world); }
  int barrier() override { return barrier_(of_.world); }
  int finish() override { return finalize_(); }
  void abort(int code) override { abort_(of_.world, code); }
  std::string describe_error(int code) override {
    char text[kLongestText] = "";
    int length = 0;
    return error_string_(code, text, &length) == 0 ? text : "error " + std::to_string(code);
  }

 private:
  template <typename Function>
  void find(Function& function, const char* name) {
    function = reinterpret_cast<Function>(dlsym(library_, name));
    if (function == nullptr) throw Error(kDeviceUnavailable, std::string("it has no ") + name);
  }

  void* library_;
  const Constants<Handle> of_;
  int provided_ = -1;
  int (*initialized_)(int*);
  int (*init_thread_)(int*, char***, int, int*);
  int (*comm_rank_)(Handle, int*);
  int (*comm_size_)(Handle, int*);
  int (*comm_split_type_)(Handle, int, int, Handle, Handle*);
  int (*comm_free_)(Handle*);
  int (*set_errhandler_)(Handle, Handle);
  int (*allreduce_)(const void*, void*, int, Handle, Handle, Handle);
  int (*allgather_)(const void*, int, Handle, void*, int, Handle, Handle);
  int (*bcast_)(void*, int, Handle, int, Handle);
  int (*barrier_)(Handle);
  int (*finalize_)();
  int (*abort_)(Handle, int);
  int (*error_string_)(int, char*, int*);
};

void* pointer(std::uintptr_t value) {
  return reinterpret_cast<void*>(value);  // NOLINT(performance-no-int-to-ptr): the ABI's handles are small numbers
}

// MPI 5.0, chapter 20.
Constants<void*> standard_constants() {
  return {pointer(0x101),
          pointer(0x210),
          pointer(0x247),
          pointer(0x21),
          pointer(0x143),
          pointer(0x130),
          pointer(1),
          221,
          2048};
}

// The addresses of objects that the library exports.
Constants<void*> open_mpi_constants(void* library) {
  const auto object = [library](const char* name) {
    void* found = dlsym(library, name);
    if (found == nullptr) throw Error(kDeviceUnavailable, std::string("it has no ") + name);
    return found;
  };
  return {object("ompi_mpi_comm_world"),
          object("ompi_mpi_float"),
          object("ompi_mpi_byte"),
          object("ompi_mpi_op_sum"),
          object("ompi_mpi_errors_return"),
          object("ompi_mpi_info_null"),
          pointer(1),
          0,
          2};
}

// MPICH's ABI since 3.1 (2014), shared by Intel MPI, MVAPICH and Cray MPICH under the ABI initiative of 2013.
Constants<int> mpich_constants() {
  return {0x44000000, 0x4c00040a, 0x4c00010d, 0x58000003, 0x54000001, 0x1c000000, pointer(~std::uintptr_t{0}), 1, 2};
}

// "Open MPI v4.1.4", "MPICH 4.0.2": the start of the library's own version text.
std::string name_and_version(const std::string& text) {
  std::istringstream words(text.substr(0, text.find_first_of("\n,")));
  std::string result;
  for (std::string word; words >> word;) {
    if (word != "Version:") result += (result.empty() ? "" : " ") + word;
  }
  return result;
}

struct Recognized {
  std::unique_ptr<Library> library;
  std::string abi;
  std::string version;
};

// The order matters: a standard ABI library built on Open MPI's own also exposes Open MPI's symbols, and would accept
// the old constants without an error.
Recognized recognize(void* library) {
  const auto describe = reinterpret_cast<int (*)(char*, int*)>(dlsym(library, "MPI_Get_library_version"));
  if (describe == nullptr) throw Error(kDeviceUnavailable, "it is no MPI library");
  std::vector<char> text(kLongestText);
  int length = 0;
  describe(text.data(), &length);
  const std::string version = name_and_version(text.data());
  int major = -1, minor = -1;
  const auto abi = reinterpret_cast<int (*)(int*, int*)>(dlsym(library, "MPI_Abi_get_version"));
  if (abi != nullptr) abi(&major, &minor);
  if (major >= 1) {
    return {std::make_unique<Table<void*> >(library, standard_constants()),
            "MPI standard ABI " + std::to_string(major) + "." + std::to_string(minor), version};
  }
  if (dlsym(library, "ompi_mpi_comm_world") != nullptr) {
    return {std::make_unique<Table<void*> >(library, open_mpi_constants(library)), "Open MPI", version};
  }
  for (const char* known : {"MPICH", "Intel(R) MPI", "MVAPICH", "CRAY"}) {
    if (std::string(text.data()).find(known) != std::string::npos) {
      return {std::make_unique<Table<int> >(library, mpich_constants()), "MPICH", version};
    }
  }
  throw Error(kDeviceUnavailable, "its binary interface is none of the standard one's, Open MPI's and MPICH's");
}

}  // namespace

void prepare_environment() {
  static std::once_flag prepared;
  std::call_once(prepared, [] {
    // UCX, on which MPICH may be built, would take over SIGSEGV, and Node's WebAssembly traps with it.
    setenv("UCX_ERROR_SIGNALS", "", 0);
    // Nor may it replace malloc with its own allocator while other threads allocate: both would move the end of the
    // heap, and one unmapped what the other had handed out (a crash in one of ten training runs). UCX then does without
    // its cache of registered memory.
    setenv("UCX_MEM_EVENTS", "n", 0);
  });
}

std::unique_ptr<Library> open_library(const std::vector<std::string>& names, bool to_use) {
  std::string problems;
  for (const std::string& name : names) {
    const auto note = [&](const std::string& problem) { problems += (problems.empty() ? "" : "; ") + problem; };
    // Global, because Open MPI's plug-ins look up its symbols there. Of several that are only inspected, none may find
    // another's symbols.
    void* opened = dlopen(name.c_str(), RTLD_NOW | (to_use ? RTLD_GLOBAL : RTLD_LOCAL));
    if (opened == nullptr) {
      const char* problem = dlerror();
      note(problem != nullptr ? problem : name);
      continue;
    }
    try {
      Recognized found = recognize(opened);
      found.library->name_ = name;
      found.library->abi_ = found.abi;
      found.library->version_ = found.version;
      return std::move(found.library);
    } catch (const Error& error) {
      note(name + ": " + error.what());
      dlclose(opened);
    }
  }
  throw Error(kDeviceUnavailable, problems.empty() ? "no library was named" : problems);
}

#endif

}  // namespace cudnn_lstm::mpi
