#include "addon/session_binding.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "addon/convert.h"
#include "addon/environment.h"
#include "addon/numbered_list.h"
#include "addon/thread_waker.h"
#include "base/check.h"
#include "process/change_feed.h"
#include "process/load_table.h"
#include "process/registry.h"
#include "protocol/service.h"
#include "protocol/session.h"

namespace cairn {
namespace {

static_assert(static_cast<uint32_t>(Session::Next::kYield) <= kSessionNextMask);

// A server of this environment.
struct Server {
  CachePointer cache;
  std::unique_ptr<Service> service;
  std::unique_ptr<Workbench> bench;
  std::shared_ptr<ThreadWaker> waker;
  uint32_t session_count = 0;
};

struct OpenSession {
  OpenSession(Server* its_server, std::shared_ptr<const ConnectionNames> names, const Now& now, Ack ack)
      : server(its_server), session(its_server->bench.get(), std::move(names), now, ack) {}
  Server* const server;
  Session session;
};

class SessionPart final : public EnvironmentPart {
 public:
  static SessionPart* Of(Environment* environment) {
    return static_cast<SessionPart*>(environment->parts[static_cast<size_t>(PartId::kSession)].get());
  }

  void OnEnvironmentCleanup() override {
    sessions.RemoveAll();
    servers.ForEach([](Server* server) { End(server, ReleaseKind::kLost); });
    servers.RemoveAll();
  }

  static void End(Server* server, ReleaseKind kind) {
    server->service->RemoveWaker(server->waker.get());
    server->bench.reset();
    server->service.reset();
    Registry::Get().Release(&server->cache, /*owner=*/false, kind);
  }

  NumberedList<Server> servers;
  NumberedList<OpenSession> sessions;

  napi_ref output_reference = nullptr;
  char* output = nullptr;
  size_t output_bytes = 0;
  // Replies that did not fit, between a call and takeOutput().
  std::string overflow;
};

constexpr size_t kArgumentsMax = 5;

struct Arguments {
  Environment* environment = nullptr;
  SessionPart* part = nullptr;
  napi_value values[kArgumentsMax] = {};
};

Arguments Read(napi_env env, napi_callback_info info) {
  Arguments arguments;
  size_t count = kArgumentsMax;
  void* data = nullptr;
  CHECK(napi_get_cb_info(env, info, &count, arguments.values, nullptr, &data) == napi_ok);
  arguments.environment = static_cast<Environment*>(data);
  arguments.part = SessionPart::Of(arguments.environment);
  return arguments;
}

uint32_t NumberOf(napi_env env, napi_value value) {
  uint32_t number = 0;
  CHECK(napi_get_value_uint32(env, value, &number) == napi_ok);
  return number;
}

uint64_t NumberField(napi_env env, napi_value object, const char* name) {
  napi_value value;
  // Fails only while the thread is being terminated: the result is not used.
  if (napi_get_named_property(env, object, name, &value) != napi_ok) return 0;
  return NumberOr(env, value, 0);
}
std::string TextField(napi_env env, napi_value object, const char* name) {
  napi_value value;
  if (napi_get_named_property(env, object, name, &value) != napi_ok) return {};
  return StringOf(env, value);
}

// Of "one,two,three".
std::vector<std::string> WordsOf(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    words.emplace_back(text.substr(0, comma));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return words;
}

// The field `tls` of the options; it may be undefined.
Service::Options::Tls TlsOf(napi_env env, napi_value options) {
  Service::Options::Tls tls;
  napi_value given;
  napi_valuetype type;
  if (napi_get_named_property(env, options, "tls", &given) != napi_ok || napi_typeof(env, given, &type) != napi_ok ||
      type != napi_object) {
    return tls;
  }
  tls.is_enabled = true;
  tls.chain_cert = TextField(env, given, "chainCert");
  tls.key = TextField(env, given, "key");
  tls.ca_cert = TextField(env, given, "caCert");
  tls.ciphers = TextField(env, given, "ciphers");
  tls.min_version = TextField(env, given, "minVersion");
  tls.verify_mode = static_cast<uint32_t>(NumberField(env, given, "verifyMode"));
  tls.key_format = static_cast<uint32_t>(NumberField(env, given, "keyFormat"));
  tls.has_session_cache = NumberField(env, given, "sessionCache") != 0;
  return tls;
}

// startService(handle, options) -> number, or undefined if the cache is closed.
napi_value StartService(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  CacheHandle* handle = HandleOf(env, arguments.values[0]);
  if (handle == nullptr || !handle->Usable()) return Undefined(env);
  auto server = std::make_unique<Server>();
  server->cache = handle->pointer;
  if (!Registry::Get().AddHandle(server->cache)) return Undefined(env);

  napi_value given = arguments.values[1];
  Service::Options options;
  options.version = TextField(env, given, "version");
  options.cairn_version = TextField(env, given, "cairnVersion");
  options.item_bytes_max = NumberField(env, given, "itemBytesMax");
  options.unsent_bytes_max = NumberField(env, given, "outputBytesMax");
  options.protocols = static_cast<Protocols>(NumberField(env, given, "protocol"));
  options.test_commands = NumberField(env, given, "testCommands") != 0;
  options.disable_flush_all = NumberField(env, given, "disableFlushAll") != 0;
  options.disable_dumping = NumberField(env, given, "disableDumping") != 0;
  options.disable_watch = NumberField(env, given, "disableWatch") != 0;
  options.hide_keys = NumberField(env, given, "hideKeys") != 0;
  if (const std::string delimiter = TextField(env, given, "prefixDelimiter"); !delimiter.empty()) {
    options.prefix_delimiter = delimiter[0];
    options.counts_prefixes = true;
  }
  if (const uint64_t ms = NumberField(env, given, "slowRequestMs"); ms != 0)
    options.request_log.slow_ns = ms * 1'000'000;
  if (const uint64_t bytes = NumberField(env, given, "largeRequestBytes"); bytes != 0) {
    options.request_log.large_bytes = bytes;
  }
  options.track_sizes = NumberField(env, given, "trackSizes") != 0;
  options.enable_shutdown = NumberField(env, given, "enableShutdown") != 0;
  options.process_id = NumberField(env, given, "processId");
  options.connections_max = static_cast<uint32_t>(NumberField(env, given, "connectionsMax"));
  options.tcp_port = static_cast<uint32_t>(NumberField(env, given, "tcpPort"));
  options.udp_port = static_cast<uint32_t>(NumberField(env, given, "udpPort"));
  options.thread_count = static_cast<uint32_t>(NumberField(env, given, "threadCount"));
  options.backlog = static_cast<uint32_t>(NumberField(env, given, "backlog"));
  options.idle_timeout_s = static_cast<uint32_t>(NumberField(env, given, "idleTimeoutSeconds"));
  options.verbosity = static_cast<uint32_t>(NumberField(env, given, "verbosity"));
  options.interfaces = TextField(env, given, "interfaces");
  options.socket_path = TextField(env, given, "socketPath");
  options.login = static_cast<Login>(NumberField(env, given, "login"));
  options.auth_file = TextField(env, given, "authFile");
  options.tls = TlsOf(env, given);

  server->waker = ThreadWaker::Of(arguments.environment);
  CHECK(server->waker != nullptr);
  options.owner = server->waker;
  options.log = server->cache->feed();
  options.loads = server->cache->loads();
  if (options.log != nullptr) {
    options.log_metrics = WordsOf(TextField(env, given, "logMetrics"));
    CHECK(options.log_metrics.size() <= kLogMetricsMax);
  }
  server->service =
      std::make_unique<Service>(server->cache->store(), std::move(options), server->cache->ReadBothClocks());
  server->bench = std::make_unique<Workbench>(server->service.get());
  server->service->AddWaker(server->waker);
  return Uint32(env, arguments.part->servers.Add(std::move(server)));
}

// endService(service). Its sessions are closed.
napi_value EndService(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  std::unique_ptr<Server> server = arguments.part->servers.Remove(NumberOf(env, arguments.values[0]));
  CHECK(server->session_count == 0);
  SessionPart::End(server.get(), ReleaseKind::kClosed);
  return Undefined(env);
}

// isServiceClosed(service): the cache behind it has been closed.
napi_value IsServiceClosed(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  return Boolean(env, arguments.part->servers.At(NumberOf(env, arguments.values[0]))->cache->closed());
}

napi_value CountRejected(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  arguments.part->servers.At(NumberOf(env, arguments.values[0]))->service->CountRejected();
  return Undefined(env);
}

// countIdleKick(session): closeSession() follows.
napi_value CountIdleKick(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  OpenSession* open = arguments.part->sessions.At(NumberOf(env, arguments.values[0]));
  open->server->service->CountIdleKick();
  open->session.SetCloseReason(CloseReason::kIdleTimeout);
  return Undefined(env);
}

// changeUnsent(service, before, now)
napi_value ChangeUnsent(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  Service* service = arguments.part->servers.At(NumberOf(env, arguments.values[0]))->service.get();
  service->ChangeUnsent(NumberOf(env, arguments.values[1]), NumberOf(env, arguments.values[2]));
  return Undefined(env);
}

napi_value CountOutputDrop(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  arguments.part->servers.At(NumberOf(env, arguments.values[0]))->service->CountOutputDrop();
  return Undefined(env);
}

// countHandshake(service, how)
napi_value CountHandshake(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  Service* service = arguments.part->servers.At(NumberOf(env, arguments.values[0]))->service.get();
  switch (static_cast<HandshakeEnd>(NumberOf(env, arguments.values[1]))) {
    case HandshakeEnd::kBegun:
      service->CountTlsSession();
      break;
    case HandshakeEnd::kResumed:
      break;
    case HandshakeEnd::kFailed:
      service->CountTlsFailure();
      break;
  }
  return Undefined(env);
}

// countRefresh(service)
napi_value CountRefresh(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  Server* server = arguments.part->servers.At(NumberOf(env, arguments.values[0]));
  server->service->CountRefresh(server->cache->ReadBothClocks());
  return Undefined(env);
}

// takeRefresh(service) -> boolean
napi_value TakeRefresh(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  Server* server = arguments.part->servers.At(NumberOf(env, arguments.values[0]));
  return Boolean(env, server->service->certificates()->Take());
}

// answerRefresh(service, line)
napi_value AnswerRefresh(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  Server* server = arguments.part->servers.At(NumberOf(env, arguments.values[0]));
  server->service->certificates()->Answer(StringOf(env, arguments.values[1]));
  return Undefined(env);
}

// setAccounts(service, lines)
napi_value SetAccounts(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  char* lines;
  size_t bytes;
  CHECK(BytesOf(env, arguments.values[1], &lines, &bytes));
  Server* server = arguments.part->servers.At(NumberOf(env, arguments.values[0]));
  server->service->authentication()->Replace(std::string(lines, bytes));
  return Undefined(env);
}

// takeShutdown(service) -> a Service::Shutdown.
napi_value TakeShutdown(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  Server* server = arguments.part->servers.At(NumberOf(env, arguments.values[0]));
  return Uint32(env, static_cast<uint32_t>(server->service->TakeShutdown()));
}

// openSession(service, peer, listener, ack, protocol) -> number.
napi_value MakeSession(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  Server* server = arguments.part->servers.At(NumberOf(env, arguments.values[0]));
  std::optional<Protocols> protocols;
  if (uint32_t protocol; napi_get_value_uint32(env, arguments.values[4], &protocol) == napi_ok)
    protocols = static_cast<Protocols>(protocol);
  auto names = std::make_shared<const ConnectionNames>(
      ConnectionNames{StringOf(env, arguments.values[1]), StringOf(env, arguments.values[2]), protocols});
  uint32_t number = 0;
  if (napi_get_value_uint32(env, arguments.values[3], &number) != napi_ok) number = 0;
  const auto ack = static_cast<Ack>(number);
  CHECK(ack <= Ack::kStored && (ack == Ack::kMemory || server->cache->feed() != nullptr));
  server->session_count++;
  return Uint32(env, arguments.part->sessions.Add(std::make_unique<OpenSession>(server, std::move(names),
                                                                                server->cache->ReadBothClocks(), ack)));
}

napi_value CloseSession(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  std::unique_ptr<OpenSession> session = arguments.part->sessions.Remove(NumberOf(env, arguments.values[0]));
  session->server->session_count--;
  return Undefined(env);
}

// setOutput(buffer)
napi_value SetOutput(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  SessionPart* part = arguments.part;
  CHECK(BytesOf(env, arguments.values[0], &part->output, &part->output_bytes));
  if (part->output_reference != nullptr) napi_delete_reference(env, part->output_reference);
  CHECK(napi_create_reference(env, arguments.values[0], 1, &part->output_reference) == napi_ok);
  return Undefined(env);
}

// takeOutput() -> Buffer
napi_value TakeOutput(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  napi_value buffer;
  void* data = nullptr;
  std::string overflow = std::exchange(arguments.part->overflow, std::string());
  if (napi_create_buffer_copy(env, overflow.size(), overflow.data(), &data, &buffer) != napi_ok) return Undefined(env);
  return buffer;
}

// continueIn(session)
napi_value ContinueIn(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  const OpenSession* open = arguments.part->sessions.At(NumberOf(env, arguments.values[0]));
  return Double(env, static_cast<double>(open->session.continue_in_ms()));
}

enum class Call : uint8_t { kFeed, kContinue, kEnd };

template <Call kCall>
napi_value Drive(napi_env env, napi_callback_info info) {
  Arguments arguments = Read(env, info);
  SessionPart* part = arguments.part;
  OpenSession* open = part->sessions.At(NumberOf(env, arguments.values[0]));
  // A cache that its owner has closed answers no client.
  if (open->server->cache->closed()) return Uint32(env, static_cast<uint32_t>(Session::Next::kClose));
  // Both clocks: seconds in the protocol may be Unix time.
  const Now now = open->server->cache->ReadBothClocks();
  open->server->bench->observer()->BeginWakeUp();
  ByteBuffer out(part->output, part->output_bytes);
  Session* session = &open->session;
  Session::Next next;
  if constexpr (kCall == Call::kFeed) {
    char* chunk = nullptr;
    size_t chunk_bytes = 0;
    CHECK(BytesOf(env, arguments.values[1], &chunk, &chunk_bytes));
    next = session->Feed({chunk, chunk_bytes}, NumberOf(env, arguments.values[2]), now, &out);
  } else if constexpr (kCall == Call::kContinue) {
    next = session->Continue(NumberOf(env, arguments.values[1]), now, &out);
  } else {
    next = session->End(NumberOf(env, arguments.values[1]), now, &out);
  }
  uint32_t flags = static_cast<uint32_t>(next);
  if (session->waits()) flags |= kSessionWaits;
  if (session->continue_in_ms() != 0) flags |= kSessionSlowed;
  if (session->is_in_large_request()) flags |= kSessionInLargeRequest;
  if (session->foreign() == Session::Foreign::kBinary) flags |= kSessionBinary;
  if (session->foreign() == Session::Foreign::kTls) flags |= kSessionTls;
  size_t bytes = out.size();
  if (out.owned()) {
    flags |= kSessionOverflow;
    part->overflow.assign(out.data(), bytes);
  }
  uint64_t result = uint64_t{bytes} * kSessionFlagsRange + flags;
  return result <= UINT32_MAX ? Uint32(env, static_cast<uint32_t>(result)) : Double(env, static_cast<double>(result));
}

}  // namespace

ServedCache LeaveToFront(Environment* environment, uint32_t service) {
  const Server* server = SessionPart::Of(environment)->servers.At(service);
  // The clients of UDP are still this thread's.
  if (server->service->options().udp_port == 0) server->service->RemoveWaker(server->waker.get());
  return {server->service.get(), server->cache};
}

void InitSessionBinding(Napi::Env env, Napi::Object exports) {
  Environment* environment = Environment::Of(env);
  environment->parts[static_cast<size_t>(PartId::kSession)] = std::make_unique<SessionPart>();
  AddFunction(env, exports, "startService", StartService);
  AddFunction(env, exports, "endService", EndService);
  AddFunction(env, exports, "isServiceClosed", IsServiceClosed);
  AddFunction(env, exports, "countRejected", CountRejected);
  AddFunction(env, exports, "countIdleKick", CountIdleKick);
  AddFunction(env, exports, "changeUnsent", ChangeUnsent);
  AddFunction(env, exports, "countOutputDrop", CountOutputDrop);
  AddFunction(env, exports, "countHandshake", CountHandshake);
  AddFunction(env, exports, "countRefresh", CountRefresh);
  AddFunction(env, exports, "takeRefresh", TakeRefresh);
  AddFunction(env, exports, "answerRefresh", AnswerRefresh);
  AddFunction(env, exports, "setAccounts", SetAccounts);
  AddFunction(env, exports, "takeShutdown", TakeShutdown);
  AddFunction(env, exports, "openSession", MakeSession);
  AddFunction(env, exports, "closeSession", CloseSession);
  AddFunction(env, exports, "continueIn", ContinueIn);
  AddFunction(env, exports, "setOutput", SetOutput);
  AddFunction(env, exports, "takeOutput", TakeOutput);
  AddFunction(env, exports, "feedSession", Drive<Call::kFeed>);
  AddFunction(env, exports, "continueSession", Drive<Call::kContinue>);
  AddFunction(env, exports, "endSession", Drive<Call::kEnd>);
}

}  // namespace cairn
