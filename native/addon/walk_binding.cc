#include "addon/walk_binding.h"

#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "addon/answer.h"
#include "addon/convert.h"
#include "addon/environment.h"
#include "base/utf8.h"
#include "store/record.h"
#include "store/store.h"

namespace cairn {
namespace {

// Entries that one call brings across: a pair of values each.
constexpr size_t kWalkEntriesMax = kChunkKeysMax / 2;
// The bytes that the records of kWalkEntriesMax entries need beside keys and values: header and padding.
constexpr size_t kRecordRoomBytes = kWalkEntriesMax * RecordBytes(7, 0, RecordFieldBytes(kFieldFreshness));

// A walk in progress. JavaScript holds it as an external; whatever happens to the handle, the walk keeps the store.
struct Walk {
  CachePointer cache;
  Cursor cursor;
  bool open = true;

  void Close() {
    if (open) cache->store()->CloseCursor(&cursor);
    open = false;
    cursor = Cursor{};
    cache.reset();
  }
};

// Where a step puts keys: the scratch of the environment, or, for one that is larger, the heap.
struct KeyRoom {
  Scratch scratch;
  std::unique_ptr<char[]> heap;
  WalkedEntry entries[kWalkEntriesMax];
  size_t count = 0;
  bool done = false;

  // False: out of memory.
  bool Step(Walk* walk, const Now& now, size_t entries_max, char* data, size_t capacity) {
    scratch = Scratch{data, capacity, 0};
    size_t bytes_needed = 0;
    count = walk->cache->store()->StepCursor(&walk->cursor, now, Emits::kKeys, entries, entries_max, &scratch, &done,
                                             &bytes_needed);
    while (count == 0 && !done) {
      heap.reset(new (std::nothrow) char[bytes_needed]);
      if (heap == nullptr) return false;
      scratch = Scratch{heap.get(), bytes_needed, 0};
      count = walk->cache->store()->StepCursor(&walk->cursor, now, Emits::kKeys, entries, 1, &scratch, &done,
                                               &bytes_needed);
    }
    return true;
  }
};

// A Buffer with a copy of the bytes; empty if there is no memory for it.
Napi::Value BufferOf(Napi::Env env, const char* data, size_t bytes) {
  const auto buffer = Napi::Buffer<char>::Copy(env, data, bytes);
  if (buffer.IsEmpty()) env.GetAndClearPendingException();
  return buffer;
}

// A key as JavaScript gets it: a string, or a Buffer where the bytes are no text.
Napi::Value KeyValue(Napi::Env env, std::string_view key) {
  if (IsUtf8(key)) return Napi::String::New(env, key.data(), key.size());
  return BufferOf(env, key.data(), key.size());
}

Walk* WalkOf(Napi::Value value) { return value.IsExternal() ? value.As<Napi::External<Walk>>().Data() : nullptr; }

Napi::Value RefusalValue(Napi::Env env, const CacheHandle* handle, Code code) {
  return Napi::Value(env, Refuse(env, handle, code));
}

// openWalk(newest, acceptsStale): a walk, or a code.
Napi::Value OpenWalk(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return CodeNumber(env, Code::kClosed);
  auto walk = std::make_unique<Walk>();
  walk->cache = handle->pointer;
  const bool newest = BooleanOr(info[0], false);
  handle->store->OpenCursor(newest ? Cursor::Order::kNewestFirst : Cursor::Order::kOldestFirst, &walk->cursor);
  walk->cursor.accepts_stale = BooleanOr(info[1], false);
  const auto end = [](Napi::Env, Walk* made) {
    made->Close();
    delete made;
  };
  const auto external = Napi::External<Walk>::New(env, walk.get(), end);
  if (external.IsEmpty()) {
    walk->Close();
  } else {
    static_cast<void>(walk.release());  // the finalizer's
  }
  return external;
}

// closeWalk(walk): idempotent.
void CloseWalk(const Napi::CallbackInfo& info) {
  Walk* walk = WalkOf(info[0]);
  if (walk != nullptr) walk->Close();
}

// stepWalk(walk, entriesMax): an array of keys. Undefined: the walk is over. A number: a code.
Napi::Value StepWalk(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  Walk* walk = WalkOf(info[0]);
  if (!handle->Usable() || walk == nullptr) return CodeNumber(env, Code::kClosed);
  if (!walk->open) return env.Undefined();
  size_t entries_max = static_cast<size_t>(NumberOr(info[1], kWalkEntriesMax));
  if (entries_max > kWalkEntriesMax) entries_max = kWalkEntriesMax;
  KeyRoom room;
  if (!room.Step(walk, handle->instance->ReadNow(false), entries_max, handle->environment->scratch, kScratchBytes)) {
    return CodeNumber(env, Code::kOutOfMemory);
  }
  if (room.count == 0) {
    walk->Close();
    return env.Undefined();
  }
  Napi::Array array = Napi::Array::New(env, room.count);
  for (size_t i = 0; i < room.count; i++) {
    const WalkedEntry& entry = room.entries[i];
    const Napi::Value key = KeyValue(env, {room.scratch.data + entry.key_offset, entry.key_bytes});
    if (key.IsEmpty()) return CodeNumber(env, Code::kOutOfMemory);
    array.Set(static_cast<uint32_t>(i), key);
  }
  return array;
}

// Writes the record of an entry; returns its size.
size_t EncodeEntry(const WalkedEntry& entry, const Scratch& scratch, const Now& now, char* target) {
  RecordView record;
  record.codec = static_cast<uint8_t>(entry.codec);
  record.version = entry.version;
  record.expires_wall_ms =
      entry.expires_ms == kNeverExpires ? 0 : static_cast<int64_t>(entry.expires_ms) + now.WallOffset();
  if (entry.fresh_until_ms != kAlwaysFresh) {
    record.optional.SetFreshUntil(static_cast<int64_t>(entry.fresh_until_ms) + now.WallOffset());
  }
  record.client_flags = entry.client_flags;
  record.key = {scratch.data + entry.key_offset, entry.key_bytes};
  record.value = {scratch.data + entry.value_offset, entry.value_bytes};
  return EncodeRecord(record, target);
}

// dumpStep(walk, target, withExpired): bytes of records written to target. 0: the words have the size that the next
// entry needs, or 0 when the walk is over. false: see the code.
Napi::Value DumpStep(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  Walk* walk = WalkOf(info[0]);
  if (!handle->Usable() || walk == nullptr) return RefusalValue(env, handle, Code::kClosed);
  Scratch target;
  if (!BytesOf(info[1], &target.data, &target.capacity)) return RefusalValue(env, handle, Code::kInvalidValue);
  Environment* environment = handle->environment;
  environment->Set(Word::kNumber, 0);
  const Now now = handle->instance->ReadBothClocks();
  // A snapshot includes expired entries: a thread that read its clock a moment ago may still touch one.
  const Now walk_now = BooleanOr(info[2], false) ? Now{} : now;
  while (walk->open && target.capacity > target.used + kRecordRoomBytes) {
    const size_t room_bytes = target.capacity - target.used - kRecordRoomBytes;
    const size_t capacity = room_bytes < kScratchBytes ? room_bytes : kScratchBytes;
    Scratch scratch{environment->scratch, capacity, 0};
    WalkedEntry entries[kWalkEntriesMax];
    bool done = false;
    size_t bytes_needed = 0;
    std::unique_ptr<char[]> heap;
    size_t count = handle->store->StepCursor(&walk->cursor, walk_now, Emits::kKeysAndValues, entries, kWalkEntriesMax,
                                             &scratch, &done, &bytes_needed);
    if (count == 0 && !done) {
      // The next entry is larger than the scratch, or than what is left of the target.
      if (bytes_needed > room_bytes) {
        if (target.used == 0) environment->Set(Word::kNumber, bytes_needed + kRecordRoomBytes + 1);
        break;
      }
      heap.reset(new (std::nothrow) char[bytes_needed]);
      if (heap == nullptr) return RefusalValue(env, handle, Code::kOutOfMemory);
      scratch = Scratch{heap.get(), bytes_needed, 0};
      count = handle->store->StepCursor(&walk->cursor, walk_now, Emits::kKeysAndValues, entries, 1, &scratch, &done,
                                        &bytes_needed);
    }
    for (size_t i = 0; i < count; i++) {
      target.used += EncodeEntry(entries[i], scratch, now, target.data + target.used);
    }
    if (done) walk->Close();
  }
  return Napi::Number::New(env, static_cast<double>(target.used));
}

// load(bytes): applies the records that lie in them, one behind the other, and returns how many bytes it took; less
// than all if the last record is cut off. The words have the number applied, and as version the number of those that
// were not (expired by now, too large for this cache). false: see the code; kInvalidValue: they are no records.
Napi::Value Load(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return RefusalValue(env, handle, Code::kClosed);
  char* data;
  size_t bytes;
  if (!BytesOf(info[0], &data, &bytes)) return RefusalValue(env, handle, Code::kInvalidValue);
  const Now now = handle->instance->ReadBothClocks();
  uint64_t applied = 0;
  uint64_t skipped = 0;
  size_t at = 0;
  while (at < bytes) {
    RecordView record;
    const DecodeStatus decoded = DecodeRecord(std::string_view(data + at, bytes - at), &record);
    if (decoded == DecodeStatus::kNeedsMore) break;
    if (decoded != DecodeStatus::kOk || record.kind != RecordKind::kSet || record.codec >= kCodecCount) {
      return RefusalValue(env, handle, Code::kInvalidValue);
    }
    at += record.record_bytes;
    if (record.expires_wall_ms != 0 && record.expires_wall_ms <= now.wall_ms) {
      skipped++;
      continue;
    }
    const Status status = handle->store->Apply(record, now, Origin::kElsewhere);
    if (status == Status::kLogFull) return RefusalValue(env, handle, Code::kLogFull);
    if (status == Status::kStored) {
      applied++;
    } else {
      skipped++;
    }
  }
  handle->environment->Set(Word::kNumber, applied);
  handle->environment->Set(Word::kVersion, skipped);
  return Napi::Number::New(env, static_cast<double>(at));
}

// ---- counters ----

struct StatField {
  const char* name;
  uint64_t StoreStats::* member;
};
constexpr StatField kStatFields[] = {
    {"entries", &StoreStats::entries},
    {"clearedEntries", &StoreStats::cleared_entries},
    {"maxEntries", &StoreStats::entries_max},
    {"chargedBytes", &StoreStats::charged_bytes},
    {"limitBytes", &StoreStats::limit_bytes},
    {"payloadBytes", &StoreStats::payload_bytes},
    {"memoryBytes", &StoreStats::memory_bytes},
    {"committedBytes", &StoreStats::committed_bytes},
    {"indexBytes", &StoreStats::index_bytes},
    {"pagesUsed", &StoreStats::pages_used},
    {"pagesFree", &StoreStats::pages_free},
    {"pinnedPages", &StoreStats::pinned_pages},
    {"buckets", &StoreStats::buckets},
    {"gets", &StoreStats::gets},
    {"hits", &StoreStats::hits},
    {"misses", &StoreStats::misses},
    {"sets", &StoreStats::sets},
    {"touches", &StoreStats::touches},
    {"touchHits", &StoreStats::touch_hits},
    {"deletes", &StoreStats::deletes},
    {"deleteHits", &StoreStats::delete_hits},
    {"incrHits", &StoreStats::incr_hits},
    {"incrMisses", &StoreStats::incr_misses},
    {"decrHits", &StoreStats::decr_hits},
    {"decrMisses", &StoreStats::decr_misses},
    {"casHits", &StoreStats::cas_hits},
    {"casMisses", &StoreStats::cas_misses},
    {"casExists", &StoreStats::cas_exists},
    {"evictions", &StoreStats::evictions},
    {"evictedUnfetched", &StoreStats::evicted_unfetched},
    {"expirations", &StoreStats::expirations},
    {"expiredUnfetched", &StoreStats::expired_unfetched},
    {"getExpired", &StoreStats::get_expired},
    {"tooLarge", &StoreStats::too_large},
    {"noMemory", &StoreStats::no_memory},
    {"logFull", &StoreStats::log_full},
    {"clears", &StoreStats::clears},
    {"relocations", &StoreStats::relocations},
    {"splits", &StoreStats::splits},
    {"merges", &StoreStats::merges},
    {"hashFloodEvictions", &StoreStats::hash_flood_evictions},
    {"reserveEvictions", &StoreStats::reserve_evictions},
};

// stats(numbers): fills a Float64Array in the order of `statNames`; kStored or kClosed.
Napi::Value Stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return CodeNumber(env, Code::kClosed);
  size_t count = 0;
  double* numbers = NumbersOf<double>(info[0], napi_float64_array, &count);
  if (numbers == nullptr || count < std::size(kStatFields)) return CodeNumber(env, Code::kInvalidValue);
  const StoreStats stats = handle->store->Stats();
  for (const StatField& field : kStatFields) *numbers++ = static_cast<double>(stats.*field.member);
  return CodeNumber(env, Code::kStored);
}

// resetStats(): kStored or kClosed.
Napi::Value ResetStats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  CacheHandle* handle = HandleOf(info);
  if (!handle->Usable()) return CodeNumber(env, Code::kClosed);
  handle->store->ResetStats();
  return CodeNumber(env, Code::kStored);
}

void ExtendHandle(Napi::Env, CacheHandle* handle, Napi::Object object) {
  AddHandleFunction<OpenWalk>(handle, object, "openWalk");
  AddHandleFunction<CloseWalk>(handle, object, "closeWalk");
  AddHandleFunction<StepWalk>(handle, object, "stepWalk");
  AddHandleFunction<DumpStep>(handle, object, "dumpStep");
  AddHandleFunction<Load>(handle, object, "load");
  AddHandleFunction<Stats>(handle, object, "stats");
  AddHandleFunction<ResetStats>(handle, object, "resetStats");
}

}  // namespace

void InitWalkBinding(Napi::Env env, Napi::Object exports) {
  Environment::Of(env)->extenders.push_back(ExtendHandle);
  Napi::Array names = Napi::Array::New(env, std::size(kStatFields));
  for (uint32_t i = 0; i < std::size(kStatFields); i++) names.Set(i, kStatFields[i].name);
  exports.Set("statNames", names);
}

}  // namespace cairn
