#include "binding/file_lock.h"

#include <string>

#include "core/error.h"

#ifdef _WIN32
#include <windows.h>
// From libuv, exported by Node, whose descriptors are those of its own C library.
extern "C" __declspec(dllimport) void* uv_get_osfhandle(int descriptor);
#else
#include <sys/file.h>

#include <cerrno>
#include <system_error>
#endif

namespace cudnn_lstm::binding {

#ifdef _WIN32

bool lock_file(int descriptor) {
  OVERLAPPED place{};
  place.OffsetHigh = 0x7fffffff;
  const DWORD flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
  if (LockFileEx(uv_get_osfhandle(descriptor), flags, 0, 1, 0, &place)) return true;
  const DWORD error = GetLastError();
  if (error == ERROR_LOCK_VIOLATION || error == ERROR_IO_PENDING) return false;
  throw Error(kCannotLock, "error " + std::to_string(error));
}

#else

bool lock_file(int descriptor) {
  while (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return false;
    if (errno != EINTR) throw Error(kCannotLock, std::generic_category().message(errno));
  }
  return true;
}

#endif

}  // namespace cudnn_lstm::binding
