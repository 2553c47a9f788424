// The hashes of hash.h, inlined for the code of every request: it needs both, and the processor computes them in
// parallel.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "base/hash.h"

#if defined(_MSC_VER) && !defined(__clang__)
#include <intrin.h>
#endif

namespace cairn::inlined {

static_assert(std::endian::native == std::endian::little, "words are loaded as little-endian");

inline uint32_t Load32(const char* data) {
  uint32_t word;
  std::memcpy(&word, data, sizeof(word));
  return word;
}

inline uint64_t Load64(const char* data) {
  uint64_t word;
  std::memcpy(&word, data, sizeof(word));
  return word;
}

// ---- XXH32 ----

inline constexpr uint32_t kPrime1 = 0x9E3779B1;
inline constexpr uint32_t kPrime2 = 0x85EBCA77;
inline constexpr uint32_t kPrime3 = 0xC2B2AE3D;
inline constexpr uint32_t kPrime4 = 0x27D4EB2F;
inline constexpr uint32_t kPrime5 = 0x165667B1;

inline uint32_t XxhRound(uint32_t lane, uint32_t word) { return std::rotl(lane + word * kPrime2, 13) * kPrime1; }

// ---- multiply and fold ----

struct Wide {
  uint64_t low;
  uint64_t high;
};

inline Wide Multiply(uint64_t a, uint64_t b) {
#if defined(__SIZEOF_INT128__)
  __extension__ using Uint128 = unsigned __int128;
  Uint128 product = static_cast<Uint128>(a) * b;
  return {static_cast<uint64_t>(product), static_cast<uint64_t>(product >> 64)};
#elif defined(_M_X64)
  Wide product;
  product.low = _umul128(a, b, &product.high);
  return product;
#elif defined(_M_ARM64)
  return {a * b, __umulh(a, b)};
#else
  uint64_t a0 = static_cast<uint32_t>(a), a1 = a >> 32, b0 = static_cast<uint32_t>(b), b1 = b >> 32;
  uint64_t low = a0 * b0;
  uint64_t middle = a1 * b0 + (low >> 32);  // at most 2^64 - 2^32: cannot wrap
  uint64_t carry = a0 * b1 + static_cast<uint32_t>(middle);
  return {(carry << 32) | static_cast<uint32_t>(low), a1 * b1 + (middle >> 32) + (carry >> 32)};
#endif
}

inline Wide Add(Wide a, Wide b) {
  uint64_t low = a.low + b.low;
  return {low, a.high + b.high + (low < b.low)};
}

inline uint64_t Fold(uint64_t a, uint64_t b) {
  Wide product = Multiply(a, b);
  return product.low ^ product.high;
}

// One step of NH: multiplies two words of the key, each plus a secret word, to 128 bits.
inline Wide Pair(const char* first, const char* second, uint64_t secret0, uint64_t secret1) {
  return Multiply(Load64(first) + secret0, Load64(second) + secret1);
}

// The sum for a key of more than 48 bytes.
Wide LongSum(const char* data, size_t size, const HashSecrets& secrets);

inline uint32_t RoutingHash(std::string_view key) {
  const char* data = key.data();
  const char* end = data + key.size();
  uint32_t hash;
  if (key.size() >= 16) {
    uint32_t lane1 = kPrime1 + kPrime2;
    uint32_t lane2 = kPrime2;
    uint32_t lane3 = 0;
    uint32_t lane4 = 0 - kPrime1;
    for (; end - data >= 16; data += 16) {
      lane1 = XxhRound(lane1, Load32(data));
      lane2 = XxhRound(lane2, Load32(data + 4));
      lane3 = XxhRound(lane3, Load32(data + 8));
      lane4 = XxhRound(lane4, Load32(data + 12));
    }
    hash = std::rotl(lane1, 1) + std::rotl(lane2, 7) + std::rotl(lane3, 12) + std::rotl(lane4, 18);
  } else {
    hash = kPrime5;
  }
  hash += static_cast<uint32_t>(key.size());
  for (; end - data >= 4; data += 4) hash = std::rotl(hash + Load32(data) * kPrime3, 17) * kPrime4;
  for (; data != end; ++data) hash = std::rotl(hash + static_cast<unsigned char>(*data) * kPrime5, 11) * kPrime1;
  hash ^= hash >> 15;
  hash *= kPrime2;
  hash ^= hash >> 13;
  hash *= kPrime3;
  hash ^= hash >> 16;
  return hash;
}

// The 64 x 64 -> 128 multiply folded by xor is the idea of wyhash and rapidhash (Wang Yi; Nicolas De Carli). They
// multiply key bytes with published constants, so some keys collide under every seed. Here key bytes are multiplied
// with secret words only, and up to 48 bytes of key go into one exact sum of products: NH (Black, Halevi, Krawczyk,
// Krovetz, Rogaway, "UMAC: Fast and Secure Message Authentication", 1999), for which two keys of one length agree with
// probability 2^-64 over the secrets. Then one folded multiply, keyed by two further words and the length, spreads the
// sum over all 64 bits. Longer keys first pass through lanes of folded multiplies, in which each factor is a word of
// the key under a secret.
inline uint64_t TableHashFast(std::string_view key, const HashSecrets& secrets) {
  const auto& words = secrets.words;
  const char* data = key.data();
  const size_t size = key.size();
  Wide sum;
  if (size <= 16) {
    // For a given length, each of the three ways to load is one-to-one; the length is mixed in at the end.
    uint64_t first = 0;
    uint64_t second = 0;
    if (size >= 8) {
      first = Load64(data);
      second = Load64(data + size - 8);
    } else if (size >= 4) {
      first = Load32(data);
      second = Load32(data + size - 4);
    } else if (size > 0) {
      auto byte = [data](size_t i) { return static_cast<uint64_t>(static_cast<unsigned char>(data[i])); };
      first = byte(0);
      second = byte(size >> 1) << 8 | byte(size - 1);
    }
    sum = Multiply(first + words[0], second + words[1]);
  } else if (size <= 48) {
    const char* tail = data + size - 16;
    sum = Add(Pair(data, data + 8, words[0], words[1]), Pair(tail, tail + 8, words[2], words[3]));
    if (size > 32) sum = Add(sum, Pair(data + 16, data + 24, words[4], words[5]));
  } else {
    sum = LongSum(data, size, secrets);
  }
  return Fold(sum.low ^ words[6], sum.high ^ words[7] ^ size);
}

inline uint64_t TableHash(HashKind kind, std::string_view key, const HashSecrets& secrets) {
  return kind == HashKind::kFast ? inlined::TableHashFast(key, secrets) : TableHashSip(key, secrets);
}

}  // namespace cairn::inlined
