#include "addon/atomic_binding.h"

#include <cstring>
#include <string_view>
#include <vector>

#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/payload.h"
#include "base/check.h"
#include "store/store.h"

namespace cairn {
namespace {

// A part as src/atomic.ts encodes it, at a multiple of 8; key and value follow, and padding.
struct PartHeader {
  uint32_t verb_codec;  // Verb | Codec << 8
  uint32_t key_bytes;
  uint32_t value_bytes;
  uint32_t reserved;
  double ttl_ms;  // 0: it does not expire; below 0: the time to live of the cache
};
static_assert(sizeof(PartHeader) == 24);

// Decodes the parts: whatever the bytes are, nothing outside of them is read.
void DecodeParts(const CacheHandle* handle, std::string_view bytes, const Now& now, std::vector<Request>* requests) {
  for (size_t at = 0; at < bytes.size();) {
    PartHeader head;
    CHECK(bytes.size() - at >= sizeof head);
    std::memcpy(&head, bytes.data() + at, sizeof head);
    at += sizeof head;
    CHECK(head.key_bytes != 0 && head.key_bytes <= kKeyBytesMax && head.key_bytes <= bytes.size() - at);
    Request request;
    request.verb = static_cast<Verb>(head.verb_codec & 0xff);
    CHECK(request.verb == Verb::kSet || request.verb == Verb::kDelete);
    CHECK((head.verb_codec >> 8) < kCodecCount);
    request.codec = static_cast<Codec>(head.verb_codec >> 8);
    request.key = bytes.substr(at, head.key_bytes);
    at += head.key_bytes;
    CHECK(head.value_bytes <= bytes.size() - at);
    request.value = bytes.substr(at, head.value_bytes);
    at = (at + head.value_bytes + 7) & ~size_t{7};
    Expiry expiry = Expiry::Default(handle);
    if (head.ttl_ms == 0) expiry = {Expiry::Kind::kNever, 0};
    if (head.ttl_ms > 0) expiry = {Expiry::Kind::kIn, static_cast<uint64_t>(head.ttl_ms)};
    if (request.verb == Verb::kSet) request.expires_ms = expiry.At(now);
    requests->push_back(request);
  }
}

// executeAtomic(parts): a code. kTooLarge: the words say what does not fit: the bound (kPlace, of AtomicBound), what it
// would be (kNumber), the limit (kVersion), and of a value the index of its part (kValueBytes). kSeveralStores: the
// backend of the first part (kPlace), another one (kNumber), and the index of a part that is of that (kValueBytes).
napi_value ExecuteAtomic(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value parts;
  void* data;
  napi_get_cb_info(env, info, &count, &parts, nullptr, &data);
  auto* handle = static_cast<CacheHandle*>(data);
  if (!handle->Usable()) return CodeValue(env, Code::kClosed);
  Environment* environment = handle->environment;
  char* bytes;
  size_t size;
  if (!BytesOf(env, parts, &bytes, &size)) return CodeValue(env, Code::kInvalidValue);
  const Now now = handle->instance->ReadNow(true);
  std::vector<Request> requests;
  DecodeParts(handle, {bytes, size}, now, &requests);
  uint32_t backend = 0;
  uint32_t other = 0;
  size_t index = 0;
  const auto key_at = [&requests](size_t i) { return requests[i].key; };
  const bool is_of_one = handle->store->backends().AreOfOne(requests.size(), key_at, &backend, &other, &index);
  // What no database gets is done at one moment, whichever keys it has.
  if (!is_of_one && handle->instance->feed() != nullptr) {
    environment->Set(Word::kPlace, uint64_t{backend});
    environment->Set(Word::kNumber, uint64_t{other});
    environment->Set(Word::kValueBytes, uint64_t{index});
    return CodeValue(env, Code::kSeveralStores);
  }
  const auto rule = handle->instance->atomic_batches(backend);
  if (rule == CacheInstance::AtomicBatches::kRefused) return CodeValue(env, Code::kNotAtomic);
  if (rule == CacheInstance::AtomicBatches::kUnknown) return CodeValue(env, Code::kAtomicUnknown);
  const AtomicOutcome outcome = handle->store->ExecuteAtomic(requests.data(), requests.size(), now);
  environment->Set(Word::kPlace, static_cast<uint64_t>(outcome.bound));
  environment->Set(Word::kNumber, outcome.wanted);
  environment->Set(Word::kVersion, outcome.limit);
  environment->Set(Word::kValueBytes, outcome.index);
  return CodeValue(env, CodeOf(outcome.status));
}

// setAtomicBatches(rule): of all handles of the cache, for keys of the backend of this one.
napi_value SetAtomicBatches(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value rule;
  void* data;
  napi_get_cb_info(env, info, &count, &rule, nullptr, &data);
  auto* handle = static_cast<CacheHandle*>(data);
  uint32_t number = 0;
  CHECK(napi_get_value_uint32(env, rule, &number) == napi_ok && number <= 2);
  if (handle->Usable())
    handle->instance->SetAtomicBatches(handle->backend, static_cast<CacheInstance::AtomicBatches>(number));
  return Undefined(env);
}

void ExtendHandle(Napi::Env env, CacheHandle* handle, Napi::Object object) {
  AddHandleFunction(env, handle, object, "executeAtomic", ExecuteAtomic);
  AddHandleFunction(env, handle, object, "setAtomicBatches", SetAtomicBatches);
}

}  // namespace

void InitAtomicBinding(Napi::Env env, Napi::Object) { Environment::Of(env)->extenders.push_back(&ExtendHandle); }

}  // namespace cairn
