#include "base/hash.h"

#include <bit>

#include "base/hash_inl.h"
#include "base/os.h"
#include "base/sip_hash.h"

namespace cairn {

HashSecrets DrawHashSecrets() {
  HashSecrets secrets;
  OsRandom(secrets.words.data(), sizeof(secrets.words));
  for (uint64_t& word : secrets.words) {
    // Folding loses much when a factor has few ones or few zeros. One word in 30,000 is drawn again.
    while (std::popcount(word) < 16 || std::popcount(word) > 48) OsRandom(&word, sizeof(word));
  }
  return secrets;
}

uint32_t RoutingHash(std::string_view key) { return inlined::RoutingHash(key); }

uint64_t TableHashFast(std::string_view key, const HashSecrets& secrets) {
  return inlined::TableHashFast(key, secrets);
}

inlined::Wide inlined::LongSum(const char* data, size_t size, const HashSecrets& secrets) {
  const auto& words = secrets.words;
  // Three lanes take 48 bytes a turn, so that their multiplies overlap; the last 48 bytes end all three.
  uint64_t lane0 = words[0];
  uint64_t lane1 = words[2];
  uint64_t lane2 = words[4];
  const char* tail = data + size - 48;
  for (; data < tail; data += 48) {
    lane0 = Fold(Load64(data) ^ words[1], Load64(data + 8) ^ lane0);
    lane1 = Fold(Load64(data + 16) ^ words[3], Load64(data + 24) ^ lane1);
    lane2 = Fold(Load64(data + 32) ^ words[5], Load64(data + 40) ^ lane2);
  }
  return Add(Add(Pair(tail, tail + 8, lane0, words[1]), Pair(tail + 16, tail + 24, lane1, words[3])),
             Pair(tail + 32, tail + 40, lane2, words[5]));
}

uint64_t TableHashSip(std::string_view key, const HashSecrets& secrets) {
  return SipHash<1, 3>(key, secrets.words[0], secrets.words[1]);
}

}  // namespace cairn
