// A lock on an open file. The kernel drops it when the holder closes the file or dies.
#pragma once

namespace cudnn_lstm::binding {

inline constexpr const char* kCannotLock = "ERR_CANNOT_LOCK";

// Takes the lock for this opening of the file, without waiting (flock; on Windows LockFileEx on a byte far beyond the
// text, which others can go on reading). False: another opening has it. `descriptor` is Node's. Throws
// Error(kCannotLock) if the file system cannot lock.
bool lock_file(int descriptor);

}  // namespace cudnn_lstm::binding
