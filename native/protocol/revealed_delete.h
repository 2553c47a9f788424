// The deletion of an old value by a set that failed: the error reply behind the discarded block reveals it. The key is
// kept until then, because the bytes of the request are gone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/reply_gate.h"
#include "store/store.h"

namespace cairn {

class RevealedDelete {
 public:
  // A set is too large for an item: deletes the old value, which the client meant to replace. False: the log has no
  // room; nothing was changed.
  [[nodiscard]] bool Delete(std::string_view key, const Now& now, Store* store, const ReplyGate& gate) {
    Request remove;
    remove.verb = Verb::kDelete;
    remove.key = key;
    Outcome outcome;
    store->Execute(remove, now, nullptr, &outcome);
    if (outcome.status == Status::kLogFull) return false;
    if (gate.marks_are_active()) Set(key, store->ShardOf(key), outcome.commit_version, outcome.record_version != 0);
    return true;
  }

  // The store has refused a value, and deleted the old one; its record is the last of its shard at the latest.
  void Find(std::string_view key, const Now& now, Store* store, const ReplyGate& gate) {
    if (!gate.marks_are_active()) return;
    const uint32_t shard = store->ShardOf(key);
    const uint64_t version = store->LastChangeOf(key, now);
    Set(key, shard, version != 0 ? version : store->LastVersion(shard), version != 0);
  }

  // Puts the reply that was appended from `begin` on into its slot, and forgets the deletion. Nothing if there is none.
  void Settle(size_t begin, ReplyGate* gate) {
    const uint64_t version = std::exchange(version_, 0);
    if (version == 0) return;
    if (key_.empty()) {
      (void)gate->Settle(begin, shard_, version, /*may_refuse=*/false);
    } else {
      gate->SettleChange(begin, shard_, key_, version);
    }
  }
  void Forget() { version_ = 0; }

 private:
  // `is_record`: the record of the deletion has this version. Otherwise it has none, or one up to this version, of
  // which the backend may never hear.
  void Set(std::string_view key, uint32_t shard, uint64_t version, bool is_record) {
    shard_ = shard;
    version_ = version;
    key_ = is_record ? key : std::string_view();
  }

  uint32_t shard_ = 0;
  uint64_t version_ = 0;  // 0: no deletion
  std::string key_;       // empty: it has no record
};

}  // namespace cairn
