// Every bound of the protocol layer with its reason. What they come to per connection is in docs/protocol.md.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/limits.h"

namespace cairn {

// A line may be so long before its end has come; memcached's bound. A longer one that comes whole is read all the same.
inline constexpr size_t kLineBytesMax = 2048;
// The line of `get` and `gets` may be longer, because it lists keys; memcached has no bound here. This one is 8,000
// keys of the greatest length.
inline constexpr size_t kGetLineBytesMax = 2 * 1024 * 1024;
// A value up to this size waits for its last byte in the connection's own buffer; a larger one goes straight into an
// unlinked entry of the store. append and prepend have no such entry and are buffered up to the item size.
inline constexpr size_t kBodyBufferedBytesMax = 64 * 1024;
// A connection with so many bytes of replies that have not left stops executing requests.
inline constexpr size_t kOutputBytesHigh = 1024 * 1024;
// A call on a session executes at most this many requests, each key of a get-type command being one: about a
// millisecond. A front serves its other connections before the next call.
inline constexpr size_t kRequestsPerCallMax = 4096;
// Replies of one connection that wait for a commit of their own. A client that pipelines more waits for the first.
inline constexpr size_t kHeldMarksMax = 4096;
// Requests of one server that debugpark has parked. They are searched one by one.
inline constexpr size_t kTestLoadsMax = 1024;
// Keys that are looked up together, over all get-type commands that follow one another: enough for a full group of
// kGroupRequests in each of a few shards, few enough for requests and outcomes to stay in the first-level cache.
inline constexpr size_t kGroupKeysMax = 64;
// Room for the values of a group. A value that finds none is asked for again by itself, and then copied only once.
inline constexpr size_t kGroupScratchBytes = 32 * 1024;
// A buffer that has grown beyond this is given back as soon as it is empty, so that idle connections are small.
inline constexpr size_t kIdleBufferBytesMax = 4 * 1024;

// memcached's item size (-I): its default and what it allows.
inline constexpr uint64_t kItemBytesDefault = 1024 * 1024;
inline constexpr uint64_t kItemBytesMax = 1024 * 1024 * 1024;

static_assert(kGroupKeysMax >= kGroupRequests);
static_assert(kGroupScratchBytes >= kCopyUnderLockBytesMax);
static_assert(kBodyBufferedBytesMax > kCopyUnderLockBytesMax);
static_assert(kItemBytesMax <= kValueBytesMax);

// What memcached counts for an item: its header of 48 bytes, a cas number, the key and a zero byte, client flags if
// they are not 0, the value and its line end. The limit of -I is for this sum, so that the largest value depends on the
// key.
inline constexpr uint64_t ItemBytes(size_t key_bytes, uint32_t client_flags, uint64_t value_bytes) {
  return 48 + 8 + key_bytes + 1 + (client_flags != 0 ? 4 : 0) + value_bytes + 2;
}
static_assert(ItemBytes(1, 0, 1048516) == kItemBytesDefault);

}  // namespace cairn
