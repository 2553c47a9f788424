#include "model/sizes.h"

#include <algorithm>
#include <set>

namespace cairn::model {

namespace {

constexpr uint64_t kHeadBytes = 24, kExpiryBytes = 16, kFreshnessBytes = 8, kFieldBytes = 4;
constexpr uint64_t kTableShareBytes = 8;
constexpr uint64_t kPieceHeadBytes = 16;
constexpr uint64_t kKeyInHeadMax = 250;

}  // namespace

// The size classes: 8-byte steps to 128, 16-byte steps to 256, then 8 per doubling up to an eighth of a page; above
// 1 KiB the size that fills the page with as many chunks.
Sizes::Sizes(uint64_t page_bytes, bool tracks_access) : page_bytes_(page_bytes), tracks_access_(tracks_access) {
  std::set<uint32_t> sizes;
  for (uint32_t size = 32; size <= page_bytes_ / 8; size += 8) {
    bool is_class = size <= 128 || (size <= 256 && size % 16 == 0);
    for (uint32_t power = 256; power < page_bytes_ / 8; power *= 2) {
      if (size > power && size <= power * 2 && size % (power / 8) == 0) is_class = true;
    }
    if (!is_class) continue;
    const uint32_t in_page = static_cast<uint32_t>(page_bytes_) / size;
    sizes.insert(size <= 1024 ? size : static_cast<uint32_t>(page_bytes_) / in_page / 8 * 8);
  }
  for (uint32_t size : sizes) {
    const uint32_t in_page = static_cast<uint32_t>(page_bytes_) / size;
    class_sizes_.push_back(size);
    class_charges_.push_back((static_cast<uint32_t>(page_bytes_) + in_page - 1) / in_page);
  }
  class_of_.resize(class_sizes_.back() / 8 + 1);
  for (size_t units = 0, c = 0; units < class_of_.size(); ++units) {
    while (class_sizes_[c] < units * 8) ++c;
    class_of_[units] = static_cast<int>(c);
  }
}

std::vector<Sizes::Piece> Sizes::PiecesOf(uint64_t bytes) const {
  std::vector<Piece> pieces;
  for (; bytes >= in_page(); bytes -= in_page()) pieces.emplace_back(-1, page_bytes_);
  for (; bytes >= in_largest(); bytes -= in_largest()) {
    const int largest = static_cast<int>(class_sizes_.size()) - 1;
    pieces.emplace_back(largest, ChargeOf(largest));
  }
  if (bytes > 0) pieces.emplace_back(ClassOf(bytes + kPieceHeadBytes), ChargeOf(ClassOf(bytes + kPieceHeadBytes)));
  return pieces;
}

Footprint Sizes::Of(size_t key_bytes, uint64_t value_bytes, bool expires, bool goes_stale,
                    bool has_client_flags) const {
  uint64_t fields = kHeadBytes;
  if (expires) fields += kExpiryBytes;
  if (goes_stale) fields += kFreshnessBytes;
  if (tracks_access_) fields += kFieldBytes;
  if (has_client_flags) fields += kFieldBytes;
  if (key_bytes > kKeyInHeadMax) fields += kFieldBytes;
  Footprint footprint;
  footprint.charge = kTableShareBytes;
  footprint.has_freshness = goes_stale;
  if (fields + key_bytes + value_bytes <= class_sizes_.back()) {
    footprint.size_class = ClassOf(fields + key_bytes + value_bytes);
    footprint.charge += ChargeOf(footprint.size_class);
    return footprint;
  }
  footprint.in_pieces = true;
  if (!expires) fields += kExpiryBytes;  // such an entry has room for an expiry in any case
  const uint64_t key_in_head = std::min<uint64_t>(key_bytes, kKeyInHeadMax);
  footprint.size_class = ClassOf(fields + kFieldBytes + key_in_head);
  footprint.charge += ChargeOf(footprint.size_class);
  for (const auto& [size_class, charge] : PiecesOf(key_bytes + value_bytes - key_in_head)) {
    footprint.charge += charge;
    if (size_class != -1) ++footprint.partial_pieces;
  }
  return footprint;
}

uint64_t Sizes::OfLongerEnd(size_t key_bytes, uint64_t from_value_bytes, uint64_t to_value_bytes) const {
  const uint64_t key_behind_head = key_bytes - std::min<uint64_t>(key_bytes, kKeyInHeadMax);
  const std::vector<Piece> before = PiecesOf(key_behind_head + from_value_bytes);
  const std::vector<Piece> after = PiecesOf(key_behind_head + to_value_bytes);
  size_t same = 0;
  while (same < before.size() && same < after.size() && before[same] == after[same]) ++same;
  // A last piece that is not full stays only if nothing comes behind it.
  const bool last_is_full = (key_behind_head + from_value_bytes) % in_page() % in_largest() == 0;
  if (!last_is_full && same == before.size() && after.size() > before.size()) --same;
  uint64_t added = 0;
  for (size_t i = same; i < after.size(); ++i) added += after[i].second;
  return added;
}

}  // namespace cairn::model
