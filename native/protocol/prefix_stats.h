// Requests counted by the prefix of their keys, for `stats detail`: the bytes before the first delimiter of a key. A
// key without a delimiter is not counted. As in memcached, get and gat count as gets, the storage commands as sets,
// delete as a deletion, whatever becomes of them; other commands and the meta commands are not counted.
//
// Limit: kPrefixesMax prefixes, of at most 249 bytes each, so about 1.5 MiB. Keys of further ones are not counted.
//
// Thread safety: any thread. While it is off, a request costs a load and a branch; while it is on, each key takes one
// lock of all threads, as in memcached. Lock order: lock_ is a leaf.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/os.h"
#include "base/thread_annotations.h"
#include "protocol/byte_buffer.h"
#include "protocol/key_display.h"

namespace cairn {

class PrefixStats {
 public:
  enum class Event : uint8_t { kHit, kMiss, kSet, kDelete };
  static constexpr size_t kPrefixesMax = 4096;

  // `keys`: how prefixes are shown if keys are hidden; it outlives this.
  PrefixStats(char delimiter, bool is_on, const KeyDisplay* keys) : delimiter_(delimiter), is_on_(is_on), keys_(keys) {}

  char delimiter() const { return delimiter_; }
  bool is_on() const { return is_on_.load(std::memory_order_relaxed); }
  // Counts or no longer counts; the counts stay.
  void Turn(bool on) { is_on_.store(on, std::memory_order_relaxed); }
  void Count(std::string_view key, Event event) {
    if (is_on()) [[unlikely]]
      Add(key, event);
  }

  // "PREFIX user get 2 hit 1 set 1 del 0\r\n" for each, in the order of their bytes, and "END\r\n".
  void AppendAll(ByteBuffer* out);
  void Clear();

 private:
  struct Counts {
    uint64_t gets = 0, hits = 0, sets = 0, deletes = 0;
  };

  void Add(std::string_view key, Event event);

  const char delimiter_;
  std::atomic<bool> is_on_;
  const KeyDisplay* const keys_;
  OsLock lock_;
  std::map<std::string, Counts, std::less<>> prefixes_ GUARDED_BY(lock_);
};

// What a `stats detail` has asked for.
enum class DetailWord : uint8_t { kOn, kOff, kDump, kUnknown };
DetailWord DetailWordOf(std::string_view word);

}  // namespace cairn
