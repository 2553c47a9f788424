// The requests of the protocol: a table of all commands, and the result of parsing a line.
#pragma once

#include <cstdint>
#include <string_view>

#include "protocol/response.h"
#include "store/request.h"

namespace cairn {

enum class Command : uint8_t {
  kGet,
  kGets,
  kGat,
  kGats,
  kSet,
  kAdd,
  kReplace,
  kAppend,
  kPrepend,
  kCas,
  kIncr,
  kDecr,
  kTouch,
  kDelete,
  kFlushAll,
  kVersion,
  kVerbosity,
  kStats,
  kLruCrawler,
  kScan,
  kRefreshCerts,
  kWatch,
  kShutdown,
  kCacheMemlimit,
  kQuit,
  kMetaNoop,
  kMetaGet,
  kMetaSet,
  kMetaDelete,
  kMetaArithmetic,
  kMetaDebug,
  // Only with --test-commands; see Service::Options::test_commands.
  kDebugTime,
  kDebugPark,
  kDebugResume,
  kDebugHold,
  kDebugCommit,
  kUnknown,
};

// The words behind a command.
enum class Shape : uint8_t {
  kKeys,         // key+
  kSecondsKeys,  // exptime key+
  kStorage,      // key flags exptime bytes [cas] [noreply], then a data block
  kKey,          // key [ignored...] [noreply]
  kKeyNumber,    // key delta [noreply]
  kKeySeconds,   // key exptime [noreply]
  kWords,        // anything: the command looks at them itself
  kMeta,         // key flag*, or key bytes flag* and a data block: meta_parse.h
};

struct CommandInfo {
  std::string_view name;
  Command command;
  Shape shape;
  uint8_t words_min;  // the command's name included; a line with fewer words is malformed
  Verb verb;          // the store's verb, if the command uses the store
};

inline constexpr CommandInfo kCommands[] = {
    {"get", Command::kGet, Shape::kKeys, 2, Verb::kGet},
    {"gets", Command::kGets, Shape::kKeys, 2, Verb::kGet},
    {"gat", Command::kGat, Shape::kSecondsKeys, 3, Verb::kGetAndTouch},
    {"gats", Command::kGats, Shape::kSecondsKeys, 3, Verb::kGetAndTouch},
    {"set", Command::kSet, Shape::kStorage, 5, Verb::kSet},
    {"add", Command::kAdd, Shape::kStorage, 5, Verb::kAdd},
    {"replace", Command::kReplace, Shape::kStorage, 5, Verb::kReplace},
    {"append", Command::kAppend, Shape::kStorage, 5, Verb::kAppend},
    {"prepend", Command::kPrepend, Shape::kStorage, 5, Verb::kPrepend},
    {"cas", Command::kCas, Shape::kStorage, 5, Verb::kCas},
    {"incr", Command::kIncr, Shape::kKeyNumber, 3, Verb::kIncr},
    {"decr", Command::kDecr, Shape::kKeyNumber, 3, Verb::kDecr},
    {"touch", Command::kTouch, Shape::kKeySeconds, 3, Verb::kTouch},
    {"delete", Command::kDelete, Shape::kKey, 2, Verb::kDelete},
    {"flush_all", Command::kFlushAll, Shape::kWords, 1, Verb::kGet},
    {"version", Command::kVersion, Shape::kWords, 1, Verb::kGet},
    {"verbosity", Command::kVerbosity, Shape::kWords, 2, Verb::kGet},
    {"stats", Command::kStats, Shape::kWords, 1, Verb::kGet},
    {"lru_crawler", Command::kLruCrawler, Shape::kWords, 1, Verb::kGet},
    {"scan", Command::kScan, Shape::kWords, 2, Verb::kGet},
    {"refresh_certs", Command::kRefreshCerts, Shape::kWords, 1, Verb::kGet},
    {"watch", Command::kWatch, Shape::kWords, 1, Verb::kGet},
    {"cache_memlimit", Command::kCacheMemlimit, Shape::kWords, 1, Verb::kGet},
    {"shutdown", Command::kShutdown, Shape::kWords, 1, Verb::kGet},
    {"quit", Command::kQuit, Shape::kWords, 1, Verb::kGet},
    {"mn", Command::kMetaNoop, Shape::kWords, 1, Verb::kGet},
    {"mg", Command::kMetaGet, Shape::kMeta, 2, Verb::kMetaGet},
    {"ms", Command::kMetaSet, Shape::kMeta, 3, Verb::kSet},
    {"md", Command::kMetaDelete, Shape::kMeta, 2, Verb::kDelete},
    {"ma", Command::kMetaArithmetic, Shape::kMeta, 2, Verb::kIncr},
    {"me", Command::kMetaDebug, Shape::kMeta, 2, Verb::kPeek},
    {"debugtime", Command::kDebugTime, Shape::kWords, 2, Verb::kGet},
    {"debugpark", Command::kDebugPark, Shape::kWords, 2, Verb::kGet},
    {"debugresume", Command::kDebugResume, Shape::kWords, 2, Verb::kGet},
    {"debughold", Command::kDebugHold, Shape::kWords, 2, Verb::kGet},
    {"debugcommit", Command::kDebugCommit, Shape::kWords, 2, Verb::kGet},
};

inline constexpr bool IsTestCommand(Command command) {
  return command >= Command::kDebugTime && command <= Command::kDebugCommit;
}

// The table's row for a name, or null. One multiplication and one comparison.
const CommandInfo* FindCommand(std::string_view name);

// A parsed line. Views point into it.
struct TextRequest {
  // Null: unknown command, or the line is too short for any.
  const CommandInfo* info = nullptr;
  // The line is wrong, and `error` is the answer. If has_body announces a data block, the block is discarded first.
  bool has_error = false;
  Reply error = Reply::kError;
  // An unknown command whose last word begins with HTTP/: the connection is closed without a word.
  bool is_http = false;
  bool no_reply = false;
  // A data block of body_bytes and a line end follow.
  bool has_body = false;
  uint32_t body_bytes = 0;
  uint32_t client_flags = 0;
  int32_t seconds = 0;
  uint64_t number = 0;  // cas number, delta
  std::string_view key;
  // kKeys, kSecondsKeys: from the first key on. kWords, kMeta: everything behind the command's name.
  std::string_view words;
};

}  // namespace cairn
