// The machine's own MPI library, opened at run time and called through whichever binary interface it turns out to have:
// no MPI header is compiled in. (docs/adr/0013-mpi-at-run-time.md)
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace cudnn_lstm::mpi {

// The functions that ranks need, without handles. Those that return an int return MPI's error code: 0 is success.
class Library {
 public:
  virtual ~Library() = default;

  virtual bool started() = 0;       // whether anyone in this process has called MPI_Init
  virtual int start() = 0;          // MPI_Init_thread, for calls from any thread, one at a time
  virtual bool any_thread() = 0;    // whether start() was granted that
  virtual int return_errors() = 0;  // report errors instead of ending the process
  virtual int rank() = 0;           // -1: failed; the same for size()
  virtual int size() = 0;
  virtual int place_on_machine(int& rank, int& size) = 0;
  virtual int sum(float* values, int count) = 0;
  virtual int gather(const void* mine, int bytes, void* all) = 0;
  virtual int broadcast(void* data, int bytes) = 0;
  virtual int barrier() = 0;
  virtual int finish() = 0;
  virtual void abort(int code) = 0;
  virtual std::string describe_error(int code) = 0;

  const std::string& name() const { return name_; }        // what was opened: "libmpi.so.40"
  const std::string& abi() const { return abi_; }          // "Open MPI", "MPICH" or "MPI standard ABI 1.0"
  const std::string& version() const { return version_; }  // "Open MPI v4.1.4"

 protected:
  std::string name_, abi_, version_;

  friend std::unique_ptr<Library> open_library(const std::vector<std::string>& names, bool to_use);
};

// Sets the environment variables that libraries beneath MPI read, once per process. That is not safe while other
// threads read the environment: call this on a JavaScript thread, as for an assignment to process.env, and before
// open_library.
void prepare_environment();

// Opens the first of `names` that is there; `to_use`: for use, not just to identify it. If none is there, throws
// Error(kDeviceUnavailable) saying what came of each.
std::unique_ptr<Library> open_library(const std::vector<std::string>& names, bool to_use = true);

}  // namespace cudnn_lstm::mpi
