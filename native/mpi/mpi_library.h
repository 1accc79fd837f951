// An MPI library that the machine has, opened at run time and called by the binary interface that it turns out to have:
// no header of MPI's is compiled in. (docs/adr/0013-mpi-at-run-time.md)
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace cudnn_lstm::mpi {

// The functions that ranks need, free of handles. Those that give an int give MPI's error code: 0 is success.
class Library {
 public:
  virtual ~Library() = default;

  virtual bool started() = 0;       // somebody in this process has called MPI_Init
  virtual int start() = 0;          // MPI_Init_thread, for calls from any thread, one at a time
  virtual bool any_thread() = 0;    // whether start() was granted that
  virtual int return_errors() = 0;  // instead of ending the process
  virtual int rank() = 0;           // -1: failed, as below
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

// Sets what libraries under MPI read of the environment, once a process. That is not safe while other threads read it:
// call this on a thread of JavaScript's, as an assignment to process.env is made, and before open_library.
void prepare_environment();

// Opens the first of `names` that is there; `to_use`: for more than to be asked what it is. Throws
// Error(kDeviceUnavailable), which says what came of each, if none is.
std::unique_ptr<Library> open_library(const std::vector<std::string>& names, bool to_use = true);

}  // namespace cudnn_lstm::mpi
