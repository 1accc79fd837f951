// A stand-in for an MPI library of the standard ABI (MPI 5.0, chapter 20), which no stable Debian has: the functions that the addon
// calls, between processes of one machine, over a file that they map. It takes the standard's handles and no others. The test that
// starts the processes sets PMI_RANK, PMI_SIZE and STANDIN_FILE, a file that is not there yet or holds zeros.
//
//   STANDIN_SIZE    what MPI_Comm_size says, where that is to be wrong
//   STANDIN_LEVEL   the level of threads that MPI_Init_thread grants
//   STANDIN_FAIL    a function that fails: MPI_Init_thread, or MPI_Allreduce from its third call on
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kMostRanks = 16, kSlot = 1 << 20 };

typedef struct {
  atomic_int arrived;
  atomic_int phase;
  atomic_int aborted;
  char slots[kMostRanks][kSlot];
} Shared;

static Shared* shared;
static int rank, size;

static void* const kWorld = (void*)0x101;
static void* const kFloat = (void*)0x210;
static void* const kByte = (void*)0x247;
static void* const kSum = (void*)0x21;
static void* const kErrorsReturn = (void*)0x143;
static void* const kNoInfo = (void*)0x130;
static void* const kMachine = (void*)0x77777;

static int fails(const char* name) {
  const char* named = getenv("STANDIN_FAIL");
  return named != NULL && strcmp(named, name) == 0;
}

static void meet(void) {
  const int phase = atomic_load(&shared->phase);
  if (atomic_fetch_add(&shared->arrived, 1) == size - 1) {
    atomic_store(&shared->arrived, 0);
    atomic_fetch_add(&shared->phase, 1);
    return;
  }
  while (atomic_load(&shared->phase) == phase) {
    if (atomic_load(&shared->aborted)) _exit(1);
    sched_yield();
  }
}

int MPI_Abi_get_version(int* major, int* minor) {
  *major = 1;
  *minor = 0;
  return 0;
}

int MPI_Get_library_version(char* text, int* length) {
  *length = sprintf(text, "Stand-in 1.0, for tests");
  return 0;
}

int MPI_Initialized(int* flag) {
  *flag = shared != NULL;
  return 0;
}

int MPI_Init_thread(int* argc, char*** argv, int required, int* provided) {
  (void)argc, (void)argv;
  if (required != 2048 || fails("MPI_Init_thread")) return 1;
  *provided = getenv("STANDIN_LEVEL") ? atoi(getenv("STANDIN_LEVEL")) : required;
  rank = atoi(getenv("PMI_RANK"));
  size = atoi(getenv("PMI_SIZE"));
  const int file = open(getenv("STANDIN_FILE"), O_RDWR | O_CREAT, 0600);
  if (file < 0 || ftruncate(file, sizeof(Shared)) != 0) return 1;
  shared = mmap(NULL, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (shared == MAP_FAILED) return 1;
  if (getenv("STANDIN_SIZE") == NULL) meet();
  return 0;
}

int MPI_Comm_rank(void* communicator, int* out) {
  if (communicator != kWorld && communicator != kMachine) return 1;
  *out = rank;
  return 0;
}

int MPI_Comm_size(void* communicator, int* out) {
  if (communicator != kWorld && communicator != kMachine) return 1;
  *out = getenv("STANDIN_SIZE") ? atoi(getenv("STANDIN_SIZE")) : size;
  return 0;
}

int MPI_Comm_split_type(void* communicator, int type, int key, void* info, void** out) {
  if (communicator != kWorld || type != 221 || key != 0 || info != kNoInfo) return 1;
  *out = kMachine;
  return 0;
}

int MPI_Comm_free(void** communicator) { return *communicator == kMachine ? 0 : 1; }

int MPI_Comm_set_errhandler(void* communicator, void* handler) {
  return communicator == kWorld && handler == kErrorsReturn ? 0 : 1;
}

int MPI_Allreduce(const void* in, void* out, int count, void* type, void* operation, void* communicator) {
  static int calls;
  if (in != (void*)1 || type != kFloat || operation != kSum || communicator != kWorld) return 1;
  if (fails("MPI_Allreduce") && ++calls > 2) return 1;
  float* values = out;
  for (int at = 0; at < count; at += kSlot / 4) {
    const int run = count - at < kSlot / 4 ? count - at : kSlot / 4;
    memcpy(shared->slots[rank], values + at, run * sizeof(float));
    meet();
    for (int i = 0; i < run; i++) {
      float total = 0;
      for (int r = 0; r < size; r++) total += ((float*)shared->slots[r])[i];
      values[at + i] = total;
    }
    meet();
  }
  return 0;
}

int MPI_Allgather(const void* mine, int bytes, void* type, void* all, int each, void* of, void* communicator) {
  if (type != kByte || of != kByte || bytes != each || communicator != kWorld) return 1;
  for (int at = 0; at < bytes; at += kSlot) {
    const int run = bytes - at < kSlot ? bytes - at : kSlot;
    memcpy(shared->slots[rank], (const char*)mine + at, run);
    meet();
    for (int r = 0; r < size; r++) memcpy((char*)all + (size_t)r * bytes + at, shared->slots[r], run);
    meet();
  }
  return 0;
}

int MPI_Bcast(void* data, int bytes, void* type, int root, void* communicator) {
  if (type != kByte || root != 0 || communicator != kWorld) return 1;
  for (int at = 0; at < bytes; at += kSlot) {
    const int run = bytes - at < kSlot ? bytes - at : kSlot;
    if (rank == 0) memcpy(shared->slots[0], (char*)data + at, run);
    meet();
    if (rank != 0) memcpy((char*)data + at, shared->slots[0], run);
    meet();
  }
  return 0;
}

int MPI_Barrier(void* communicator) {
  if (communicator != kWorld) return 1;
  meet();
  return 0;
}

int MPI_Finalize(void) {
  meet();
  return 0;
}

int MPI_Abort(void* communicator, int code) {
  (void)communicator;
  atomic_store(&shared->aborted, 1);
  _exit(code);
}

int MPI_Error_string(int code, char* text, int* length) {
  *length = sprintf(text, "stand-in error %d", code);
  return 0;
}
