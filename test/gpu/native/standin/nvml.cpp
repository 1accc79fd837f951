// NVML's calls that the backend uses: one GPU, always as busy.
#include <cstring>

#define STANDIN_API extern "C" __attribute__((visibility("default")))

struct Utilization {
  unsigned int gpu, memory;
};
struct MemoryInfo {
  unsigned long long total, free, used;
};

STANDIN_API int nvmlInit_v2() { return 0; }
STANDIN_API int nvmlShutdown() { return 0; }
STANDIN_API int nvmlSystemGetDriverVersion(char* text, unsigned size) {
  std::strncpy(text, "999.01", size);
  return 0;
}
STANDIN_API int nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** device) {
  *device = const_cast<char*>("device");
  return std::strcmp(bus_id, "0000:00:00.0") == 0 ? 0 : 6;  // not found
}
STANDIN_API int nvmlDeviceGetUtilizationRates(void*, Utilization* utilization) {
  *utilization = {73, 21};
  return 0;
}
STANDIN_API int nvmlDeviceGetMemoryInfo(void*, MemoryInfo* memory) {
  *memory = {1ull << 30, 700'000'000, (1ull << 30) - 700'000'000};
  return 0;
}
STANDIN_API int nvmlDeviceGetName(void*, char* name, unsigned size) {
  std::strncpy(name, "Stand-in GPU", size);
  return 0;
}
