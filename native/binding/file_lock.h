// A lock on an open file, which the kernel holds for whoever has it open, and drops when they close it or die.
#pragma once

namespace cudnn_lstm::binding {

inline constexpr const char* kCannotLock = "ERR_CANNOT_LOCK";

// Takes the lock, without waiting, for this opening of the file (flock; on Windows LockFileEx on a byte far behind the
// text, which others may go on reading). False: another opening has it. `descriptor` is Node's. Throws
// Error(kCannotLock) where the file system cannot lock.
bool lock_file(int descriptor);

}  // namespace cudnn_lstm::binding
