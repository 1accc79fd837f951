// A sub-library of the stand-in cuDNN, or cublasLt: only its file matters.
extern "C" __attribute__((visibility("default"))) int standin_part() { return 0; }
