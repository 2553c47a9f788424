#include "addon/retry_binding.h"

#include <memory>
#include <string>
#include <vector>

#include "addon/convert.h"
#include "addon/environment.h"
#include "base/check.h"
#include "store/fill_watch.h"
#include "store/store.h"

namespace cairn {
namespace {

// A row of executeRetry(): the index of its key among those of beginRetry(), Kind, then of a set its bytes, codec and
// client flags, and of a set or a touch its expiry (Unix milliseconds, 0: never).
constexpr uint32_t kRowFields = 6;
enum class Kind : uint32_t { kSet = 0, kDelete = 1, kTouch = 2 };

// The keys that one handle watches. Its tickets end with it.
class RetryPart final : public HandlePart {
 public:
  explicit RetryPart(Store* store) : store_(store) {}
  ~RetryPart() override {
    for (const auto& watched : watched_) store_->EndFill(watched->key, &watched->ticket);
  }

  void Watch(std::string_view key, const Now& now) {
    watched_.push_back(std::make_unique<Watched>());
    Watched* watched = watched_.back().get();
    watched->key = key;
    watched->ticket.WatchTouches();
    CHECK(store_->BeginFill(watched->key, FillOf::kAnyKey, now, &watched->ticket));
  }
  size_t count() const { return watched_.size(); }
  std::string_view key(size_t index) const { return watched_[index]->key; }
  FillTicket* ticket(size_t index) { return &watched_[index]->ticket; }

 private:
  struct Watched {
    std::string key;
    FillTicket ticket;
  };

  Store* const store_;
  std::vector<std::unique_ptr<Watched>> watched_;
};

std::unique_ptr<HandlePart>& PartOf(CacheHandle* handle) { return handle->parts[static_cast<size_t>(PartId::kRetry)]; }

// beginRetry(keys): watches them until endRetry(), which comes before the next call. False: the handle is closed.
Napi::Value BeginRetry(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return Napi::Boolean::New(env, false);
  auto part = std::make_unique<RetryPart>(handle->store);
  const auto keys = info[0].As<Napi::Array>();
  const uint32_t count = keys.Length();
  const Now now = handle->instance->ReadBothClocks();
  for (uint32_t i = 0; i < count; i++) {
    char* data;
    size_t bytes;
    CHECK(BytesOf(keys.Get(i), &data, &bytes) && bytes != 0 && bytes <= kKeyBytesMax);
    part->Watch({data, bytes}, now);
  }
  PartOf(handle) = std::move(part);
  return Napi::Boolean::New(env, true);
}

// A touch finds the value that was there when the watch began: the version is read before the ticket, so that a newer
// value has another one, or has voided the ticket. A touch that comes in between counts as one that came before.
Status TouchAgain(CacheHandle* handle, std::string_view key, const FillTicket& ticket, uint64_t expires_ms,
                  const Now& now) {
  Scratch scratch;
  Outcome outcome;
  Request request;
  request.key = key;
  request.verb = Verb::kHas;
  request.reads_through = true;
  handle->store->Execute(request, now, &scratch, &outcome);
  if (ticket.voided()) return Status::kExists;
  if (outcome.status != Status::kFound) return outcome.status;
  request.verb = Verb::kTouch;
  request.has_compare = true;
  request.compare = outcome.version;
  request.no_bump = true;
  request.expires_ms = expires_ms;
  handle->store->Execute(request, now, &scratch, &outcome);
  return outcome.status;
}

// executeRetry(rows): makes the changes again, all of them at one moment, or none; a touch comes alone. A code:
// `stored` or `found`; `exists`: a key was changed since the watch began; of a touch also `not-found` and
// `not-resident`; otherwise there is no room.
Napi::Value ExecuteRetry(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return CodeNumber(env, Code::kClosed);
  auto* part = static_cast<RetryPart*>(PartOf(handle).get());
  CHECK(part != nullptr);
  const auto rows = info[0].As<Napi::Array>();
  const uint32_t count = rows.Length() / kRowFields;
  const Now now = handle->instance->ReadBothClocks();
  std::vector<Request> requests(count);
  for (uint32_t i = 0; i < count; i++) {
    const auto field = [&rows, i](uint32_t index) { return rows.Get(i * kRowFields + index); };
    const size_t index = NumberOr(field(0), 0);
    CHECK(index < part->count());
    const auto kind = static_cast<Kind>(NumberOr(field(1), 0));
    const uint64_t expires_ms = BootExpiryOf(NumberOr(field(5), 0), now);
    if (kind == Kind::kTouch) {
      CHECK(count == 1);
      const Status status = TouchAgain(handle, part->key(index), *part->ticket(index), expires_ms, now);
      return CodeNumber(env, CodeOf(status));
    }
    Request* request = &requests[i];
    request->key = part->key(index);
    request->fill = part->ticket(index);
    request->verb = kind == Kind::kSet ? Verb::kSet : Verb::kDelete;
    if (kind == Kind::kDelete) continue;
    char* data;
    size_t bytes;
    CHECK(BytesOf(field(2), &data, &bytes));
    request->value = {data, bytes};
    request->codec = static_cast<Codec>(NumberOr(field(3), 0));
    CHECK(static_cast<int>(request->codec) < kCodecCount);
    request->client_flags = static_cast<uint32_t>(NumberOr(field(4), 0));
    request->expires_ms = expires_ms;
  }
  return CodeNumber(env, CodeOf(handle->store->ExecuteAtomic(requests.data(), count, now).status));
}

void EndRetry(const Napi::CallbackInfo& info) { PartOf(HandleOf(info)).reset(); }

void ExtendHandle(Napi::Env, CacheHandle* handle, Napi::Object object) {
  if (!handle->store->options().has_backend) return;
  AddHandleFunction<BeginRetry>(handle, object, "beginRetry");
  AddHandleFunction<ExecuteRetry>(handle, object, "executeRetry");
  AddHandleFunction<EndRetry>(handle, object, "endRetry");
}

}  // namespace

void InitRetryBinding(Napi::Env env, Napi::Object) { Environment::Of(env)->extenders.push_back(ExtendHandle); }

}  // namespace cairn
