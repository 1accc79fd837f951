# The CUDA backend, where the toolkit's parts are found; without them one line of notice and the CPU alone.
#
#   CUDNN_LSTM_CUDA_ROOT, CUDNN_ROOT  CMake or environment variables: where to look first (each may hold nvcc, headers, wheels)
#   REQUIRE_CUDA                      CMake or environment variable: a missing part is an error
#
# NCCL's header is taken where it is found: without it ranks on GPUs sum by way of the host.
#
# Looked in, in order: those variables, the system (nvcc on PATH, CUDA_PATH, /usr/local/cuda), .nvidia (scripts/fetch-nvidia).
# cuDNN, cuBLAS and the driver are opened at run time: only their headers are needed here, and only cudart_static is linked.

if(NOT DEFINED REQUIRE_CUDA)
  set(REQUIRE_CUDA "$ENV{REQUIRE_CUDA}")
endif()

if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
  if(REQUIRE_CUDA)
    message(FATAL_ERROR "REQUIRE_CUDA is set, but the CUDA backend is for Linux alone")
  endif()
  message(STATUS "CUDA: not on this system; building for the CPU alone")
  return()
endif()

set(CUDA_HINTS)
set(NCCL_HINTS)
foreach(root "${CUDNN_LSTM_CUDA_ROOT}" "$ENV{CUDNN_LSTM_CUDA_ROOT}")
  if(root)
    list(APPEND CUDA_HINTS ${root} ${root}/nvidia/cu13 ${root}/nvidia/cudnn ${root}/nvidia/cublas)
    list(APPEND NCCL_HINTS ${root}/nvidia/nccl)
  endif()
endforeach()
# cuDNN's headers may lie apart from the toolkit, in a wheel's folder for one. cuBLAS's are the toolkit's where it has them: beside
# those in a wheel lie the runtime's headers of its release, which must not be mixed with the toolkit's.
set(CUDNN_HINTS)
foreach(root "${CUDNN_ROOT}" "$ENV{CUDNN_ROOT}")
  if(root)
    list(APPEND CUDNN_HINTS ${root} ${root}/nvidia/cudnn ${root}/nvidia/cublas ${root}/nvidia/cu13)
  endif()
endforeach()
find_program(CUDA_SYSTEM_NVCC nvcc HINTS ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(CUDA_SYSTEM_NVCC)
  get_filename_component(CUDA_SYSTEM_ROOT ${CUDA_SYSTEM_NVCC} REALPATH)
  get_filename_component(CUDA_SYSTEM_ROOT ${CUDA_SYSTEM_ROOT} DIRECTORY)
  get_filename_component(CUDA_SYSTEM_ROOT ${CUDA_SYSTEM_ROOT} DIRECTORY)
  list(APPEND CUDA_HINTS ${CUDA_SYSTEM_ROOT})
endif()
# A wrapper on PATH hides its toolkit's root: the toolkit's usual place stands for it.
list(APPEND CUDA_HINTS $ENV{CUDA_PATH} /usr/local/cuda /usr /usr/local)
set(CUBLAS_HINTS ${CUDA_HINTS} ${CUDNN_HINTS})
set(CUDA_WHEELS ${CMAKE_SOURCE_DIR}/.nvidia/nvidia)
list(APPEND CUDA_HINTS ${CUDA_WHEELS}/cu13 ${CUDA_WHEELS}/cudnn ${CUDA_WHEELS}/cublas)
list(APPEND NCCL_HINTS ${CUDA_WHEELS}/nccl)

set(CUDA_INCLUDE_SUFFIXES include targets/${CMAKE_SYSTEM_PROCESSOR}-linux/include include/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu)
set(CUDA_LIBRARY_SUFFIXES lib64 lib targets/${CMAKE_SYSTEM_PROCESSOR}-linux/lib lib/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu)
find_program(CUDA_NVCC nvcc HINTS ${CUDA_HINTS} PATH_SUFFIXES bin NO_DEFAULT_PATH)
find_path(CUDA_INCLUDE cuda_runtime_api.h HINTS ${CUDA_HINTS} PATH_SUFFIXES ${CUDA_INCLUDE_SUFFIXES} NO_DEFAULT_PATH)
find_library(CUDA_CUDART libcudart_static.a HINTS ${CUDA_HINTS} PATH_SUFFIXES ${CUDA_LIBRARY_SUFFIXES} NO_DEFAULT_PATH)
find_path(CUBLAS_INCLUDE cublas_v2.h HINTS ${CUBLAS_HINTS} ${CUDA_HINTS} PATH_SUFFIXES ${CUDA_INCLUDE_SUFFIXES} NO_DEFAULT_PATH)
find_path(CUDNN_INCLUDE cudnn.h HINTS ${CUDNN_HINTS} ${CUDA_HINTS} PATH_SUFFIXES ${CUDA_INCLUDE_SUFFIXES} NO_DEFAULT_PATH)

# NCCL's header, for ranks that have a GPU each: optional.
find_path(NCCL_INCLUDE nccl.h HINTS ${CUDA_HINTS} ${NCCL_HINTS} PATH_SUFFIXES ${CUDA_INCLUDE_SUFFIXES} NO_DEFAULT_PATH)

set(CUDA_MISSING)
foreach(part "CUDA_NVCC=nvcc" "CUDA_INCLUDE=cuda_runtime_api.h" "CUDA_CUDART=libcudart_static.a" "CUBLAS_INCLUDE=cublas_v2.h"
        "CUDNN_INCLUDE=cudnn.h")
  string(REPLACE "=" ";" part ${part})
  list(GET part 0 variable)
  list(GET part 1 name)
  if(NOT ${variable})
    list(APPEND CUDA_MISSING ${name})
  endif()
endforeach()
if(CUDA_MISSING)
  string(REPLACE ";" ", " CUDA_MISSING "${CUDA_MISSING}")
  if(REQUIRE_CUDA)
    message(FATAL_ERROR "REQUIRE_CUDA is set, but these were not found: ${CUDA_MISSING}. Install the CUDA toolkit and cuDNN 9, "
                        "or run scripts/fetch-nvidia, or set CUDNN_LSTM_CUDA_ROOT and CUDNN_ROOT")
  endif()
  message(STATUS "CUDA: ${CUDA_MISSING} not found; building for the CPU alone (scripts/fetch-nvidia fetches what is needed)")
  return()
endif()
message(STATUS "CUDA: ${CUDA_NVCC}, cuDNN headers in ${CUDNN_INCLUDE}")

# ---- kernels.cu, by nvcc itself: one file, one command.
# Products and sums are not contracted: a text is drawn with the host's roundings, and so with its symbols (core/draw_rules.h). The kernels
# wait for memory, not for arithmetic.
# Machine code for Turing to Blackwell, as far as the toolkit knows them, one a generation (code for x.0 runs on x.y; 110 is Thor, whose
# 11.0 runs neither 100's code nor 120's PTX); PTX of the newest for what comes after, and of the oldest for what lies between.
set(CUDA_ARCHITECTURES_DEFAULT 75 80 86 89 90 100 110 120)
set(CUDNN_LSTM_CUDA_ARCHITECTURES "${CUDA_ARCHITECTURES_DEFAULT}" CACHE STRING "Compute capabilities to compile kernels for")
execute_process(COMMAND ${CUDA_NVCC} --list-gpu-code OUTPUT_VARIABLE CUDA_KNOWN_CODE ERROR_QUIET)
set(CUDA_GENCODE)
set(CUDA_OLDEST)
set(CUDA_NEWEST)
foreach(architecture ${CUDNN_LSTM_CUDA_ARCHITECTURES})
  if(CUDA_KNOWN_CODE MATCHES "sm_${architecture}(\n|$)")
    list(APPEND CUDA_GENCODE -gencode arch=compute_${architecture},code=sm_${architecture})
    if(NOT CUDA_OLDEST)
      set(CUDA_OLDEST ${architecture})
    endif()
    set(CUDA_NEWEST ${architecture})
  endif()
endforeach()
if(NOT CUDA_NEWEST)
  message(FATAL_ERROR "${CUDA_NVCC} knows none of the compute capabilities ${CUDNN_LSTM_CUDA_ARCHITECTURES} (CUDNN_LSTM_CUDA_ARCHITECTURES)")
endif()
set(CUDA_PTX ${CUDA_OLDEST} ${CUDA_NEWEST})
list(REMOVE_DUPLICATES CUDA_PTX)
foreach(architecture ${CUDA_PTX})
  list(APPEND CUDA_GENCODE -gencode arch=compute_${architecture},code=compute_${architecture})
endforeach()
set(CUDA_KERNELS ${CMAKE_CURRENT_BINARY_DIR}/cuda_kernels.o)
add_custom_command(
  OUTPUT ${CUDA_KERNELS}
  COMMAND ${CUDA_NVCC} -c ${CMAKE_SOURCE_DIR}/native/cuda/kernels.cu -o ${CUDA_KERNELS} -std=c++17 -O3 -fmad=false -ccbin ${CMAKE_CXX_COMPILER}
          -I${CMAKE_SOURCE_DIR}/native -I${CUDA_INCLUDE} -Xcompiler=-fPIC,-fvisibility=hidden -Xfatbin=-compress-all ${CUDA_GENCODE}
  DEPENDS ${CMAKE_SOURCE_DIR}/native/cuda/kernels.cu ${CMAKE_SOURCE_DIR}/native/cuda/kernels.h
          ${CMAKE_SOURCE_DIR}/native/cuda/arithmetic.h ${CMAKE_SOURCE_DIR}/native/cuda/draw.h
          ${CMAKE_SOURCE_DIR}/native/cuda/check.h ${CMAKE_SOURCE_DIR}/native/core/draw_rules.h
          ${CMAKE_SOURCE_DIR}/native/core/optimizers.h ${CMAKE_SOURCE_DIR}/native/core/random.h
          ${CMAKE_SOURCE_DIR}/native/core/host_device.h
  COMMENT "Compiling CUDA kernels"
  VERBATIM)

# ---- the backend.
file(GLOB CUDA_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/native/cuda/*.cpp)
if(NCCL_INCLUDE)
  list(FILTER CUDA_SOURCES EXCLUDE REGEX "nccl_absent\\.cpp$")
else()
  list(FILTER CUDA_SOURCES EXCLUDE REGEX "nccl\\.cpp$")
  message(STATUS "CUDA: nccl.h not found; gradients of several GPUs go by way of the host's memory (scripts/fetch-nvidia fetches it)")
endif()
add_library(lstm_cuda OBJECT ${CUDA_SOURCES})
target_include_directories(lstm_cuda PUBLIC ${CMAKE_SOURCE_DIR}/native)
target_include_directories(lstm_cuda SYSTEM PUBLIC ${CUDA_INCLUDE} ${CUBLAS_INCLUDE} ${CUDNN_INCLUDE}
                           $<$<BOOL:${NCCL_INCLUDE}>:${NCCL_INCLUDE}>)
target_compile_options(lstm_cuda PRIVATE -O2 -Wall -Wextra -fvisibility=hidden)
if(CUDNN_LSTM_SANITIZE)
  target_compile_options(lstm_cuda PRIVATE -fsanitize=${CUDNN_LSTM_SANITIZE} -fno-omit-frame-pointer -g)
endif()

add_library(lstm_kernels STATIC ${CUDA_KERNELS})
set_target_properties(lstm_kernels PROPERTIES LINKER_LANGUAGE CXX)
set_source_files_properties(${CUDA_KERNELS} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
target_link_libraries(lstm_kernels INTERFACE ${CUDA_CUDART} rt dl Threads::Threads)

if(EXISTS ${CMAKE_SOURCE_DIR}/native/binding/cuda_info.cpp)
  target_sources(cudnn_lstm PRIVATE ${CMAKE_SOURCE_DIR}/native/binding/cuda_info.cpp)
endif()
target_compile_definitions(cudnn_lstm PRIVATE CUDNN_LSTM_CUDA=1)
target_link_libraries(cudnn_lstm PRIVATE lstm_cuda lstm_kernels)
target_link_options(cudnn_lstm PRIVATE -Wl,--exclude-libs,ALL)

include(${CMAKE_SOURCE_DIR}/test/gpu/native/CMakeLists.txt OPTIONAL)
