#include "addon/debts_binding.h"

#include <string_view>

#include "addon/convert.h"
#include "addon/environment.h"
#include "base/check.h"
#include "store/record.h"
#include "store/store.h"

namespace cairn {
namespace {

// stubOf(key): what the key's stub says; undefined: it has none.
Napi::Value StubOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  KeyArgument key;
  StubInfo stub;
  if (!handle->Usable() || key.Read(env, info[0]) != Code::kFound ||
      !handle->store->StubOf(key.view(), handle->instance->ReadBothClocks(), &stub)) {
    return env.Undefined();
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("kind", Napi::Number::New(env, static_cast<double>(stub.kind)));
  result.Set("valueVersion", Napi::BigInt::New(env, stub.value_version));
  result.Set("newestVersion", Napi::BigInt::New(env, stub.newest_version));
  return result;
}

// revive(record, newestVersion): puts the value of the log's record back under its key; see Store::Revive(). A code.
Napi::Value Revive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return CodeNumber(env, Code::kClosed);
  char* data;
  size_t bytes;
  RecordView record;
  bool lossless = false;
  const uint64_t newest = info[1].IsBigInt() ? info[1].As<Napi::BigInt>().Uint64Value(&lossless) : 0;
  if (!lossless || !BytesOf(info[0], &data, &bytes) ||
      DecodeRecord(std::string_view(data, bytes), &record) != DecodeStatus::kOk || record.codec >= kCodecCount ||
      record.kind != RecordKind::kSet) {
    return CodeNumber(env, Code::kNotFound);
  }
  return CodeNumber(env, CodeOf(handle->store->Revive(record, newest, handle->instance->ReadBothClocks())));
}

// lastChangeOf(key): whether the backend does not have all changes of the key yet. The words say its shard (kPlace),
// the version to wait for (kVersion), and the least one that its newest dead letter would have (kNumber). A code: what
// is wrong with the key, or the handle.
Napi::Value LastChangeOf(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  KeyArgument key;
  const Code code = handle->Usable() ? key.Read(env, info[0]) : Code::kClosed;
  if (code != Code::kFound) return CodeNumber(env, code);
  uint64_t value_version = 0;
  const uint64_t version = handle->store->LastChangeOf(key.view(), handle->instance->ReadBothClocks(), &value_version);
  handle->environment->Set(Word::kPlace, uint64_t{handle->store->ShardOf(key.view())});
  handle->environment->Set(Word::kVersion, version);
  handle->environment->Set(Word::kNumber, value_version);
  return Napi::Boolean::New(env, version != 0);
}

// stubShare(): how much of the memory for stubs is taken, from 0 to 1.
Napi::Value StubShare(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  return Napi::Number::New(info.Env(), handle->Usable() ? handle->store->StubShare() : 0);
}

void ExtendHandle(Napi::Env, CacheHandle* handle, Napi::Object object) {
  if (!handle->store->options().has_backend) return;
  AddHandleFunction<StubOf>(handle, object, "stubOf");
  AddHandleFunction<Revive>(handle, object, "revive");
  AddHandleFunction<LastChangeOf>(handle, object, "lastChangeOf");
  AddHandleFunction<StubShare>(handle, object, "stubShare");
}

}  // namespace

void InitDebtsBinding(Napi::Env env, Napi::Object) { Environment::Of(env)->extenders.push_back(ExtendHandle); }

}  // namespace cairn
