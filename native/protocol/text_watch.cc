// watch [stream...]: the client gets a line for each event from now on, until it ends its connection. What else it
// sends is dropped, as in memcached.
#include <string_view>

#include "protocol/text_dialect.h"
#include "protocol/text_parse.h"
#include "protocol/watch_hub.h"

namespace cairn {

namespace {

struct StreamName {
  std::string_view name;
  uint32_t stream;
};

// In memcached's order, which matters: a word names the first stream that begins with it.
constexpr StreamName kStreamNames[] = {
    {"rawcmds", kSilent},   {"evictions", kEvictions},         {"fetchers", kFetchers}, {"mutations", kMutations},
    {"sysevents", kSilent}, {"connevents", kConnectionEvents}, {"proxyreqs", kSilent},  {"proxyevents", kSilent},
    {"proxyuser", kSilent}, {"deletions", kDeletions},
};

// 0: there is none.
uint32_t StreamNamed(std::string_view word) {
  for (const StreamName& row : kStreamNames) {
    if (row.name.starts_with(word)) return row.stream;
  }
  return 0;
}

}  // namespace

Why TextDialect::RunWatch(const TextRequest& line) {
  if (service_->options().disable_watch) {
    Append(Reply::kWatchNotAllowed);
    return Why::kDone;
  }
  uint32_t streams = 0;
  std::string_view words = line.words;
  for (std::string_view word = NextWord(&words); !word.empty(); word = NextWord(&words)) {
    const uint32_t stream = StreamNamed(word);
    if (stream == 0) {
      Append(Reply::kError, LastWord(line.words) == "noreply");
      return Why::kDone;
    }
    streams |= stream;
  }
  switch (service_->watch_hub()->Add(streams == 0 ? kFetchers : streams, &watcher_)) {
    case WatchHub::Answer::kAdded:
      break;
    case WatchHub::Answer::kTooMany:
      Append(Reply::kTooManyWatchers);
      return Why::kDone;
    case WatchHub::Answer::kNoMemory:
      Append(Reply::kWatcherFailed);
      return Why::kDone;
  }
  Append(Reply::kOk);
  return Why::kWatching;
}

}  // namespace cairn
