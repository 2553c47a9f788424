#include "model/debts.h"

#include <iterator>
#include <utility>

#include "base/check.h"
#include "base/hash.h"

namespace cairn::model {

size_t Debts::LaneOf(const std::string& key) const {
  return lane_of_ != nullptr ? lane_of_(key) : RoutingHash(key) % marks_.size();
}

void Debts::Note(const ExpectedRecord& record) {
  if (record.kind == RecordKind::kClear || record.kind == RecordKind::kClearAt) return;
  CHECK(record.version > marks_[LaneOf(record.key)]);
  std::vector<ExpectedRecord>& records = owed_[record.key];
  CHECK(records.empty() || record.version > records.back().version);
  records.push_back(record);
}

Debt Debts::Coalesced(const std::vector<ExpectedRecord>& records) {
  Debt debt;
  for (const ExpectedRecord& record : records) {
    debt.newest_version = record.version;
    switch (record.kind) {
      case RecordKind::kSet:
        debt.kind = Debt::Kind::kValue;
        debt.value = record.value;
        debt.codec = static_cast<Codec>(record.codec);
        debt.client_flags = record.client_flags;
        debt.expires_wall_ms = record.expires_wall_ms;
        debt.value_version = record.version;
        break;
      case RecordKind::kDelete:
        debt = Debt{};
        debt.kind = Debt::Kind::kGone;
        debt.newest_version = record.version;
        break;
      case RecordKind::kTouch:
        // A touch of what is gone cannot be: there was no entry.
        CHECK(debt.kind != Debt::Kind::kGone);
        if (debt.kind == Debt::Kind::kNothing) debt.kind = Debt::Kind::kExpiry;
        debt.expires_wall_ms = record.expires_wall_ms;
        break;
      default:
        CHECK(false);
    }
  }
  return debt;
}

std::vector<std::string> Debts::owed_keys() const {
  std::vector<std::string> keys;
  for (const auto& [key, records] : owed_) keys.push_back(key);
  return keys;
}

Debt Debts::Of(const std::string& key) const {
  const auto found = owed_.find(key);
  return found == owed_.end() ? Debt{} : Coalesced(found->second);
}

std::map<std::string, Debt> Debts::Commit(size_t lane, uint64_t version) {
  CHECK(version >= marks_[lane]);
  marks_[lane] = version;
  std::map<std::string, Debt> written;
  for (auto at = owed_.begin(); at != owed_.end();) {
    auto& [key, records] = *at;
    size_t covered = 0;
    if (LaneOf(key) == lane) {
      while (covered < records.size() && records[covered].version <= version) ++covered;
    }
    if (covered > 0) {
      const auto end = records.begin() + static_cast<ptrdiff_t>(covered);
      written[key] = Coalesced({records.begin(), end});
      records.erase(records.begin(), end);
    }
    at = records.empty() ? owed_.erase(at) : std::next(at);
  }
  return written;
}

}  // namespace cairn::model
