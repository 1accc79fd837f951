// Converts JavaScript values to C++ and back. The library has validated them: an invalid value here is a bug, reported
// as ERR_INVALID_ARGUMENT.
//
// Reading an argument can run JavaScript, which may do anything: a getter, a proxy or a toString may dispose of the
// model, start another call on it, or detach a buffer that was already read. So an entry point converts all its
// arguments to plain values first, then looks at its state, and takes pointers into JavaScript's memory last.
#pragma once

#include <napi.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace cudnn_lstm::binding {

inline Napi::Value get(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) throw Error(kInvalidArgument, std::string("missing ") + name);
  return value;
}

inline double to_number(const Napi::Value& value, const char* name) {
  if (!value.IsNumber()) throw Error(kInvalidArgument, std::string(name) + " must be a number");
  return value.As<Napi::Number>().DoubleValue();
}

inline double get_number(const Napi::Object& object, const char* name) { return to_number(get(object, name), name); }

inline double get_number(const Napi::Object& object, const char* name, double otherwise) {
  return object.Get(name).IsUndefined() ? otherwise : get_number(object, name);
}

// An integer in [low, high].
inline int to_int(const Napi::Value& value, const char* name, int low, int high) {
  const double number = to_number(value, name);
  if (!(number >= low && number <= high) || number != static_cast<int>(number)) {
    throw Error(kInvalidArgument,
                std::string(name) + " must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return static_cast<int>(number);
}

inline int get_int(const Napi::Object& object, const char* name, int low, int high) {
  return to_int(get(object, name), name, low, high);
}

inline int get_int(const Napi::Object& object, const char* name, int low, int high, int otherwise) {
  return object.Get(name).IsUndefined() ? otherwise : get_int(object, name, low, high);
}

// A non-negative safe integer: 0 to 2^53 - 1.
inline std::uint64_t to_uint64(double value, const char* name) {
  if (!(value >= 0 && value <= 9007199254740991.0) || value != std::floor(value)) {
    throw Error(kInvalidArgument, std::string(name) + " must be a non-negative safe integer");
  }
  return static_cast<std::uint64_t>(value);
}

inline std::uint64_t get_uint64(const Napi::Object& object, const char* name) {
  return to_uint64(get_number(object, name), name);
}

inline std::uint64_t get_uint64(const Napi::Object& object, const char* name, double otherwise) {
  return to_uint64(get_number(object, name, otherwise), name);
}

inline bool get_bool(const Napi::Object& object, const char* name) { return get(object, name).ToBoolean().Value(); }

inline std::string get_string(const Napi::Object& object, const char* name) {
  const Napi::Value value = get(object, name);
  if (!value.IsString()) throw Error(kInvalidArgument, std::string(name) + " must be a string");
  return value.As<Napi::String>().Utf8Value();
}

inline bool is_typed(const Napi::Value& value, napi_typedarray_type type) {
  return value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == type;
}

// Copies typed arrays: JavaScript may change, shrink or detach the memory as soon as it runs again, and another thread
// may write to shared memory at any time, so values are copied at once and checked in the copy. The copy takes over the
// memory of `values`, which saves the page faults of fresh memory, most of a large copy's time.
template <typename Array, typename T>
std::vector<T> copy_values(const Napi::Value& value, napi_typedarray_type type, const std::string& problem,
                           std::vector<T> values = {}) {
  if (!is_typed(value, type)) throw Error(kInvalidArgument, problem);
  const auto array = value.As<Array>();
  values.assign(array.Data(), array.Data() + array.ElementLength());
  return values;
}

// Ids in 0..vocabulary-1.
inline std::vector<std::int32_t> get_ids(const Napi::Object& object, const char* name, int vocabulary,
                                         std::vector<std::int32_t> ids = {}) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) return {};
  ids = copy_values<Napi::Int32Array>(value, napi_int32_array, std::string(name) + " must be an Int32Array",
                                      std::move(ids));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary) {
      throw Error(kInvalidArgument, std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(ids[i]) +
                                        ", outside the vocabulary of " + std::to_string(vocabulary));
    }
  }
  return ids;
}

inline std::vector<float> get_floats(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) return {};
  return copy_values<Napi::Float32Array, float>(value, napi_float32_array,
                                                std::string(name) + " must be a Float32Array");
}

inline std::vector<double> get_doubles(const Napi::Object& object, const char* name) {
  return copy_values<Napi::Float64Array, double>(get(object, name), napi_float64_array,
                                                 std::string(name) + " must be a Float64Array");
}

inline void require_size(std::size_t have, std::size_t want, const char* what) {
  if (have != want) {
    throw Error(kInvalidArgument,
                std::string(what) + " must hold " + std::to_string(want) + " values, not " + std::to_string(have));
  }
}

template <typename Array, typename T>
Array to_typed_array(Napi::Env env, const std::vector<T>& values) {
  Array array = Array::New(env, values.size());
  std::copy(values.begin(), values.end(), array.Data());
  return array;
}

}  // namespace cudnn_lstm::binding
