#include "addon/debts_binding.h"

#include <algorithm>
#include <string_view>

#include "addon/convert.h"
#include "addon/environment.h"
#include "base/check.h"
#include "store/record.h"
#include "store/store.h"

namespace cairn {
namespace {

// A version for each shard.
uint64_t* VersionsOf(Napi::Value array, const Store* store) {
  size_t count = 0;
  uint64_t* versions = NumbersOf<uint64_t>(array, napi_biguint64_array, &count);
  CHECK(versions != nullptr && count == store->shard_count());
  return versions;
}

// markStored(versions): the backend has everything up to these versions, by shard. Lower ones than before are ignored.
void MarkStored(const Napi::CallbackInfo& info) {
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return;
  const uint64_t* versions = VersionsOf(info[0], handle->store);
  for (uint32_t shard = 0; shard < handle->store->shard_count(); shard++) {
    handle->store->stored_marks()->Advance(shard, versions[shard]);
  }
}

// collectVersions(records, versions): raises the versions, by shard, to those of the records. False: the bytes are not
// whole records. The record of a clear is of no key, and owes nothing.
Napi::Value CollectVersions(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  char* data;
  size_t bytes;
  if (!handle->Usable() || !BytesOf(info[0], &data, &bytes)) return Napi::Boolean::New(env, false);
  uint64_t* versions = VersionsOf(info[1], handle->store);
  for (size_t at = 0; at < bytes;) {
    RecordView record;
    if (DecodeRecord(std::string_view(data + at, bytes - at), &record) != DecodeStatus::kOk) {
      return Napi::Boolean::New(env, false);
    }
    at += record.record_bytes;
    if (record.key.empty()) continue;
    uint64_t* version = &versions[handle->store->ShardOf(record.key)];
    *version = std::max(*version, record.version);
  }
  return Napi::Boolean::New(env, true);
}

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

void ExtendHandle(Napi::Env, CacheHandle* handle, Napi::Object object) {
  if (!handle->store->options().has_backend) return;
  AddHandleFunction<MarkStored>(handle, object, "markStored");
  AddHandleFunction<CollectVersions>(handle, object, "collectVersions");
  AddHandleFunction<StubOf>(handle, object, "stubOf");
  AddHandleFunction<Revive>(handle, object, "revive");
}

}  // namespace

void InitDebtsBinding(Napi::Env env, Napi::Object) { Environment::Of(env)->extenders.push_back(ExtendHandle); }

}  // namespace cairn
