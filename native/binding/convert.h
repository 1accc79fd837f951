// JavaScript values to C++ and back. The library has validated them: what is wrong here is a bug, named by
// ERR_INVALID_ARGUMENT.
#pragma once

#include <napi.h>

#include <string>
#include <vector>

#include "core/error.h"

namespace cudnn_lstm::binding {

inline Napi::Value get(const Napi::Object& object, const char* name) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) throw Error(kInvalidArgument, std::string("missing ") + name);
  return value;
}

inline double get_number(const Napi::Object& object, const char* name) {
  const Napi::Value value = get(object, name);
  if (!value.IsNumber()) throw Error(kInvalidArgument, std::string(name) + " must be a number");
  return value.As<Napi::Number>().DoubleValue();
}

inline double get_number(const Napi::Object& object, const char* name, double otherwise) {
  return object.Get(name).IsUndefined() ? otherwise : get_number(object, name);
}

// An integer in [low, high].
inline int get_int(const Napi::Object& object, const char* name, int low, int high) {
  const double value = get_number(object, name);
  if (!(value >= low && value <= high) || value != static_cast<int>(value)) {
    throw Error(kInvalidArgument,
                std::string(name) + " must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
  }
  return static_cast<int>(value);
}

inline int get_int(const Napi::Object& object, const char* name, int low, int high, int otherwise) {
  return object.Get(name).IsUndefined() ? otherwise : get_int(object, name, low, high);
}

inline std::uint64_t get_uint64(const Napi::Object& object, const char* name, double otherwise = -1) {
  const double value = otherwise < 0 ? get_number(object, name) : get_number(object, name, otherwise);
  if (!(value >= 0 && value <= 9007199254740991.0)) {
    throw Error(kInvalidArgument, std::string(name) + " must be a non-negative safe integer");
  }
  return static_cast<std::uint64_t>(value);
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

// A copy of an Int32Array whose values lie in 0..vocabulary-1: no JavaScript memory is held across a call. It takes the
// memory of `ids`, which saves a large copy the page faults of fresh memory, most of its time.
inline std::vector<std::int32_t> get_ids(const Napi::Object& object, const char* name, int vocabulary,
                                         std::vector<std::int32_t> ids = {}) {
  const Napi::Value value = object.Get(name);
  if (value.IsUndefined()) return {};
  if (!is_typed(value, napi_int32_array)) throw Error(kInvalidArgument, std::string(name) + " must be an Int32Array");
  const auto array = value.As<Napi::Int32Array>();
  ids.assign(array.Data(), array.Data() + array.ElementLength());
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
  if (!is_typed(value, napi_float32_array))
    throw Error(kInvalidArgument, std::string(name) + " must be a Float32Array");
  const auto array = value.As<Napi::Float32Array>();
  return {array.Data(), array.Data() + array.ElementLength()};
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
