#include "addon/walk_binding.h"

#include <cstring>
#include <iterator>
#include <memory>
#include <new>
#include <utility>

#include "addon/answer.h"
#include "addon/cache_binding.h"
#include "addon/convert.h"
#include "addon/environment.h"
#include "store/record.h"
#include "store/store.h"

namespace cairn {
namespace {

// Entries that one call brings across: a pair of values each.
constexpr size_t kWalkEntriesMax = kChunkKeysMax / 2;
// What the records of so many entries need beside keys and values: header and padding.
constexpr size_t kRecordRoomBytes = kWalkEntriesMax * (kRecordHeaderBytes + 8);

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

void FinalizeWalk(napi_env, void* data, void*) {
  auto* walk = static_cast<Walk*>(data);
  walk->Close();
  delete walk;
}

// Where a step puts keys and values: the scratch of the environment, or, for an entry that is larger, the heap.
struct StepRoom {
  Scratch scratch;
  std::unique_ptr<char[]> heap;
  WalkedEntry entries[kWalkEntriesMax];
  size_t count = 0;
  bool done = false;

  // False: out of memory.
  bool Step(Walk* walk, const Now& now, bool with_values, size_t entries_max, char* data, size_t capacity) {
    scratch = Scratch{data, capacity, 0};
    size_t bytes_needed = 0;
    count = walk->cache->store()->StepCursor(&walk->cursor, now, with_values, entries, entries_max, &scratch, &done,
                                             &bytes_needed);
    while (count == 0 && !done) {
      heap.reset(new (std::nothrow) char[bytes_needed]);
      if (heap == nullptr) return false;
      scratch = Scratch{heap.get(), bytes_needed, 0};
      // One entry: the others would only make the values wait in memory of their own.
      count =
          walk->cache->store()->StepCursor(&walk->cursor, now, with_values, entries, 1, &scratch, &done, &bytes_needed);
    }
    return true;
  }
};

// True if the bytes are well-formed UTF-8 (Unicode 15, table 3-7).
bool IsUtf8(const char* data, size_t bytes) {
  const auto* at = reinterpret_cast<const unsigned char*>(data);
  const unsigned char* const end = at + bytes;
  while (at < end) {
    const unsigned char lead = *at++;
    if (lead < 0x80) continue;
    int more;
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    if (lead >= 0xC2 && lead <= 0xDF) {
      more = 1;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      more = 2;
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      more = 3;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    } else {
      return false;
    }
    if (end - at < more) return false;
    if (*at < low || *at > high) return false;
    at++;
    for (int i = 1; i < more; i++, at++) {
      if ((*at & 0xC0) != 0x80) return false;
    }
  }
  return true;
}

napi_value BufferOf(napi_env env, const char* data, size_t bytes) {
  napi_value buffer = nullptr;
  if (napi_create_buffer_copy(env, bytes, data, nullptr, &buffer) == napi_ok) return buffer;
  napi_value error;
  napi_get_and_clear_last_exception(env, &error);
  return nullptr;
}

// A key as JavaScript gets it: a string, or a Buffer where the bytes are no text.
napi_value KeyValue(napi_env env, const char* data, size_t bytes) {
  napi_value value = nullptr;
  if (!HasHighBit(data, bytes)) {
    napi_create_string_latin1(env, data, bytes, &value);
    return value;
  }
  if (IsUtf8(data, bytes)) return Text(env, std::string_view(data, bytes));
  return BufferOf(env, data, bytes);
}

Walk* WalkOf(napi_env env, napi_value value) {
  void* data = nullptr;
  if (napi_get_value_external(env, value, &data) != napi_ok) return nullptr;
  return static_cast<Walk*>(data);
}

// openWalk(newest): a walk, or a code.
napi_value OpenWalk(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  if (!call.handle->Usable()) return CodeValue(env, Code::kClosed);
  auto walk = std::make_unique<Walk>();
  walk->cache = call.handle->pointer;
  const bool newest = BooleanOr(env, call[0], false);
  call.handle->store->OpenCursor(newest ? Cursor::Order::kNewestFirst : Cursor::Order::kOldestFirst, &walk->cursor);
  napi_value external = nullptr;
  Walk* made = walk.release();
  if (napi_create_external(env, made, FinalizeWalk, nullptr, &external) != napi_ok) FinalizeWalk(env, made, nullptr);
  return external;
}

// closeWalk(walk): idempotent.
napi_value CloseWalk(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  Walk* walk = WalkOf(env, call[0]);
  if (walk != nullptr) walk->Close();
  return Undefined(env);
}

// stepWalk(walk, withValues, entriesMax): an array of keys, or of keys and values by turns; the words have the number
// of values that TypeScript has to decode. Undefined: the walk is over. A number: a code.
napi_value StepWalk(napi_env env, napi_callback_info info) {
  HandleCall<3> call(env, info);
  CacheHandle* handle = call.handle;
  Walk* walk = WalkOf(env, call[0]);
  if (!handle->Usable() || walk == nullptr) return CodeValue(env, Code::kClosed);
  if (!walk->open) return Undefined(env);
  Environment* environment = handle->environment;
  const bool with_values = BooleanOr(env, call[1], false);
  size_t entries_max = static_cast<size_t>(NumberOr(env, call[2], kWalkEntriesMax));
  if (entries_max > kWalkEntriesMax) entries_max = kWalkEntriesMax;
  StepRoom room;
  if (!room.Step(walk, handle->instance->ReadNow(false), with_values, entries_max, environment->scratch,
                 kScratchBytes)) {
    return CodeValue(env, Code::kOutOfMemory);
  }
  if (room.count == 0) {
    walk->Close();
    return Undefined(env);
  }
  napi_value array = nullptr;
  const size_t stride = with_values ? 2 : 1;
  napi_create_array_with_length(env, room.count * stride, &array);
  size_t marked = 0;
  for (size_t i = 0; i < room.count; i++) {
    const WalkedEntry& entry = room.entries[i];
    napi_value key = KeyValue(env, room.scratch.data + entry.key_offset, entry.key_bytes);
    if (key == nullptr) return CodeValue(env, Code::kOutOfMemory);
    napi_set_element(env, array, static_cast<uint32_t>(i * stride), key);
    if (!with_values) continue;
    Mark& mark = environment->marks[i];
    mark.codec = kMarkDone;
    const char* data = room.scratch.data + entry.value_offset;
    napi_value value = DirectValue(env, entry.codec, data, entry.value_bytes);
    if (value == nullptr) {
      marked++;
      mark.codec = static_cast<uint32_t>(entry.codec);
      mark.offset = room.heap == nullptr ? static_cast<uint32_t>(entry.value_offset) : kMarkElsewhere;
      mark.bytes = entry.value_bytes;
      mark.client_flags = entry.client_flags;
      if (room.heap == nullptr) continue;
      value = BufferOf(env, data, entry.value_bytes);
      if (value == nullptr) return CodeValue(env, Code::kOutOfMemory);
    }
    napi_set_element(env, array, static_cast<uint32_t>(i * stride + 1), value);
  }
  environment->Set(Word::kNumber, marked);
  return array;
}

// Writes the record of an entry; returns its size.
size_t EncodeEntry(const WalkedEntry& entry, const Scratch& scratch, const Now& now, char* target) {
  RecordHeader header{};
  header.record_bytes = static_cast<uint32_t>(RecordBytes(entry.key_bytes, entry.value_bytes));
  header.kind = RecordKind::kSet;
  header.codec = static_cast<uint8_t>(entry.codec);
  if (entry.client_flags != 0) header.codec |= 0x10;
  header.version = entry.version;
  header.expires_wall_ms =
      entry.expires_ms == kNeverExpires ? 0 : static_cast<int64_t>(entry.expires_ms) + now.WallOffset();
  header.client_flags = entry.client_flags;
  header.key_bytes = entry.key_bytes;
  header.value_bytes = entry.value_bytes;
  std::memcpy(target, &header, sizeof(header));
  char* at = target + sizeof(header);
  std::memcpy(at, scratch.data + entry.key_offset, entry.key_bytes);
  at += entry.key_bytes;
  std::memcpy(at, scratch.data + entry.value_offset, entry.value_bytes);
  at += entry.value_bytes;
  std::memset(at, 0, static_cast<size_t>(target + header.record_bytes - at));
  return header.record_bytes;
}

// dumpStep(walk, target, withExpired): bytes of records written to target. 0: the words have the size that the next
// entry needs, or 0 when the walk is over. false: see the code.
napi_value DumpStep(napi_env env, napi_callback_info info) {
  HandleCall<3> call(env, info);
  CacheHandle* handle = call.handle;
  Walk* walk = WalkOf(env, call[0]);
  if (!handle->Usable() || walk == nullptr) return Refusal(env, handle, Code::kClosed);
  Scratch target;
  if (!BytesOf(env, call[1], &target.data, &target.capacity)) return Refusal(env, handle, Code::kInvalidValue);
  Environment* environment = handle->environment;
  environment->Set(Word::kNumber, 0);
  const Now now = handle->instance->ReadBothClocks();
  // A snapshot has them too: somebody whose clock was read a moment before may still touch one.
  const Now walk_now = BooleanOr(env, call[2], false) ? Now{} : now;
  while (walk->open && target.capacity > target.used + kRecordRoomBytes) {
    const size_t room_bytes = target.capacity - target.used - kRecordRoomBytes;
    const size_t capacity = room_bytes < kScratchBytes ? room_bytes : kScratchBytes;
    Scratch scratch{environment->scratch, capacity, 0};
    WalkedEntry entries[kWalkEntriesMax];
    bool done = false;
    size_t bytes_needed = 0;
    std::unique_ptr<char[]> heap;
    size_t count = handle->store->StepCursor(&walk->cursor, walk_now, true, entries, kWalkEntriesMax, &scratch, &done,
                                             &bytes_needed);
    if (count == 0 && !done) {
      // The next entry is larger than the scratch, or than what is left of the target.
      if (bytes_needed > room_bytes) {
        if (target.used == 0) environment->Set(Word::kNumber, bytes_needed + kRecordRoomBytes + 1);
        break;
      }
      heap.reset(new (std::nothrow) char[bytes_needed]);
      if (heap == nullptr) return Refusal(env, handle, Code::kOutOfMemory);
      scratch = Scratch{heap.get(), bytes_needed, 0};
      count = handle->store->StepCursor(&walk->cursor, walk_now, true, entries, 1, &scratch, &done, &bytes_needed);
    }
    for (size_t i = 0; i < count; i++) {
      target.used += EncodeEntry(entries[i], scratch, now, target.data + target.used);
    }
    if (done) walk->Close();
  }
  return Double(env, static_cast<double>(target.used));
}

// load(bytes): applies the records that lie in them, one behind the other, and returns how many bytes it took; less
// than all if the last record is cut off. The words have the number applied, and as version the number of those that
// were not (expired by now, too large for this cache). false: see the code; kInvalidValue: they are no records.
napi_value Load(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  CacheHandle* handle = call.handle;
  if (!handle->Usable()) return Refusal(env, handle, Code::kClosed);
  char* data;
  size_t bytes;
  if (!BytesOf(env, call[0], &data, &bytes)) return Refusal(env, handle, Code::kInvalidValue);
  const Now now = handle->instance->ReadBothClocks();
  uint64_t applied = 0;
  uint64_t skipped = 0;
  size_t at = 0;
  while (at < bytes) {
    RecordView record;
    const DecodeStatus decoded = DecodeRecord(std::string_view(data + at, bytes - at), &record);
    if (decoded == DecodeStatus::kNeedsMore) break;
    if (decoded == DecodeStatus::kMalformed || record.kind != RecordKind::kSet ||
        (record.codec & 0x0F) >= kCodecCount) {
      return Refusal(env, handle, Code::kInvalidValue);
    }
    at += record.record_bytes;
    if (record.expires_wall_ms != 0 && record.expires_wall_ms <= now.wall_ms) {
      skipped++;
      continue;
    }
    const Status status = handle->store->Apply(record, now, false);
    if (status == Status::kLogFull) return Refusal(env, handle, Code::kLogFull);
    if (status == Status::kStored) {
      applied++;
    } else {
      skipped++;
    }
  }
  handle->environment->Set(Word::kNumber, applied);
  handle->environment->Set(Word::kVersion, skipped);
  return Double(env, static_cast<double>(at));
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
napi_value Stats(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  if (!call.handle->Usable()) return CodeValue(env, Code::kClosed);
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(env, call[0], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || length < std::size(kStatFields)) {
    return CodeValue(env, Code::kInvalidValue);
  }
  const StoreStats stats = call.handle->store->Stats();
  auto* numbers = static_cast<double*>(data);
  for (const StatField& field : kStatFields) *numbers++ = static_cast<double>(stats.*field.member);
  return CodeValue(env, Code::kStored);
}

// resetStats(): kStored or kClosed.
napi_value ResetStats(napi_env env, napi_callback_info info) {
  HandleCall<1> call(env, info);
  if (!call.handle->Usable()) return CodeValue(env, Code::kClosed);
  call.handle->store->ResetStats();
  return CodeValue(env, Code::kStored);
}

void ExtendHandle(napi_env env, CacheHandle* handle, napi_value object) {
  AddHandleFunction(env, handle, object, "openWalk", OpenWalk);
  AddHandleFunction(env, handle, object, "closeWalk", CloseWalk);
  AddHandleFunction(env, handle, object, "stepWalk", StepWalk);
  AddHandleFunction(env, handle, object, "dumpStep", DumpStep);
  AddHandleFunction(env, handle, object, "load", Load);
  AddHandleFunction(env, handle, object, "stats", Stats);
  AddHandleFunction(env, handle, object, "resetStats", ResetStats);
}

}  // namespace

void InitWalkBinding(napi_env env, napi_value exports) {
  Environment::Of(env)->extenders.push_back(ExtendHandle);
  napi_value names = nullptr;
  napi_create_array_with_length(env, std::size(kStatFields), &names);
  for (size_t i = 0; i < std::size(kStatFields); i++) {
    napi_set_element(env, names, static_cast<uint32_t>(i), Text(env, kStatFields[i].name));
  }
  napi_set_named_property(env, exports, "statNames", names);
}

}  // namespace cairn
