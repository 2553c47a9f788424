#include "protocol/stats.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <string>
#include <vector>

#include "base/os.h"
#include "protocol/stats_requests.h"
#include "protocol/stats_samples.h"

namespace cairn {

namespace {

struct NamedNumber {
  std::string_view name;
  uint64_t value;
};
struct NamedText {
  std::string_view name;
  std::string_view value;
};

void AppendAll(std::initializer_list<NamedNumber> stats, StatSink* out) {
  for (const NamedNumber& stat : stats) out->Add(stat.name, stat.value);
}
void AppendAll(std::initializer_list<NamedText> stats, StatSink* out) {
  for (const NamedText& stat : stats) out->Add(stat.name, stat.value);
}
void AppendZeros(std::initializer_list<std::string_view> names, StatSink* out) {
  for (std::string_view name : names) out->Add(name, uint64_t{0});
}

std::string Seconds(uint64_t us) {
  char text[32];
  std::snprintf(text, sizeof(text), "%llu.%06llu", static_cast<unsigned long long>(us / 1000000),
                static_cast<unsigned long long>(us % 1000000));
  return text;
}

// A whole number as such, another with three decimals.
std::string Decimal(double number) {
  char text[32];
  const bool is_whole = std::fabs(number) < 9007199254740992.0 && number == std::floor(number);
  std::snprintf(text, sizeof(text), is_whole ? "%.0f" : "%.3f", number);
  return text;
}

uint64_t Log2(uint64_t number) {
  uint64_t power = 0;
  while (number >>= 1) power++;
  return power;
}

uint64_t Difference(uint64_t all, uint64_t part) { return all > part ? all - part : 0; }

void AppendGeneral(Service* service, const Now& now, StatSink* out) {
  const StoreStats store = service->store()->Stats();
  const CounterValues port = service->ReadCounters();
  const uint64_t connections = service->ConnectionCount();
  const Service::Options& options = service->options();
  uint64_t user_us = 0;
  uint64_t system_us = 0;
  OsCpuTimes(&user_us, &system_us);
  uint64_t gat = port[Counter::kGatHits] + port[Counter::kGatMisses];

  AppendAll({{"pid", options.process_id},
             {"uptime", (now.boot_ms - service->started().boot_ms) / 1000},
             {"time", static_cast<uint64_t>(now.wall_ms / 1000)}},
            out);
  out->Add("version", options.version);
  out->Add("libevent", "none");
  out->Add("pointer_size", uint64_t{8 * sizeof(void*)});
  out->Add("rusage_user", Seconds(user_us));
  out->Add("rusage_system", Seconds(system_us));
  AppendAll({{"max_connections", options.connections_max},
             {"curr_connections", connections},
             {"total_connections", port[Counter::kConnections]},
             {"rejected_connections", port[Counter::kConnectionsRejected]},
             {"connection_structures", connections}},
            out);
  AppendZeros({"response_obj_oom", "response_obj_count", "response_obj_bytes", "read_buf_count", "read_buf_bytes",
               "read_buf_bytes_free", "read_buf_oom", "reserved_fds"},
              out);
  AppendAll({{"cmd_get", Difference(store.gets, gat)},
             {"cmd_set", store.sets + port[Counter::kNotStored]},
             {"cmd_flush", port[Counter::kFlushes]},
             {"cmd_touch", store.touches},
             {"cmd_meta", port[Counter::kMetaCommands]},
             {"get_hits", Difference(store.hits, port[Counter::kGatHits])},
             {"get_misses", Difference(store.misses, port[Counter::kGatMisses])},
             {"get_expired", store.get_expired},
             {"get_flushed", 0},
             {"delete_misses", store.deletes - store.delete_hits},
             {"delete_hits", store.delete_hits},
             {"incr_misses", store.incr_misses},
             {"incr_hits", store.incr_hits},
             {"decr_misses", store.decr_misses},
             {"decr_hits", store.decr_hits},
             {"cas_misses", store.cas_misses},
             {"cas_hits", store.cas_hits},
             {"cas_badval", store.cas_exists},
             {"touch_hits", store.touch_hits},
             {"touch_misses", store.touches - store.touch_hits},
             {"store_too_large", store.too_large + port[Counter::kTooLarge]},
             {"store_no_memory", store.no_memory},
             {"auth_cmds", port[Counter::kLogins]},
             {"auth_errors", port[Counter::kLoginsFailed]}},
            out);
  if (options.idle_timeout_s != 0) out->Add("idle_kicks", port[Counter::kIdleKicks]);
  AppendAll({{"bytes_read", port[Counter::kBytesRead]},
             {"bytes_written", port[Counter::kBytesWritten]},
             {"limit_maxbytes", store.memory_bytes},
             {"accepting_conns", uint64_t{service->is_accepting()}},
             {"listen_disabled_num", port[Counter::kListenDisabled]},
             {"time_in_listen_disabled_us", port[Counter::kListenDisabledUs]},
             {"threads", options.thread_count},
             {"conn_yields", port[Counter::kYields]},
             {"hash_power_level", Log2(store.buckets)},
             {"hash_bytes", store.index_bytes}},
            out);
  AppendZeros(
      {"hash_is_expanding", "slab_reassign_rescues", "slab_reassign_chunk_rescues", "slab_reassign_inline_reclaim",
       "slab_reassign_busy_items", "slab_reassign_busy_deletes", "slab_reassign_busy_nomem"},
      out);
  out->Add("slab_reassign_last_busy_status", "none");
  AppendZeros({"slab_reassign_running", "slabs_moved", "lru_crawler_running", "lru_crawler_starts",
               "lru_maintainer_juggles", "malloc_fails"},
              out);
  AppendAll({{"log_worker_dropped", port[Counter::kLogWorkerDropped]},
             {"log_worker_written", port[Counter::kLogWorkerWritten]},
             {"log_watcher_skipped", port[Counter::kLogWatcherSkipped]},
             {"log_watcher_sent", port[Counter::kLogWatcherSent]},
             {"log_watchers", service->watch_hub()->watcher_count()}},
            out);
  AppendZeros({"unexpected_napi_ids", "round_robin_fallback"}, out);
  AppendAll({{"bytes", store.charged_bytes},
             {"curr_items", store.entries},
             {"total_items", store.sets},
             {"slab_global_page_pool", store.pages_free},
             {"expired_unfetched", store.expired_unfetched},
             {"evicted_unfetched", store.evicted_unfetched},
             {"evicted_active", 0},
             {"evictions", store.evictions},
             {"reclaimed", store.expirations}},
            out);
  AppendZeros({"crawler_reclaimed", "crawler_items_checked", "lrutail_reflocked", "moves_to_cold", "moves_to_warm",
               "moves_within_lru", "direct_reclaims", "lru_bumps_dropped"},
              out);
  if (!options.tls.is_enabled) return;
  if (options.tls.has_session_cache) out->Add("ssl_new_sessions", port[Counter::kTlsSessions]);
  const uint64_t since_ms = service->certificates_since_ms();
  AppendAll({{"ssl_handshake_errors", port[Counter::kTlsFailures]},
             {"time_since_server_cert_refresh", Difference(now.boot_ms, since_ms) / 1000}},
            out);
}

std::string_view NameOf(Protocols protocols) {
  switch (protocols) {
    case Protocols::kAuto:
      return "auto-negotiate";
    case Protocols::kAscii:
      return "ascii";
    case Protocols::kBinary:
      return "binary";
  }
  return "";
}

void AppendSettings(Service* service, StatSink* out) {
  const Service::Options& options = service->options();
  AppendAll({{"maxbytes", service->store()->Stats().memory_bytes},
             {"maxconns", options.connections_max},
             {"tcpport", options.tcp_port},
             {"udpport", options.udp_port}},
            out);
  out->Add("inter", options.interfaces.empty() ? "NULL" : std::string_view(options.interfaces));
  out->Add("verbosity", service->verbosity());
  out->Add("oldest", uint64_t{0});
  out->Add("evictions", "on");
  out->Add("domain_socket", options.socket_path.empty() ? "NULL" : std::string_view(options.socket_path));
  AppendAll({{"umask", "700"}, {"shutdown_command", options.enable_shutdown ? "yes" : "no"}, {"growth_factor", "1.09"}},
            out);
  AppendAll({{"chunk_size", kGranuleBytes},
             {"num_threads", options.thread_count},
             {"num_threads_per_udp", uint64_t{options.udp_port != 0}}},
            out);
  const char delimiter = service->prefixes()->delimiter();
  AppendAll({{"stat_key_prefix", {&delimiter, 1}}, {"detail_enabled", service->prefixes()->is_on() ? "yes" : "no"}},
            out);
  out->Add("reqs_per_event", kGroupKeysMax);
  out->Add("cas_enabled", "yes");
  out->Add("tcp_backlog", options.backlog);
  AppendAll({{"binding_protocol", NameOf(options.protocols)},
             {"auth_enabled_sasl", options.login == Login::kSasl ? "yes" : "no"},
             {"auth_enabled_ascii", options.login == Login::kText ? std::string_view(options.auth_file) : "no"}},
            out);
  out->Add("item_size_max", options.item_bytes_max);
  out->Add("maxconns_fast", "yes");
  out->Add("hashpower_init", uint64_t{0});
  AppendAll({{"slab_reassign", "no"},
             {"slab_automove", "0"},
             {"slab_automove_ratio", "0.00"},
             {"slab_automove_window", "0"},
             {"slab_chunk_max", "0"},
             {"lru_crawler", "no"},
             {"lru_crawler_sleep", "0"},
             {"lru_crawler_tocrawl", "0"},
             {"tail_repair_time", "0"},
             {"flush_enabled", options.disable_flush_all ? "no" : "yes"},
             {"dump_enabled", options.disable_dumping ? "no" : "yes"},
             {"hash_algorithm", service->store()->options().hash == HashKind::kSipHash ? "siphash13" : "keyed"},
             {"lru_maintainer_thread", "no"},
             {"lru_segmented", "no"},
             {"hot_lru_pct", "0"},
             {"warm_lru_pct", "0"},
             {"hot_max_factor", "0.00"},
             {"warm_max_factor", "0.00"},
             {"temp_lru", "no"},
             {"temporary_ttl", "0"}},
            out);
  out->Add("idle_timeout", options.idle_timeout_s);
  AppendAll({{"watcher_logbuf_size", Watcher::kWatcherBytes}, {"worker_logbuf_size", EventLog::kEventLogBytes}}, out);
  AppendAll({{"read_buf_mem_limit", "0"},
             {"track_sizes", options.track_sizes ? "yes" : "no"},
             {"inline_ascii_response", "no"},
             {"ext_item_size", "0"},
             {"ext_item_age", "0"},
             {"ext_low_ttl", "0"},
             {"ext_recache_rate", "0"},
             {"ext_wbuf_size", "0"},
             {"ext_compact_under", "0"},
             {"ext_drop_under", "0"},
             {"ext_max_sleep", "0"},
             {"ext_max_frag", "0.00"},
             {"slab_automove_freeratio", "0.000"},
             {"ext_drop_unread", "no"},
             {"ssl_enabled", options.tls.is_enabled ? "yes" : "no"},
             {"ssl_chain_cert", options.tls.chain_cert},
             {"ssl_key", options.tls.key}},
            out);
  AppendAll({{"ssl_verify_mode", options.tls.verify_mode}, {"ssl_keyformat", options.tls.key_format}}, out);
  AppendAll({{"ssl_ciphers", options.tls.ciphers},
             {"ssl_ca_cert", options.tls.ca_cert},
             {"ssl_wbuf_size", "0"},
             {"ssl_session_cache", options.tls.has_session_cache ? "yes" : "no"},
             {"ssl_kernel_tls", "no"},
             {"ssl_min_version", options.tls.min_version},
             {"num_napi_ids", "0"},
             {"memory_file", "NULL"},
             {"client_flags_size", "4"}},
            out);
}

// There are no slab classes: everything is one class, with the figures of the whole.
void AppendItems(Service* service, StatSink* out) {
  const StoreStats store = service->store()->Stats();
  if (store.entries == 0) return;
  AppendAll({{"items:1:number", store.entries},
             {"items:1:number_hot", 0},
             {"items:1:number_warm", 0},
             {"items:1:number_cold", store.entries},
             {"items:1:age_hot", 0},
             {"items:1:age_warm", 0},
             {"items:1:age", 0},
             {"items:1:mem_requested", store.payload_bytes},
             {"items:1:evicted", store.evictions},
             {"items:1:evicted_nonzero", 0},
             {"items:1:evicted_time", 0},
             {"items:1:outofmemory", store.no_memory},
             {"items:1:tailrepairs", 0},
             {"items:1:reclaimed", store.expirations},
             {"items:1:expired_unfetched", store.expired_unfetched},
             {"items:1:evicted_unfetched", store.evicted_unfetched},
             {"items:1:evicted_active", 0},
             {"items:1:crawler_reclaimed", 0},
             {"items:1:crawler_items_checked", 0},
             {"items:1:lrutail_reflocked", 0},
             {"items:1:moves_to_cold", 0},
             {"items:1:moves_to_warm", 0},
             {"items:1:moves_within_lru", 0},
             {"items:1:direct_reclaims", 0},
             {"items:1:hits_to_hot", 0},
             {"items:1:hits_to_warm", 0},
             {"items:1:hits_to_cold", store.hits},
             {"items:1:hits_to_temp", 0}},
            out);
}

void AppendSlabs(Service* service, StatSink* out) {
  const StoreStats store = service->store()->Stats();
  const CounterValues port = service->ReadCounters();
  if (store.entries != 0) {
    uint64_t page_bytes = service->store()->page_bytes();
    uint64_t chunks_per_page = page_bytes / kGranuleBytes;
    uint64_t used_chunks = store.charged_bytes / kGranuleBytes;
    uint64_t total_chunks = store.pages_used * chunks_per_page;
    AppendAll({{"1:chunk_size", kGranuleBytes},
               {"1:chunks_per_page", chunks_per_page},
               {"1:total_pages", store.pages_used},
               {"1:total_chunks", total_chunks},
               {"1:used_chunks", used_chunks},
               {"1:free_chunks", Difference(total_chunks, used_chunks)},
               {"1:free_chunks_end", 0},
               {"1:get_hits", Difference(store.hits, port[Counter::kGatHits])},
               {"1:cmd_set", store.sets + port[Counter::kNotStored]},
               {"1:delete_hits", store.delete_hits},
               {"1:incr_hits", store.incr_hits},
               {"1:decr_hits", store.decr_hits},
               {"1:cas_hits", store.cas_hits},
               {"1:cas_badval", store.cas_exists},
               {"1:touch_hits", store.touch_hits}},
              out);
  }
  AppendAll(
      {{"active_slabs", store.entries != 0 ? uint64_t{1} : uint64_t{0}}, {"total_malloced", store.committed_bytes}},
      out);
}

std::string_view NameOf(LogView::Health state) {
  switch (state) {
    case LogView::Health::kRunning:
      return "running";
    case LogView::Health::kFull:
    case LogView::Health::kStuck:
      return "full";
    case LogView::Health::kFailed:
      return "failed";
  }
  return "";
}

std::string_view NameOf(Ack ack) {
  switch (ack) {
    case Ack::kMemory:
      return "memory";
    case Ack::kLogged:
      return "logged";
    case Ack::kStored:
      return "stored";
  }
  return "";
}

// What memcached has nothing of.
void AppendOutput(Service* service, StatSink* out) {
  if (service->options().unsent_bytes_max == 0) return;
  AppendAll({{"output_bytes", service->unsent_bytes()},
             {"output_limit_bytes", service->options().unsent_bytes_max},
             {"output_drops", service->ReadCounters()[Counter::kOutputDrops]}},
            out);
}

void AppendCairn(Service* service, Ack ack, const Now& now, StatSink* out) {
  const Service::Options& options = service->options();
  out->Add("version", options.cairn_version);
  out->Add("ack", NameOf(ack));
  const LogView* log = service->log();
  if (log == nullptr) {
    out->Add("log", "none");
    return AppendOutput(service, out);
  }
  const LogView::Numbers numbers = log->ReadNumbers();
  const CounterValues port = service->ReadCounters();
  out->Add("log", NameOf(log->health()));
  AppendOutput(service, out);
  AppendAll({{"ring_bytes", numbers.ring_bytes}, {"ring_capacity_bytes", numbers.ring_capacity_bytes}}, out);
  out->Add("ring_fill_worst", Decimal(numbers.ring_fill_worst));
  AppendAll({{"ring_full", service->store()->Stats().log_full},
             {"records_waiting", Difference(numbers.records, numbers.records_committed)},
             {"oldest_waiting_ms", numbers.lag_ms},
             {"replies_held", port[Counter::kHeld]},
             {"requests_parked", port[Counter::kParked]},
             {"requests_refused", port[Counter::kRefused]}},
            out);
  std::vector<double> metrics(options.log_metrics.size());
  log->ReadMetrics(metrics.data(), metrics.size());
  for (size_t i = 0; i < metrics.size(); i++) {
    constexpr std::string_view kPointInTime = "_at_ms";
    std::string_view name = options.log_metrics[i];
    if (!name.ends_with(kPointInTime)) {
      out->Add(name, Decimal(metrics[i]));
    } else if (metrics[i] > 0) {
      const double age_ms = std::max(0.0, static_cast<double>(now.wall_ms) - metrics[i]);
      name.remove_suffix(kPointInTime.size());
      out->Add(std::string(name) + "_age_ms", Decimal(age_ms));
    }
  }
}

void AppendConnections(Service* service, const Now& now, StatSink* out) {
  for (const Service::Connection& connection : service->Connections(now)) {
    std::string id = std::to_string(connection.id);
    out->Add(id + ":addr", connection.names->peer);
    out->Add(id + ":listen_addr", connection.names->listener);
    out->Add(id + ":state", "conn_read");
    out->Add(id + ":secs_since_last_cmd", connection.idle_ms / 1000);
  }
}

}  // namespace

void StatSink::Add(std::string_view name, uint64_t value) {
  char digits[20];
  Add(name, std::string_view(digits, static_cast<size_t>(std::to_chars(digits, digits + 20, value).ptr - digits)));
}

StatsAnswer AppendStats(std::string_view topic, Service* service, Ack ack, const Now& now, StatSink* out) {
  if (topic.empty()) {
    AppendGeneral(service, now, out);
  } else if (topic == "settings") {
    AppendSettings(service, out);
  } else if (topic == "items") {
    AppendItems(service, out);
  } else if (topic == "slabs") {
    AppendSlabs(service, out);
  } else if (topic == "sizes") {
    out->Add("sizes_status", "disabled");
  } else if (topic == "conns") {
    AppendConnections(service, now, out);
  } else if (topic == "cairn") {
    AppendCairn(service, ack, now, out);
  } else if (topic == "latencies") {
    AppendLatencies(service, out);
  } else if (topic == "topkeys") {
    AppendTopKeys(service, out);
  } else if (topic == "slow") {
    AppendSlowRequests(service, out);
  } else if (topic == "large") {
    AppendLargeRequests(service, out);
  } else if (topic == "reset") {
    service->ResetStats();
    return StatsAnswer::kReset;
  } else {
    return StatsAnswer::kUnknown;
  }
  return StatsAnswer::kListed;
}

}  // namespace cairn
