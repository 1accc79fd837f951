// cuBLAS's calls that the backend uses: a product in double.
#include <cublas_v2.h>

#include "numbers.h"
#include "standin.h"

namespace {

struct Handle {
  cudaStream_t stream = nullptr;
};
Handle* of(cublasHandle_t handle) { return reinterpret_cast<Handle*>(handle); }

standin::Type type_of(cudaDataType type) {
  return type == CUDA_R_32F   ? standin::Type::float32
         : type == CUDA_R_16F ? standin::Type::float16
                              : standin::Type::bfloat16;
}

}  // namespace

#define ENTER(...)                                                      \
  const standin::Lock lock;                                               \
  const int entry = standin::enter(__func__, std::string{__VA_ARGS__}); \
  if (entry != 0) return static_cast<cublasStatus_t>(entry)

extern "C" {

STANDIN_API cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  ENTER();
  *handle = reinterpret_cast<cublasHandle_t>(new Handle);
  standin::count_object(1);
  return CUBLAS_STATUS_SUCCESS;
}
STANDIN_API cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete of(handle);
  standin::count_object(-1);
  return static_cast<cublasStatus_t>(standin::enter(__func__));
}
STANDIN_API cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  ENTER();
  of(handle)->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
STANDIN_API cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void* workspace, std::size_t bytes) {
  ENTER();
  if (!standin::is_device(workspace, bytes)) standin::fault("cuBLAS workspace outside device memory");
  return CUBLAS_STATUS_SUCCESS;
}
STANDIN_API cublasStatus_t cublasGetVersion_v2(cublasHandle_t, int* version) {
  ENTER();
  const char* other = std::getenv("STANDIN_CUBLAS");  // in the environment: another version
  *version = other == nullptr ? 130101 : std::atoi(other);
  return CUBLAS_STATUS_SUCCESS;
}
STANDIN_API const char* cublasGetStatusString(cublasStatus_t) { return "an injected status"; }

// Column-major, as the real one.
STANDIN_API cublasStatus_t cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                                           int64_t m, int64_t n, int64_t k, const void* alpha, const void* a,
                                           cudaDataType a_type, int64_t lda, const void* b, cudaDataType b_type,
                                           int64_t ldb, const void* beta, void* c, cudaDataType c_type, int64_t ldc,
                                           cublasComputeType_t, cublasGemmAlgo_t) {
  ENTER(std::to_string(m) + "x" + std::to_string(n) + "x" + std::to_string(k));
  const standin::Type at = type_of(a_type), bt = type_of(b_type), ct = type_of(c_type);
  const bool ta = transa == CUBLAS_OP_T, tb = transb == CUBLAS_OP_T;
  if (lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return CUBLAS_STATUS_INVALID_VALUE;
  if (*static_cast<const float*>(alpha) != 1 || *static_cast<const float*>(beta) != 0)
    return CUBLAS_STATUS_NOT_SUPPORTED;
  if (!standin::is_device(a, ((ta ? m : k) - 1) * lda * standin::size_of(at)) ||
      !standin::is_device(b, ((tb ? k : n) - 1) * ldb * standin::size_of(bt)) ||
      !standin::is_device(c, (n * ldc) * standin::size_of(ct))) {
    standin::fault("product outside device memory");
  }
  standin::submit(of(handle)->stream, [=] {
    std::vector<double> rows(m * k), columns(n * k);
    for (int64_t i = 0; i < m; ++i)
      for (int64_t l = 0; l < k; ++l) rows[i * k + l] = standin::load(at, a, ta ? l + i * lda : i + l * lda);
    for (int64_t j = 0; j < n; ++j)
      for (int64_t l = 0; l < k; ++l) columns[j * k + l] = standin::load(bt, b, tb ? j + l * ldb : l + j * ldb);
    for (int64_t j = 0; j < n; ++j)
      for (int64_t i = 0; i < m; ++i)
        standin::store(ct, c, i + j * ldc, standin::add_products(0, &rows[i * k], &columns[j * k], k));
  });
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
