#include "protocol/scan_cursor.h"

#include <cstring>

#include "base/os.h"
#include "base/sip_hash.h"

namespace cairn {

namespace {

// A Feistel network over two halves of 64 bits. Four rounds of a pseudo-random function make a pseudo-random
// permutation, also backwards (M. Luby and C. Rackoff, 1988).
constexpr int kRounds = 4;
constexpr size_t kDigitsOfHalf = 16;

void WriteHex(uint64_t number, char* to) {
  constexpr char kDigits[] = "0123456789abcdef";
  for (size_t i = 0; i < kDigitsOfHalf; i++) to[i] = kDigits[(number >> (60 - 4 * i)) & 15];
}

bool ReadHex(std::string_view digits, uint64_t* number) {
  *number = 0;
  for (const char c : digits) {
    const bool is_digit = c >= '0' && c <= '9';
    if (!is_digit && !(c >= 'a' && c <= 'f')) return false;
    *number = *number << 4 | static_cast<uint64_t>(is_digit ? c - '0' : c - 'a' + 10);
  }
  return true;
}

}  // namespace

ScanCursors::ScanCursors() { OsRandom(secret_, sizeof secret_); }

uint64_t ScanCursors::Round(int round, uint64_t half) const {
  char input[sizeof half + 1];
  std::memcpy(input, &half, sizeof half);
  input[sizeof half] = static_cast<char>(round);
  return SipHash<2, 4>({input, sizeof input}, secret_[0], secret_[1]);
}

void ScanCursors::Write(const KeyPlace& place, char* to) const {
  // The upper half of the shard's word is zero: so Read() knows its own.
  uint64_t left = place.shard;
  uint64_t right = place.offset;
  for (int round = 0; round < kRounds; round++) {
    const uint64_t next = left ^ Round(round, right);
    left = right;
    right = next;
  }
  WriteHex(left, to);
  WriteHex(right, to + kDigitsOfHalf);
}

bool ScanCursors::Read(std::string_view word, uint32_t shard_count, KeyPlace* place) const {
  if (word == "0") {
    *place = {};
    return true;
  }
  uint64_t left = 0;
  uint64_t right = 0;
  if (word.size() != kScanCursorBytes || !ReadHex(word.substr(0, kDigitsOfHalf), &left) ||
      !ReadHex(word.substr(kDigitsOfHalf), &right)) {
    return false;
  }
  for (int round = kRounds - 1; round >= 0; round--) {
    const uint64_t before = right ^ Round(round, left);
    right = left;
    left = before;
  }
  if (left >= shard_count) return false;
  *place = {static_cast<uint32_t>(left), right};
  return true;
}

}  // namespace cairn
