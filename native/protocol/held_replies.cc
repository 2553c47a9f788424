#include "protocol/held_replies.h"

namespace cairn {

void HeldReplies::Hold(uint32_t shard, uint64_t version, size_t begin) {
  // The last mark is the one that a pipeline of requests for one key repeats; looking further back would cost more than
  // another mark does.
  if (!empty() && marks_.back().shard == shard && marks_.back().version >= version) return;
  marks_.push_back({begin, version, shard});
}

void HeldReplies::Drop() {
  marks_.clear();
  next_ = 0;
  bytes_.Release();
}

bool HeldReplies::Release(const CommitMarks& marks, ByteBuffer* out) {
  while (next_ != marks_.size() && marks.Covers(marks_[next_].shard, marks_[next_].version)) next_++;
  size_t leaving = empty() ? bytes_.size() : marks_[next_].begin;
  out->Append(bytes_.view().substr(0, leaving));
  bytes_.DropFront(leaving);
  if (empty()) {
    marks_.clear();
    next_ = 0;
    if (bytes_.capacity() > kIdleBufferBytesMax) bytes_.Release();
    return true;
  }
  for (size_t i = next_; i < marks_.size(); i++) marks_[i].begin -= leaving;
  marks_.erase(marks_.begin(), marks_.begin() + static_cast<ptrdiff_t>(next_));
  next_ = 0;
  return false;
}

}  // namespace cairn
