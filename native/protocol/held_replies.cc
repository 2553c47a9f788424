#include "protocol/held_replies.h"

#include <utility>

namespace cairn {

void HeldReplies::Hold(uint32_t shard, uint64_t version, size_t begin) {
  // The last mark is the one that a pipeline of requests for one key repeats; looking further back would cost more than
  // another mark does.
  if (!empty() && marks_.back().change == nullptr && marks_.back().shard == shard && marks_.back().version >= version) {
    return;
  }
  marks_.push_back({begin, version, shard, nullptr});
}

void HeldReplies::HoldForBackend(uint32_t shard, std::string_view key, uint64_t version, size_t begin, bool is_whole,
                                 uint64_t tag) {
  marks_.push_back(
      {begin, version, shard, std::make_unique<Change>(Change{bytes_.size(), is_whole, tag, std::string(key)})});
}

void HeldReplies::Follow(HeldReplies* more, ByteBuffer* out) {
  const std::string_view bytes = more->bytes_.view();
  const size_t free_bytes = !empty() ? 0 : more->empty() ? bytes.size() : more->marks_[more->next_].begin;
  out->Append(bytes.substr(0, free_bytes));
  const size_t shift = bytes_.size() - free_bytes;  // may be below 0: the sums are not
  bytes_.Append(bytes.substr(free_bytes));
  for (size_t i = more->next_; i < more->marks_.size(); i++) {
    Mark& mark = more->marks_[i];
    mark.begin += shift;
    if (mark.change != nullptr) mark.change->end += shift;
    marks_.push_back(std::move(mark));
  }
  more->Drop();
}

void HeldReplies::Drop() {
  marks_.clear();
  next_ = 0;
  bytes_.Release();
}

HeldReplies::Released HeldReplies::Release(const CommitMarks& marks, const Backends* backends, ByteBuffer* out) {
  size_t left = 0;  // the bytes before it have left
  for (; next_ != marks_.size(); next_++) {
    const Mark& mark = marks_[next_];
    if (mark.change == nullptr) {
      if (!marks.Covers(mark.shard, mark.version)) break;
      continue;
    }
    const std::string& key = mark.change->key;
    const StoredChanges::Outcome outcome = backends->For(key)->OutcomeOf(mark.shard, key, mark.version);
    if (outcome == StoredChanges::Outcome::kPending) break;
    if (outcome == StoredChanges::Outcome::kStored) continue;
    if (!mark.change->is_whole) return Released::kBroken;
    out->Append(bytes_.view().substr(left, mark.begin - left));
    const bool is_refused = outcome == StoredChanges::Outcome::kRefused;
    const Reply error = is_refused ? Reply::kChangeRefused : Reply::kChangeUnknown;
    if (error_form_ != nullptr) {
      error_form_(error, mark.change->tag, out);
    } else {
      out->Append(TextOf(error));
    }
    left = mark.change->end;
  }
  const size_t leaving = empty() ? bytes_.size() : marks_[next_].begin;
  out->Append(bytes_.view().substr(left, leaving - left));
  bytes_.DropFront(leaving);
  if (empty()) {
    marks_.clear();
    next_ = 0;
    if (bytes_.capacity() > kIdleBufferBytesMax) bytes_.Release();
    return Released::kAll;
  }
  for (size_t i = next_; i < marks_.size(); i++) {
    marks_[i].begin -= leaving;
    if (marks_[i].change != nullptr) marks_[i].change->end -= leaving;
  }
  marks_.erase(marks_.begin(), marks_.begin() + static_cast<ptrdiff_t>(next_));
  next_ = 0;
  return Released::kSome;
}

}  // namespace cairn
