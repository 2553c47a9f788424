#include "addon/many_binding.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

#include "addon/answer.h"
#include "addon/cache_binding.h"
#include "addon/convert.h"
#include "addon/environment.h"

namespace cairn {
namespace {

// Where the keys of a chunk lie: sized so that one more key always fits, however long.
constexpr size_t kKeyRoomBytes = 192 * 1024;
static_assert(kKeyRoomBytes >= 2 * kKeyBytesMax + 4 * kChunkKeysMax);
// What an entry of setChunk's arguments consists of: key, payload, codec.
constexpr size_t kSetArguments = 3;

// The memory of a chunk, per environment: too much for a stack, too often needed to be allocated each time.
class ManyPart : public EnvironmentPart {
 public:
  void OnEnvironmentCleanup() override {}

  static ManyPart* Of(Environment* environment) {
    auto& part = environment->parts[static_cast<size_t>(PartId::kMany)];
    if (part == nullptr) part = std::make_unique<ManyPart>();
    return static_cast<ManyPart*>(part.get());
  }

  char keys[kKeyRoomBytes];
  napi_value arguments[kChunkKeysMax * kSetArguments];
  napi_value values[kChunkKeysMax];
  Request requests[kChunkKeysMax];
  Outcome outcomes[kChunkKeysMax];
  napi_ref array_of = nullptr;  // Array.of, which makes an array of all results at the price of one call
};

// Reads keys into the room of a chunk.
class KeyReader {
 public:
  explicit KeyReader(ManyPart* part) : part_(part) {}

  // kFound, a refusal, or kNeedsRoom: execute what has been read so far and Restart().
  Code Read(napi_env env, napi_value value, std::string_view* key) {
    char* const start = part_->keys + used_;
    const size_t room = sizeof(part_->keys) - used_;
    if (room <= kTextRoomMin) return Code::kNeedsRoom;
    size_t bytes = 0;
    TextKind kind = ReadText(env, value, false, start, room, &bytes);
    if (kind != TextKind::kNoText) [[likely]] {
      if (kind == TextKind::kTooLong) return used_ == 0 ? Code::kInvalidKey : Code::kNeedsRoom;
      if (bytes == 0 || bytes > kKeyBytesMax) return Code::kInvalidKey;
      if (kind == TextKind::kUnseen) kind = KindOfUtf8(start, bytes);
      if (kind == TextKind::kIllFormed) return Code::kKeyMaybeIllFormed;
    } else {
      char* data;
      if (!BytesOf(env, value, &data, &bytes) || bytes == 0 || bytes > kKeyBytesMax) return Code::kInvalidKey;
      if (bytes > room) return Code::kNeedsRoom;
      std::memcpy(start, data, bytes);
    }
    *key = std::string_view(start, bytes);
    used_ += bytes;
    return Code::kFound;
  }
  void Restart() { used_ = 0; }

 private:
  ManyPart* part_;
  size_t used_ = 0;
};

struct ManyCall {
  CacheHandle* handle;
  ManyPart* part;
  size_t count;  // of arguments

  ManyCall(napi_env env, napi_callback_info info, size_t arguments_max) {
    void* data;
    napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
    handle = static_cast<CacheHandle*>(data);
    part = ManyPart::Of(handle->environment);
    count = arguments_max;
    napi_get_cb_info(env, info, &count, part->arguments, nullptr, nullptr);
    if (count > arguments_max) count = arguments_max;
  }
};

// Refuses a chunk, of which nothing was executed: false, with the code and the index of the offending entry.
napi_value RefuseAt(napi_env env, const CacheHandle* handle, Code code, size_t index) {
  handle->environment->Set(Word::kNumber, index);
  return Refuse(env, handle, code);
}

napi_value MakeArray(napi_env env, ManyPart* part, const napi_value* values, size_t count) {
  napi_value array_of = nullptr;
  napi_value array = nullptr;
  if (part->array_of == nullptr) return nullptr;
  if (napi_get_reference_value(env, part->array_of, &array_of) != napi_ok || array_of == nullptr) return nullptr;
  // Fails only where JavaScript no longer runs.
  napi_call_function(env, Undefined(env), array_of, count, values, &array);
  return array;
}

// Turns the outcomes of a group of reads into values; those that TypeScript decodes are marked. Returns their number.
// *not_resident becomes the index of the first value that is not in memory.
size_t Collect(napi_env env, CacheHandle* handle, ManyPart* part, size_t first, size_t count, const Now& now,
               size_t* not_resident) {
  Environment* environment = handle->environment;
  size_t marked = 0;
  for (size_t i = 0; i < count; i++) {
    Outcome& outcome = part->outcomes[i];
    napi_value& value = part->values[first + i];
    Mark& mark = environment->marks[first + i];
    mark.codec = kMarkDone;
    if (outcome.status == Status::kNotFound) {
      value = Undefined(env);
      continue;
    }
    if (outcome.status == Status::kFound) [[likely]] {
      value = DirectValue(env, outcome.codec, environment->scratch + outcome.value_offset, outcome.value_bytes);
      if (value != nullptr) continue;
      mark.codec = static_cast<uint32_t>(outcome.codec);
      mark.offset = static_cast<uint32_t>(outcome.value_offset);
      mark.bytes = outcome.value_bytes;
      mark.client_flags = outcome.client_flags;
      value = Undefined(env);
      marked++;
      continue;
    }
    // The value did not fit the scratch: read it alone, into freshly allocated memory.
    std::unique_ptr<char[]> copied;
    value = nullptr;
    if (ExecuteWithRoom(handle, part->requests[i], now, &outcome, &copied)) {
      if (outcome.status == Status::kNotFound) {
        value = Undefined(env);
        continue;
      }
      if (outcome.status == Status::kFound) {
        value = LargeValue(env, handle, outcome, copied.get() + outcome.value_offset);
        if (value != nullptr && (outcome.codec == Codec::kAscii || outcome.codec == Codec::kUtf8)) continue;
      }
      if (outcome.status == Status::kNotResident) *not_resident = std::min(*not_resident, first + i);
    }
    marked++;
    mark.offset = kMarkElsewhere;
    mark.bytes = outcome.value_bytes;
    mark.client_flags = outcome.client_flags;
    mark.codec = value != nullptr ? static_cast<uint32_t>(outcome.codec) : kMarkFailed;
    if (value == nullptr) value = Undefined(env);
  }
  return marked;
}

// getChunk(...keys): an array of values; the words have the number of marks that TypeScript still has to decode.
// False: see the code and the index; nothing was read.
napi_value GetChunk(napi_env env, napi_callback_info info) {
  ManyCall call(env, info, kChunkKeysMax);
  CacheHandle* handle = call.handle;
  if (!handle->Usable()) return RefuseAt(env, handle, Code::kClosed, 0);
  ManyPart* part = call.part;
  const Now now = handle->instance->ReadNow(false);
  KeyReader keys(part);
  size_t marked = 0;
  size_t not_resident = call.count;
  size_t first = 0;   // argument that the next group begins with
  size_t staged = 0;  // requests of the group
  Scratch scratch{handle->environment->scratch, kScratchBytes, 0};
  auto execute = [&] {
    handle->store->ExecuteMany(part->requests, staged, now, &scratch, part->outcomes);
    marked += Collect(env, handle, part, first, staged, now, &not_resident);
    first += staged;
    staged = 0;
    keys.Restart();
  };
  while (first + staged < call.count) {
    Request& request = part->requests[staged];
    request = Request{};
    const Code code = keys.Read(env, part->arguments[first + staged], &request.key);
    if (code == Code::kFound) [[likely]] {
      part->outcomes[staged++] = Outcome{};
    } else if (code == Code::kNeedsRoom) {
      execute();
    } else {
      return RefuseAt(env, handle, code, first + staged);
    }
  }
  if (staged != 0) execute();
  if (not_resident != call.count) return RefuseAt(env, handle, Code::kNotResident, not_resident);
  handle->environment->Set(Word::kNumber, marked);
  return MakeArray(env, part, part->values, call.count);
}

// deleteChunk(...keys): the number of entries that were there; the marks have a code each. False: as getChunk.
napi_value DeleteChunk(napi_env env, napi_callback_info info) {
  ManyCall call(env, info, kChunkKeysMax);
  CacheHandle* handle = call.handle;
  if (!handle->Usable()) return RefuseAt(env, handle, Code::kClosed, 0);
  ManyPart* part = call.part;
  const Now now = handle->instance->ReadNow(false);
  KeyReader keys(part);
  size_t found = 0;
  size_t first = 0;
  size_t staged = 0;
  auto execute = [&] {
    Scratch scratch;
    handle->store->ExecuteMany(part->requests, staged, now, &scratch, part->outcomes);
    for (size_t i = 0; i < staged; i++) {
      found += part->outcomes[i].status == Status::kFound;
      handle->environment->marks[first + i].codec = static_cast<uint32_t>(CodeOf(part->outcomes[i].status));
    }
    first += staged;
    staged = 0;
    keys.Restart();
  };
  while (first + staged < call.count) {
    Request& request = part->requests[staged];
    request = Request{};
    request.verb = Verb::kDelete;
    const Code code = keys.Read(env, part->arguments[first + staged], &request.key);
    if (code == Code::kFound) [[likely]] {
      part->outcomes[staged++] = Outcome{};
    } else if (code == Code::kNeedsRoom) {
      execute();
    } else {
      return RefuseAt(env, handle, code, first + staged);
    }
  }
  if (staged != 0) execute();
  return Uint32(env, static_cast<uint32_t>(found));
}

// Reads the payload and the codec of an entry of setChunk into its request; text, and bytes that must not change, are
// put behind `used` bytes of the scratch. kFound, a refusal, or kNeedsRoom: the scratch has to be emptied first.
Code ReadPayload(napi_env env, const CacheHandle* handle, napi_value payload, napi_value codec_value, size_t* used,
                 Request* request) {
  Environment* environment = handle->environment;
  uint32_t codec = kTextCodec;
  napi_get_value_uint32(env, codec_value, &codec);
  char* const start = environment->scratch + *used;
  const size_t room = kScratchBytes - *used;
  if (room <= kTextRoomMin) return Code::kNeedsRoom;
  size_t bytes = 0;
  const TextKind kind = ReadText(env, payload, environment->text_is_long, start, room, &bytes);
  if (kind == TextKind::kTooLong) return Code::kNeedsRoom;
  if (kind != TextKind::kNoText) {
    environment->text_is_long = bytes > kTextUnitsMax;
    request->value = std::string_view(start, bytes);
    *used += bytes;
    if (codec == kTextCodec) {
      return CodecOfText(kind, start, bytes, &request->codec) ? Code::kFound : Code::kValueMaybeIllFormed;
    }
    request->codec = static_cast<Codec>(codec);
    return Code::kFound;
  }
  char* data;
  if (!BytesOf(env, payload, &data, &bytes) || codec >= kCodecCount) return Code::kInvalidValue;
  if (bytes > kValueBytesMax) return Code::kTooLarge;
  request->codec = static_cast<Codec>(codec);
  request->value = std::string_view(data, bytes);
  request->value_may_change = true;
  if (bytes <= std::min(room, kCopyUnderLockBytesMax) && handle->store->has_rings()) {
    std::memcpy(start, data, bytes);
    request->value = std::string_view(start, bytes);
    request->value_may_change = false;
    *used += bytes;
  }
  return Code::kFound;
}

// setChunk(verb and ttl in the words; ...key, payload, codec): the number of entries that were not stored; the marks
// have a code each. The codec kTextCodec is text whose kind is found here. False: as getChunk, but what came before the
// index may have been executed.
napi_value SetChunk(napi_env env, napi_callback_info info) {
  ManyCall call(env, info, kChunkKeysMax * kSetArguments);
  CacheHandle* handle = call.handle;
  if (!handle->Usable()) return RefuseAt(env, handle, Code::kClosed, 0);
  Environment* environment = handle->environment;
  ManyPart* part = call.part;
  const auto ttl = static_cast<int64_t>(environment->Get(Word::kExpiresIn));
  const auto verb = static_cast<Verb>(environment->Get(Word::kCode));
  Expiry expiry = Expiry::Default(handle);
  if (ttl == 0) expiry = {Expiry::Kind::kNever, 0};
  if (ttl > 0) expiry = {Expiry::Kind::kIn, static_cast<uint64_t>(ttl)};
  const Now now = handle->instance->ReadNow(expiry.timed());
  const uint64_t expires_ms = expiry.At(now);
  KeyReader keys(part);
  const size_t count = call.count / kSetArguments;
  size_t unstored = 0;
  size_t first = 0;
  size_t staged = 0;
  size_t used = 0;  // of the scratch, where the text payloads are
  auto note = [&](size_t index, Status status) {
    unstored += status != Status::kStored;
    environment->marks[index].codec = static_cast<uint32_t>(CodeOf(status));
  };
  auto execute = [&] {
    Scratch none;
    if (staged != 0) handle->store->ExecuteMany(part->requests, staged, now, &none, part->outcomes);
    for (size_t i = 0; i < staged; i++) note(first + i, part->outcomes[i].status);
    first += staged;
    staged = 0;
    used = 0;
    keys.Restart();
  };
  while (first + staged < count) {
    const size_t index = first + staged;
    const napi_value* entry = part->arguments + index * kSetArguments;
    Request& request = part->requests[staged];
    request = Request{};
    request.verb = verb;
    request.expires_ms = expires_ms;
    Code code = keys.Read(env, entry[0], &request.key);
    if (code == Code::kNeedsRoom) {
      execute();
      continue;
    }
    if (code != Code::kFound) return RefuseAt(env, handle, code, index);
    code = ReadPayload(env, handle, entry[1], entry[2], &used, &request);
    if (code == Code::kNeedsRoom && staged != 0) {
      execute();
      continue;
    }
    // Without others before it kNeedsRoom is a text longer than the whole scratch: TypeScript stores it by itself.
    if (code != Code::kFound) return RefuseAt(env, handle, code, index);
    if (request.value.size() > kCopyUnderLockBytesMax) {
      // Brought in without a lock, after everything that was asked for before it. Moved aside, because the group that
      // executes first uses the same slots.
      const Request large = request;
      execute();
      Outcome outcome;
      ExecuteStore(handle->store, large, now, &outcome);
      note(first++, outcome.status);
      continue;
    }
    part->outcomes[staged++] = Outcome{};
  }
  execute();
  return Uint32(env, static_cast<uint32_t>(unstored));
}

// getPacked(keys, ends, values, used, table, missing): reads the keys that lie one behind the other in `keys`, the i-th
// ending at ends[i]; puts the values behind `used` bytes of `values` and, for each key, {codec or kMarkAbsent, offset,
// bytes} into `table`. Where the values ran out of room the row is {kMarkFailed, 0, bytes}; with `missing`, only those
// rows are read again. Returns the new `used`; the words have the sum of the bytes that found no room. False: see the
// code.
napi_value GetPacked(napi_env env, napi_callback_info info) {
  HandleCall<6> call(env, info);
  CacheHandle* handle = call.handle;
  if (!handle->Usable()) return Refuse(env, handle, Code::kClosed);
  char* keys;
  size_t keys_bytes;
  Scratch values;
  if (!BytesOf(env, call[0], &keys, &keys_bytes) || !BytesOf(env, call[2], &values.data, &values.capacity)) {
    return Refuse(env, handle, Code::kInvalidValue);
  }
  napi_typedarray_type type;
  size_t count;
  size_t table_length;
  void* ends_data;
  void* table_data;
  if (napi_get_typedarray_info(env, call[1], &type, &count, &ends_data, nullptr, nullptr) != napi_ok ||
      type != napi_uint32_array ||
      napi_get_typedarray_info(env, call[4], &type, &table_length, &table_data, nullptr, nullptr) != napi_ok ||
      type != napi_uint32_array || table_length < count * 3) {
    return Refuse(env, handle, Code::kInvalidValue);
  }
  values.used = static_cast<size_t>(NumberOr(env, call[3], 0));
  if (values.used > values.capacity) return Refuse(env, handle, Code::kInvalidValue);
  const bool missing = BooleanOr(env, call[5], false);
  const auto* ends = static_cast<const uint32_t*>(ends_data);
  auto* table = static_cast<uint32_t*>(table_data);
  ManyPart* part = ManyPart::Of(handle->environment);
  const Now now = handle->instance->ReadNow(false);
  uint64_t missing_bytes = 0;
  uint32_t rows[kChunkKeysMax];
  size_t staged = 0;
  size_t not_resident = count;  // the first row whose value is not in memory
  auto execute = [&] {
    handle->store->ExecuteMany(part->requests, staged, now, &values, part->outcomes);
    for (size_t i = 0; i < staged; i++) {
      const Outcome& outcome = part->outcomes[i];
      uint32_t* row = table + size_t{rows[i]} * 3;
      row[0] = kMarkAbsent;
      row[1] = 0;
      row[2] = 0;
      if (outcome.status == Status::kFound) {
        row[0] = static_cast<uint32_t>(outcome.codec);
        row[1] = static_cast<uint32_t>(outcome.value_offset);
        row[2] = outcome.value_bytes;
      } else if (outcome.status == Status::kNeedsRoom) {
        row[0] = kMarkFailed;
        row[2] = outcome.value_bytes;
        missing_bytes += outcome.value_bytes;
      } else if (outcome.status == Status::kNotResident) {
        not_resident = std::min<size_t>(not_resident, rows[i]);
      }
    }
    staged = 0;
  };
  for (size_t i = 0; i < count; i++) {
    if (missing && table[i * 3] != kMarkFailed) continue;
    const uint32_t start = i == 0 ? 0 : ends[i - 1];
    const uint32_t end = ends[i];
    if (end <= start || end > keys_bytes || end - start > kKeyBytesMax) {
      return RefuseAt(env, handle, Code::kInvalidKey, i);
    }
    part->requests[staged] = Request{};
    part->requests[staged].key = std::string_view(keys + start, end - start);
    part->outcomes[staged] = Outcome{};
    rows[staged++] = static_cast<uint32_t>(i);
    if (staged == kChunkKeysMax) execute();
  }
  if (staged != 0) execute();
  if (not_resident != count) return RefuseAt(env, handle, Code::kNotResident, not_resident);
  handle->environment->Set(Word::kNumber, missing_bytes);
  return Double(env, static_cast<double>(values.used));
}

void ExtendHandle(Napi::Env env, CacheHandle* handle, Napi::Object object) {
  AddHandleFunction(env, handle, object, "getChunk", GetChunk);
  AddHandleFunction(env, handle, object, "setChunk", SetChunk);
  AddHandleFunction(env, handle, object, "deleteChunk", DeleteChunk);
  AddHandleFunction(env, handle, object, "getPacked", GetPacked);
}

}  // namespace

void InitManyBinding(Napi::Env env, Napi::Object) {
  Environment* environment = Environment::Of(env);
  ManyPart* part = ManyPart::Of(environment);
  napi_value global;
  napi_value array;
  napi_value of;
  if (napi_get_global(env, &global) != napi_ok || napi_get_named_property(env, global, "Array", &array) != napi_ok ||
      napi_get_named_property(env, array, "of", &of) != napi_ok ||
      napi_create_reference(env, of, 1, &part->array_of) != napi_ok) {
    return;
  }
  environment->extenders.push_back(ExtendHandle);
}

}  // namespace cairn
