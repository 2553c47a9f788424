// The cursors of `scan`: the place of a list of keys (store/key_list.h) as a word for the client, who gives it back to
// continue.
//
// The place tells bits of the table's hash, which stays in this process: with it, a client could choose keys that fall
// into one chain. So a word is the place enciphered, with a secret of the server. The words of another server, also of
// this one before its restart, are told from its own.
//
// Thread safety: immutable; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/key_list.h"

namespace cairn {

inline constexpr size_t kScanCursorBytes = 32;

class ScanCursors {
 public:
  ScanCursors();

  // Writes kScanCursorBytes hexadecimal digits.
  void Write(const KeyPlace& place, char* to) const;
  // "0" is the beginning. False: no cursor of this server.
  [[nodiscard]] bool Read(std::string_view word, uint32_t shard_count, KeyPlace* place) const;

 private:
  // A half of the place in dependence of the other half.
  uint64_t Round(int round, uint64_t half) const;

  uint64_t secret_[2];
};

}  // namespace cairn
