// Every limit of the protocol layer with its reason. docs/protocol.md has the sums per connection.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/limits.h"

namespace cairn {

// The most bytes of a line whose end has not come; memcached's limit. A longer line that comes whole is read all the
// same.
inline constexpr size_t kLineBytesMax = 2048;
// The same for `get` and `gets`, whose lines list keys; memcached has no limit here. This one is 8,000 keys of the
// greatest length.
inline constexpr size_t kGetLineBytesMax = 2 * 1024 * 1024;
// A value up to this size waits for its last byte in the connection's buffer; a larger one is written straight into an
// unlinked entry of the store. append and prepend have no such entry, and are buffered up to the item size.
inline constexpr size_t kBodyBufferedBytesMax = 64 * 1024;
// A value of at least this size is sent from its entry, by a front that can, instead of being copied among the replies
// (docs/decisions.md has the measurement).
inline constexpr size_t kPinnedValueBytesMin = 16 * 1024;
// A connection with this many bytes of replies that have not left stops executing requests.
inline constexpr size_t kOutputBytesHigh = 1024 * 1024;
// And continues when no more than these are left, so that the system has something to send meanwhile.
inline constexpr size_t kOutputBytesLow = 256 * 1024;
// A call on a session executes at most this many requests, each key of a get-type command being one: about a
// millisecond. A front serves its other connections before the next call.
inline constexpr size_t kRequestsPerCallMax = 4096;
// The most replies of one connection that wait for a commit of their own. A client that pipelines more waits for the
// first.
inline constexpr size_t kHeldMarksMax = 4096;
// The most requests of one connection that have remote slots: enough to keep a database busy, few enough for many
// connections to share the loads of a cache (kLoadsMax).
inline constexpr size_t kRemoteSlotsMax = 256;
// The memory for a key of such a request beside its bytes: a hash, and its place in a table.
inline constexpr size_t kRemoteKeyBytes = 64;
// The most requests of one server that debugpark has parked. They are searched one by one.
inline constexpr size_t kTestLoadsMax = 1024;
// The most keys looked up together, over consecutive get-type commands: enough for a full group of kGroupRequests in
// each of a few shards, few enough for requests and outcomes to stay in the first-level cache.
inline constexpr size_t kGroupKeysMax = 64;
// Room for the values of a group. A value that does not fit is read again by itself, and then copied only once.
inline constexpr size_t kGroupScratchBytes = 32 * 1024;
// The most keys behind a group whose loads are begun with those of the group.
inline constexpr size_t kPrefetchKeysMax = 1024;
// The most keys of one reply to `scan`, and the number without a count. The entries and buckets that it looks at for
// them, in the work of key_list.h: about 4,096 entries, half a millisecond.
inline constexpr uint32_t kScanKeysMax = 1000;
inline constexpr uint32_t kScanKeysDefault = 100;
inline constexpr uint32_t kScanWorkMax = 32 * 1024;
// A buffer that has grown beyond this is freed when it is empty, so that idle connections are small.
inline constexpr size_t kIdleBufferBytesMax = 4 * 1024;

// What a front may receive straight into the place of a value, at a time: enough for few calls of the system, little
// enough for other clients to have their turn. For less than kLandingBytesMin it is not worth the pin.
inline constexpr size_t kLandingBytesMin = 4 * 1024;
inline constexpr size_t kLandingBytesMax = 256 * 1024;

// The most bytes of what a client sends to log in, memcached's limit for its text protocol; and of a name with its
// password, so that clients that guess take little time.
inline constexpr size_t kLoginBytesMax = 16 * 1024;
inline constexpr size_t kAccountBytesMax = 512;

// memcached's item size (-I): its default and its largest value.
inline constexpr uint64_t kItemBytesDefault = 1024 * 1024;
inline constexpr uint64_t kItemBytesMax = 1024 * 1024 * 1024;

static_assert(kRemoteSlotsMax * 256 <= kLoadsMax);
static_assert(kGroupKeysMax >= kGroupRequests);
static_assert(kGroupScratchBytes >= kCopyUnderLockBytesMax);
static_assert(kBodyBufferedBytesMax > kCopyUnderLockBytesMax);
static_assert(kItemBytesMax <= kValueBytesMax);

// The size of an item as memcached counts it: a header of 48 bytes, a cas number, the key and a zero byte, client flags
// if they are not 0, the value and its line end. -I limits this sum, so the largest value depends on the key.
inline constexpr uint64_t ItemBytes(size_t key_bytes, uint32_t client_flags, uint64_t value_bytes) {
  return 48 + 8 + key_bytes + 1 + (client_flags != 0 ? 4 : 0) + value_bytes + 2;
}
static_assert(ItemBytes(1, 0, 1048516) == kItemBytesDefault);

}  // namespace cairn
