#include "addon/front_binding.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/numbered_list.h"
#include "addon/session_binding.h"
#include "addon/thread_waker.h"
#include "base/check.h"
#include "base/os.h"
#include "server/front.h"

namespace cairn {

#ifdef __linux__

namespace {

struct FrontPart final : EnvironmentPart {
  // Waits for threads that stop at once.
  void OnEnvironmentCleanup() override { fronts.RemoveAll(); }
  static FrontPart* Of(Environment* environment) {
    return static_cast<FrontPart*>(environment->parts[static_cast<size_t>(PartId::kFront)].get());
  }
  NumberedList<Front> fronts;
};

uint32_t NumberOf(Napi::Value value) { return static_cast<uint32_t>(NumberOr(value, 0)); }

Front* FrontOf(const Napi::CallbackInfo& info) {
  return FrontPart::Of(Environment::Of(info))->fronts.At(NumberOf(info[0]));
}

Napi::Value MakeFront(const Napi::CallbackInfo& info) {
  const auto given = info[0].As<Napi::Object>();
  FrontLimits limits;
  limits.connections_max = NumberOr(given.Get("connectionsMax"), 1024);
  limits.timeouts.idle_ms = NumberOr(given.Get("idleTimeoutMs"), 0);
  limits.timeouts.stall_ms = NumberOr(given.Get("stallTimeoutMs"), 30'000);
  limits.unsent_bytes_max = NumberOr(given.Get("outputBytesMax"), limits.unsent_bytes_max);
  limits.loops = static_cast<uint32_t>(NumberOr(given.Get("loops"), 1));
  Environment* environment = Environment::Of(info);
  std::shared_ptr<ThreadWaker> waker = ThreadWaker::Of(environment);
  CHECK(waker != nullptr);
  auto front = std::make_unique<Front>(std::move(waker), limits);
  return Napi::Number::New(info.Env(), FrontPart::Of(environment)->fronts.Add(std::move(front)));
}

Napi::Value ListenFront(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const auto given = info[1].As<Napi::Object>();
  const auto text = [&given](const char* name) {
    const Napi::Value value = given.Get(name);
    return value.IsString() ? StringOf(value) : std::string();
  };
  ListenAddress address;
  address.path = text("path");
  address.path_mode = static_cast<uint32_t>(NumberOr(given.Get("pathMode"), 0));
  address.host = text("host");
  address.port = static_cast<uint16_t>(NumberOr(given.Get("port"), 0));
  address.backlog = static_cast<int>(NumberOr(given.Get("backlog"), 0));
  SocketEnd end;
  const auto ack = static_cast<Ack>(NumberOf(info[2]));
  CHECK(ack <= Ack::kStored);
  std::optional<Protocols> protocols;
  if (const Napi::Value protocol = given.Get("protocol"); protocol.IsNumber())
    protocols = static_cast<Protocols>(NumberOf(protocol));
  const int error = FrontOf(info)->Listen(address, ack, &end, protocols);
  if (error != 0) return Napi::Number::New(env, error);
  Napi::Array result = Napi::Array::New(env, 2);
  result[0u] = Napi::String::New(env, end.host());
  result[1u] = Napi::Number::New(env, end.port());
  return result;
}

Napi::Value ServeFront(const Napi::CallbackInfo& info) {
  const auto [service, cache] = LeaveToFront(Environment::Of(info), NumberOf(info[1]));
  return Napi::Number::New(info.Env(), FrontOf(info)->Serve(service, cache));
}

void CloseFront(const Napi::CallbackInfo& info) {
  if (BooleanOr(info[1], false)) {
    FrontOf(info)->Destroy();
  } else {
    FrontOf(info)->Close();
  }
}

Napi::Value LookAtFront(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Front* front = FrontOf(info);
  // First: what it tells is complete then.
  const bool is_gone = front->IsGone();
  auto list = info[1].As<Napi::Array>();
  uint32_t at = 0;
  for (const FrontEvent& event : front->events()->Take()) {
    const Napi::HandleScope scope(env);
    const int number = event.error != 0 ? event.error : static_cast<int>(event.ending);
    list[at++] = Napi::Number::New(env, static_cast<uint32_t>(event.kind));
    list[at++] = Napi::String::New(env, event.peer);
    list[at++] = Napi::Number::New(env, number);
  }
  return Napi::Boolean::New(env, is_gone);
}

void HearConnectionsOfFront(const Napi::CallbackInfo& info) {
  FrontOf(info)->events()->HearConnections(BooleanOr(info[1], false));
}

Napi::Value ConnectionsOfFront(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(FrontOf(info)->connection_count()));
}

Napi::Value ProcessorCount(const Napi::CallbackInfo& info) { return Napi::Number::New(info.Env(), OsCpuCount()); }

void EndFront(const Napi::CallbackInfo& info) {
  static_cast<void>(FrontPart::Of(Environment::Of(info))->fronts.Remove(NumberOf(info[0])));
}

}  // namespace

void InitFrontBinding(Napi::Env env, Napi::Object exports) {
  Environment::Of(env)->parts[static_cast<size_t>(PartId::kFront)] = std::make_unique<FrontPart>();
  AddFunction<ProcessorCount>(exports, "processorCount");
  AddFunction<MakeFront>(exports, "makeFront");
  AddFunction<ListenFront>(exports, "listenFront");
  AddFunction<ServeFront>(exports, "serveFront");
  AddFunction<CloseFront>(exports, "closeFront");
  AddFunction<LookAtFront>(exports, "lookAtFront");
  AddFunction<HearConnectionsOfFront>(exports, "hearConnectionsOfFront");
  AddFunction<ConnectionsOfFront>(exports, "connectionsOfFront");
  AddFunction<EndFront>(exports, "endFront");
}

#else

void InitFrontBinding(Napi::Env, Napi::Object) {}

#endif  // __linux__

}  // namespace cairn
