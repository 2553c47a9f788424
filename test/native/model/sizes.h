// What an entry takes, as docs/memory.md promises it: a function of its sizes and of which optional parts it has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace cairn::model {

struct Footprint {
  uint64_t charge = 0;          // with its place in the table
  int size_class = 0;           // of its head
  bool in_pieces = false;       // the value, and the rest of a long key, lie in pieces behind the head
  uint32_t partial_pieces = 0;  // those that share a page with others
  bool has_freshness = false;   // there is room for the end of its freshness
};

class Sizes {
 public:
  Sizes(uint64_t page_bytes, bool tracks_access);

  Footprint Of(size_t key_bytes, uint64_t value_bytes, bool expires, bool goes_stale, bool has_client_flags) const;
  // What an entry in pieces needs beside what it has to become longer at its end: the pieces that replace some of
  // another size, and those that come behind them.
  uint64_t OfLongerEnd(size_t key_bytes, uint64_t from_value_bytes, uint64_t to_value_bytes) const;

 private:
  using Piece = std::pair<int, uint64_t>;  // size class, -1 for a whole page; charge
  int ClassOf(uint64_t bytes) const { return class_of_[(bytes + 7) / 8]; }
  uint64_t ChargeOf(int size_class) const { return class_charges_[static_cast<size_t>(size_class)]; }
  uint64_t in_page() const { return page_bytes_ - 16; }
  uint64_t in_largest() const { return class_sizes_.back() - 16; }
  std::vector<Piece> PiecesOf(uint64_t bytes) const;

  const uint64_t page_bytes_;
  const bool tracks_access_;
  std::vector<uint32_t> class_sizes_, class_charges_;
  std::vector<int> class_of_;  // by units of eight bytes
};

}  // namespace cairn::model
