// Two hashes that must never be mixed up.
//
// RoutingHash: unkeyed, the same on every machine, in C++ and in TypeScript (src/request/hash.ts; shared vectors in
// test/vectors/routing-hash.json). Selects the shard and the lane of a key. XXH32 with seed 0 (Yann Collet, "xxHash
// fast digest algorithm", doc/xxhash_spec.md, revision 0.2.0).
//
// TableHash: keyed with random secrets of this process; selects the bucket of a key within its shard. It never leaves
// the process.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace cairn {

uint32_t RoutingHash(std::string_view key);

enum class HashKind : uint8_t {
  kFast,     // multiply-and-fold with secret constants
  kSipHash,  // SipHash-1-3: a pseudo-random function, for keys chosen by an adversary who can measure time
};

// Random words that key the table hash. All zero means "not drawn yet".
struct HashSecrets {
  std::array<uint64_t, 8> words{};
  bool IsZero() const {
    for (uint64_t word : words) {
      if (word != 0) return false;
    }
    return true;
  }
};

// Secrets from the system's random source. Words of nearly all zeros or nearly all ones would be poor factors; they are
// drawn again.
HashSecrets DrawHashSecrets();

uint64_t TableHashFast(std::string_view key, const HashSecrets& secrets);
uint64_t TableHashSip(std::string_view key, const HashSecrets& secrets);

inline uint64_t TableHash(HashKind kind, std::string_view key, const HashSecrets& secrets) {
  return kind == HashKind::kFast ? TableHashFast(key, secrets) : TableHashSip(key, secrets);
}

}  // namespace cairn
