// Store: atomic batches. The locks of all shards that have a part are held from before the first change until behind
// the last, so that the batch is one moment: for every thread, and in the order of the records of every ring.
#include <algorithm>
#include <vector>

#include "store/store_inl.h"

namespace cairn {

// Holds the locks of the shards of some runs, taken in the order of the shards. So does a clear, and all other threads
// hold one lock at a time: no cycle is possible.
//
// Clang cannot follow that many locks: methods of this class touch the shards, and nothing else does meanwhile.
class Store::RunShards {
 public:
  RunShards(const Store* store, std::vector<AtomicRun>* runs) NO_THREAD_SAFETY_ANALYSIS : store_(store), runs_(runs) {
    for (const AtomicRun& run : *runs_) ShardOf(run)->Lock();
  }
  ~RunShards() NO_THREAD_SAFETY_ANALYSIS {
    for (const AtomicRun& run : *runs_) ShardOf(run)->Unlock();
  }
  RunShards(const RunShards&) = delete;
  RunShards& operator=(const RunShards&) = delete;

  // Everything that can be refused: nothing is changed then.
  Status Prepare(const Now& now, AtomicOutcome* outcome) const NO_THREAD_SAFETY_ANALYSIS {
    for (AtomicRun& run : *runs_) {
      const Status status = ShardOf(run)->PlanAtomic(&run, now, outcome);
      if (status != Status::kStored) return status;
    }
    for (size_t i = 0; i < runs_->size(); i++) {
      const Status status = ShardOf((*runs_)[i])->StageAtomic((*runs_)[i]);
      if (status == Status::kStored) continue;
      for (size_t before = 0; before < i; before++) ShardOf((*runs_)[before])->AbandonAtomic((*runs_)[before]);
      return status;
    }
    return Status::kStored;
  }
  void Commit(uint64_t batch_id, uint32_t batch_count, const Now& now) const NO_THREAD_SAFETY_ANALYSIS {
    for (const AtomicRun& run : *runs_) ShardOf(run)->CommitAtomic(run, batch_id, batch_count, now);
  }
  ChangeRing::Note TakeNotes() const {
    auto note = ChangeRing::Note::kNone;
    for (const AtomicRun& run : *runs_) note = std::max(note, ShardOf(run)->ring()->TakeNote());
    return note;
  }

 private:
  Shard* ShardOf(const AtomicRun& run) const { return store_->ShardAt(run.parts->shard); }

  const Store* const store_;
  std::vector<AtomicRun>* const runs_;
};

AtomicOutcome Store::ExecuteAtomic(Request* requests, size_t count, const Now& now) {
  CheckClock(now);
  AtomicOutcome outcome;
  if (count == 0) return outcome;
  std::vector<AtomicPart> parts;
  parts.reserve(count);
  uint64_t records = 0;
  for (size_t i = 0; i < count; i++) {
    Request& request = requests[i];
    DCHECK((request.verb == Verb::kSet || request.verb == Verb::kDelete) && !request.has_compare);
    DCHECK(request.expires_ms != kKeepExpiry && !request.from_backend);
    if (IsTimed(request) && !uses_time()) uses_time_.store(true, std::memory_order_relaxed);
    records += AtomicRecordBytes(request);
    parts.push_back(
        {&request, ShardAt(0)->HashOf(request.key), ShardOf(request.key), static_cast<uint32_t>(i)});  // keyed alike
  }
  if (records > kAtomicBatchBytesMax) {
    outcome.status = Status::kTooLarge;
    outcome.bound = AtomicBound::kRecords;
    outcome.wanted = records;
    outcome.limit = kAtomicBatchBytesMax;
    return outcome;
  }
  std::stable_sort(parts.begin(), parts.end(),
                   [](const AtomicPart& a, const AtomicPart& b) { return a.shard < b.shard; });
  std::vector<Ref> staged(count);
  std::vector<uint32_t> buckets(count);
  std::vector<AtomicRun> runs;
  for (size_t i = 0; i < count; i++) {
    if (i == 0 || parts[i].shard != parts[i - 1].shard) runs.push_back({&parts[i], 0, &staged[i], &buckets[i]});
    runs.back().count++;
  }
  const uint64_t id = atomic_ids_.fetch_add(1, std::memory_order_relaxed);
  auto note = ChangeRing::Note::kNone;
  {
    const RunShards shards(this, &runs);
    outcome.status = shards.Prepare(now, &outcome);
    if (outcome.status == Status::kStored) {
      shards.Commit(id, static_cast<uint32_t>(count), now);
      if (logged_) note = shards.TakeNotes();
    }
  }
  Unlocked(ShardAt(0)->removal_sink());
  Tell(note);
  return outcome;
}

}  // namespace cairn
