// The properties of results and errors. They are defined, not set: setting one would run any setter that the program
// has put on Object.prototype, which may throw, or use the model whose result is being made.
#pragma once

#include <napi.h>

#include <string>

namespace cudnn_lstm::binding {

inline void set_own(Napi::Object object, const napi_property_descriptor& descriptor) {
  if (napi_define_properties(object.Env(), object, 1, &descriptor) != napi_ok) throw Napi::Error::New(object.Env());
}

template <typename T>
void set_own(Napi::Object object, const char* name, const T& value) {
  napi_property_descriptor descriptor{};
  descriptor.utf8name = name;
  descriptor.value = Napi::Value::From(object.Env(), value);
  descriptor.attributes = napi_default_jsproperty;
  set_own(object, descriptor);
}

template <typename T>
void set_own(Napi::Array array, std::size_t index, const T& value) {
  napi_property_descriptor descriptor{};
  descriptor.name = Napi::String::New(array.Env(), std::to_string(index));
  descriptor.value = Napi::Value::From(array.Env(), value);
  descriptor.attributes = napi_default_jsproperty;
  set_own(array, descriptor);
}

}  // namespace cudnn_lstm::binding
