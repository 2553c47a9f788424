#include "protocol/prefix_stats.h"

namespace cairn {

void PrefixStats::Add(std::string_view key, Event event) {
  const size_t end = key.find(delimiter_);
  if (end == std::string_view::npos) return;
  const std::string_view prefix = key.substr(0, end);
  const OsLockGuard guard(&lock_);
  auto place = prefixes_.find(prefix);
  if (place == prefixes_.end()) {
    if (prefixes_.size() >= kPrefixesMax) return;
    place = prefixes_.emplace(std::string(prefix), Counts()).first;
  }
  Counts& counts = place->second;
  switch (event) {
    case Event::kHit:
      counts.hits++;
      counts.gets++;
      break;
    case Event::kMiss:
      counts.gets++;
      break;
    case Event::kSet:
      counts.sets++;
      break;
    case Event::kDelete:
      counts.deletes++;
      break;
  }
}

void PrefixStats::AppendAll(ByteBuffer* out) {
  const OsLockGuard guard(&lock_);
  for (const auto& [prefix, counts] : prefixes_) {
    char hidden[kHiddenKeyBytes];
    std::string line = "PREFIX ";
    if (keys_->hides()) {
      line.append(hidden, keys_->WriteHidden(prefix, hidden));
    } else {
      line += prefix;
    }
    line.append(" get ").append(std::to_string(counts.gets)).append(" hit ").append(std::to_string(counts.hits));
    line.append(" set ").append(std::to_string(counts.sets)).append(" del ").append(std::to_string(counts.deletes));
    line += "\r\n";
    out->Append(line);
  }
  out->Append("END\r\n");
}

void PrefixStats::Clear() {
  const OsLockGuard guard(&lock_);
  prefixes_.clear();
}

DetailWord DetailWordOf(std::string_view word) {
  if (word == "on") return DetailWord::kOn;
  if (word == "off") return DetailWord::kOff;
  return word == "dump" ? DetailWord::kDump : DetailWord::kUnknown;
}

}  // namespace cairn
