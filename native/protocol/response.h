// The replies of the protocol: a table of all fixed ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace cairn {

enum class Reply : uint8_t {
  kStored,
  kNotStored,
  kExists,
  kNotFound,
  kDeleted,
  kTouched,
  kOk,
  kReset,
  kEnd,
  kEndOfKeys,
  kNoop,
  kError,      // no such command
  kBadFormat,  // a line that cannot be understood
  kBadLine,    // the same of `stats cachedump`, where words are missing
  kBadClass,
  kIllegalClass,
  kBadChunk,  // the data block does not end where its length says
  kBadExptime,
  kBadDelta,
  kNonNumeric,
  kFlushNotAllowed,
  kDumpNotAllowed,
  kCrawlNotAllowed,
  kKeyDumpNotAllowed,
  kWatchNotAllowed,
  kTooManyWatchers,
  kWatcherFailed,
  kShutdownNotEnabled,
  kBadShutdownMode,
  kMemlimitTooSmall,
  kMemlimitNotMegabytes,
  kMemlimitRefused,
  kDuplicateFlag,
  kInvalidFlag,
  kInvalidOrDuplicateFlag,  // what ma says of all wrong flags
  kBadToken,
  kBadInitial,
  kBadDeltaFlag,
  kBadKey,
  kTooManyFlags,
  kOpaqueTooLong,
  kBadSetMode,
  kBadArithmeticMode,
  kTooLarge,
  kNoMemoryToStore,
  kNoMemory,
  kLogFull,
  kLogFailed,
  kBackendAway,
  kChangeRefused,
  kChangeUnknown,
  kNotResident,
  kTooManyLoads,
  kLoadFailed,
  kNoTickets,
  kTicketTaken,
  kHoldsForLog,
};

// In the order of Reply. The texts are memcached 1.6.45's, except the last eleven, which memcached does not
// have: two for a log that takes no records, three for a backend that does not get a change, three for a value that is
// elsewhere, and three for test commands only.
inline constexpr std::string_view kReplyText[] = {
    "STORED\r\n",
    "NOT_STORED\r\n",
    "EXISTS\r\n",
    "NOT_FOUND\r\n",
    "DELETED\r\n",
    "TOUCHED\r\n",
    "OK\r\n",
    "RESET\r\n",
    "END\r\n",
    "EN\r\n",
    "MN\r\n",
    "ERROR\r\n",
    "CLIENT_ERROR bad command line format\r\n",
    "CLIENT_ERROR bad command line\r\n",
    "BADCLASS invalid class id\r\n",
    "CLIENT_ERROR Illegal slab id\r\n",
    "CLIENT_ERROR bad data chunk\r\n",
    "CLIENT_ERROR invalid exptime argument\r\n",
    "CLIENT_ERROR invalid numeric delta argument\r\n",
    "CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    "CLIENT_ERROR flush_all not allowed\r\n",
    "CLIENT_ERROR stats cachedump not allowed\r\n",
    "ERROR metadump not allowed\r\n",
    "ERROR key dump not allowed\r\n",
    "CLIENT_ERROR watch commands not allowed\r\n",
    "WATCHER_TOO_MANY log watcher limit reached\r\n",
    "WATCHER_FAILED failed to add log watcher\r\n",
    "SERVER_ERROR: shutdown not enabled\r\n",
    "CLIENT_ERROR invalid shutdown mode\r\n",
    "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
    "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
    "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
    "CLIENT_ERROR duplicate flag\r\n",
    "CLIENT_ERROR invalid flag\r\n",
    "CLIENT_ERROR invalid or duplicate flag\r\n",
    "CLIENT_ERROR bad token in command line format\r\n",
    "CLIENT_ERROR invalid numeric initial value\r\n",
    "CLIENT_ERROR invalid numeric delta value\r\n",
    "CLIENT_ERROR error decoding key\r\n",
    "CLIENT_ERROR options flags are too long\r\n",
    "CLIENT_ERROR opaque token too long\r\n",
    "CLIENT_ERROR invalid mode for ms M token\r\n",
    "CLIENT_ERROR invalid mode for ma M token\r\n",
    "SERVER_ERROR object too large for cache\r\n",
    "SERVER_ERROR out of memory storing object\r\n",
    "SERVER_ERROR out of memory\r\n",
    "SERVER_ERROR the log is full\r\n",
    "SERVER_ERROR the log cannot be written\r\n",
    "SERVER_ERROR the database cannot be written\r\n",
    "SERVER_ERROR the database has refused the change\r\n",
    "SERVER_ERROR the change is made, and may not reach the database\r\n",
    "SERVER_ERROR the value is not in memory\r\n",
    "SERVER_ERROR too many values are being loaded\r\n",
    "SERVER_ERROR the value could not be loaded\r\n",
    "SERVER_ERROR too many requests are parked\r\n",
    "SERVER_ERROR that ticket is taken\r\n",
    "SERVER_ERROR this listener waits for the log\r\n",
};
static_assert(sizeof(kReplyText) / sizeof(kReplyText[0]) == static_cast<size_t>(Reply::kHoldsForLog) + 1);

inline constexpr std::string_view TextOf(Reply reply) { return kReplyText[static_cast<size_t>(reply)]; }

}  // namespace cairn
