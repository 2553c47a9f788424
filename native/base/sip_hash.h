// SipHash (Jean-Philippe Aumasson and Daniel J. Bernstein, "SipHash: a fast short-input PRF", 2012), written from the
// paper. The number of rounds is a parameter so that tests can compare SipHash-2-4 with the paper's vectors; the table
// uses SipHash-1-3.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace cairn {

static_assert(std::endian::native == std::endian::little, "words are loaded as little-endian");

// Compression rounds per 8 bytes of input, and rounds at the end. Pure; any thread.
template <int kRounds, int kFinalRounds>
uint64_t SipHash(std::string_view input, uint64_t key0, uint64_t key1) {
  uint64_t v0 = key0 ^ 0x736f6d6570736575;  // "somepseudorandomlygeneratedbytes"
  uint64_t v1 = key1 ^ 0x646f72616e646f6d;
  uint64_t v2 = key0 ^ 0x6c7967656e657261;
  uint64_t v3 = key1 ^ 0x7465646279746573;
  auto mix = [&](int rounds) {
    for (int round = 0; round < rounds; ++round) {
      v0 += v1;
      v2 += v3;
      v1 = std::rotl(v1, 13) ^ v0;
      v3 = std::rotl(v3, 16) ^ v2;
      v0 = std::rotl(v0, 32);
      v2 += v1;
      v0 += v3;
      v1 = std::rotl(v1, 17) ^ v2;
      v3 = std::rotl(v3, 21) ^ v0;
      v2 = std::rotl(v2, 32);
    }
  };
  auto take = [&](uint64_t word) {
    v3 ^= word;
    mix(kRounds);
    v0 ^= word;
  };

  const char* data = input.data();
  size_t left = input.size();
  for (; left >= 8; data += 8, left -= 8) {
    uint64_t word;
    std::memcpy(&word, data, 8);
    take(word);
  }
  // The last word: what is left, zeros, and the length modulo 256 on top.
  uint64_t last = static_cast<uint64_t>(input.size()) << 56;
  for (size_t i = 0; i < left; ++i) last |= static_cast<uint64_t>(static_cast<unsigned char>(data[i])) << (8 * i);
  take(last);
  v2 ^= 0xff;
  mix(kFinalRounds);
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace cairn
