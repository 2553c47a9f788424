// Routing hash: against the specification's values and against test/vectors/routing-hash.json, which the TypeScript
// side reads too. Its rows were computed with two other implementations of XXH32; a row is the hex of a key, perhaps
// repeated, and the hash; `key` beside it is the same bytes as text, for readers and for TypeScript.
//
// Table hash: SipHash against the paper's vector. The fast one has no outside reference, so it is examined as a black
// box, over several draws of secrets and over keys as people choose them (counted, padded, mostly zero, random):
// flipping any bit of a key must flip every bit of the hash about half the time, all 64-bit hashes must differ, and the
// bits that the table uses (low ones for the bucket, the top byte for the tag) must fill their ranges evenly. Bounds
// are some eight standard deviations wide: a right hash fails about never, whatever the seed.
#include "base/hash.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/sip_hash.h"
#include "test.h"

namespace cairn {
namespace {

using test::Random;

// Like DrawHashSecrets, but from the seed of the run.
HashSecrets Draw(Random* random) {
  HashSecrets secrets;
  for (uint64_t& word : secrets.words) {
    do word = random->Next();
    while (std::popcount(word) < 16 || std::popcount(word) > 48);
  }
  return secrets;
}

struct Vector {
  std::string key;
  uint32_t hash;
};

// Reads the rows of routing-hash.json: flat objects with "hex", perhaps "repeat", and "hash".
std::vector<Vector> ReadVectors() {
  std::ifstream file(CAIRN_TEST_ROOT "/../vectors/routing-hash.json", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // What follows `"name":` in the row [from, to), without quotes; empty if the row has no such name.
  auto field = [&text](size_t from, size_t to, const std::string& name) -> std::string {
    size_t at = text.find("\"" + name + "\":", from);
    if (at >= to) return "";
    at = text.find_first_not_of(" \"", at + name.size() + 3);
    return text.substr(at, text.find_first_of(",}\" \n", at) - at);
  };
  std::vector<Vector> vectors;
  for (size_t at = text.find('{'); at != std::string::npos; at = text.find('{', at + 1)) {
    const size_t end = text.find('}', at);
    const std::string hex = field(at, end, "hex");
    const std::string repeat = field(at, end, "repeat");
    std::string once;
    for (size_t i = 0; i + 1 < hex.size(); i += 2) {
      once += static_cast<char>(std::strtoul(hex.substr(i, 2).c_str(), nullptr, 16));
    }
    Vector vector;
    for (int i = repeat.empty() ? 1 : std::atoi(repeat.c_str()); i > 0; --i) vector.key += once;
    vector.hash = static_cast<uint32_t>(std::strtoul(field(at, end, "hash").c_str(), nullptr, 10));
    vectors.push_back(std::move(vector));
  }
  return vectors;
}

TEST(RoutingHash, IsXxh32WithSeedZero) {
  EXPECT_EQ(RoutingHash(""), 0x02CC5D05u);
  EXPECT_EQ(RoutingHash(std::string_view()), 0x02CC5D05u);
  EXPECT_EQ(RoutingHash("a"), 0x550D7456u);
  EXPECT_EQ(RoutingHash("abc"), 0x32D153FFu);
  EXPECT_EQ(RoutingHash("Nobody inspects the spammish repetition"), 0xE2293B2Fu);
}

TEST(RoutingHash, AgreesWithTheSharedVectors) {
  const std::vector<Vector> vectors = ReadVectors();
  EXPECT_GE(vectors.size(), 100u);
  std::unordered_set<size_t> sizes;
  for (const Vector& vector : vectors) {
    sizes.insert(vector.key.size());
    EXPECT_EQ(RoutingHash(vector.key), vector.hash) << vector.key.size() << " bytes";
  }
  for (size_t size = 0; size <= 70; ++size) EXPECT_TRUE(sizes.contains(size)) << size;
  EXPECT_TRUE(sizes.contains(250));
  EXPECT_TRUE(sizes.contains(65536));
}

TEST(RoutingHash, DoesNotDependOnAlignment) {
  Random random(test::Seed());
  for (size_t size = 0; size < 80; ++size) {
    const std::string key = random.Bytes(size);
    const uint32_t hash = RoutingHash(key);
    std::string shifted(8, 'x');
    for (size_t shift = 0; shift < 8; ++shift) {
      shifted.assign(shift, 'x');
      shifted += key;
      EXPECT_EQ(RoutingHash(std::string_view(shifted).substr(shift)), hash) << size << " bytes at " << shift;
    }
  }
}

TEST(SipHash, AgreesWithThePaper) {
  std::string input;
  for (char c = 0; c < 15; ++c) input += c;
  EXPECT_EQ((SipHash<2, 4>(input, 0x0706050403020100, 0x0f0e0d0c0b0a0908)), 0xa129ca6149be45e5u);
}

TEST(SipHash, TheTableUsesOneAndThreeRounds) {
  HashSecrets secrets;
  secrets.words = {0x0706050403020100, 0x0f0e0d0c0b0a0908, 1, 2, 3, 4, 5, 6};
  std::string key;
  for (int size = 0; size < 40; ++size) {
    EXPECT_EQ(TableHashSip(key, secrets), (SipHash<1, 3>(key, secrets.words[0], secrets.words[1])));
    EXPECT_EQ(TableHash(HashKind::kSipHash, key, secrets), TableHashSip(key, secrets));
    EXPECT_EQ(TableHash(HashKind::kFast, key, secrets), TableHashFast(key, secrets));
    key += static_cast<char>(size);
  }
}

TEST(TableHash, DependsOnKeyAndSecretsOnly) {
  Random random(test::Seed());
  const HashSecrets secrets = Draw(&random);
  EXPECT_EQ(TableHashFast(std::string_view(), secrets), TableHashFast("", secrets));
  for (size_t size = 0; size <= 400; ++size) {
    const std::string key = random.Bytes(size);
    const uint64_t hash = TableHashFast(key, secrets);
    // Other bytes around the key, another address.
    for (size_t shift = 0; shift < 8; ++shift) {
      const std::string around = random.Bytes(shift) + key + random.Bytes(8);
      EXPECT_EQ(TableHashFast(std::string_view(around).substr(shift, size), secrets), hash) << size << " bytes";
    }
  }
}

// A key of exactly its size on the heap, so that the address sanitizer sees a read beside it.
TEST(TableHash, ReadsNothingBesideTheKey) {
  Random random(test::Seed());
  const HashSecrets secrets = Draw(&random);
  uint64_t sum = 0;
  for (size_t size = 1; size <= 300; ++size) {
    const std::vector<char> key(size, 'k');
    const std::string_view view(key.data(), key.size());
    sum += TableHashFast(view, secrets) + TableHashSip(view, secrets) + RoutingHash(view);
  }
  EXPECT_NE(sum, 0u);
}

TEST(TableHash, EveryWordOfTheSecretsCounts) {
  Random random(test::Seed());
  const HashSecrets secrets = Draw(&random);
  const std::string key = random.Bytes(100);
  for (size_t word = 0; word < secrets.words.size(); ++word) {
    for (int bit = 0; bit < 64; ++bit) {
      HashSecrets other = secrets;
      other.words[word] ^= uint64_t{1} << bit;
      EXPECT_NE(TableHashFast(key, secrets), TableHashFast(key, other)) << "bit " << bit << " of word " << word;
    }
  }
}

// The bits of each output for each input bit: worst distance from 1/2 in `trials` random keys of one size.
double WorstAvalanche(size_t key_bytes, int trials, const HashSecrets& secrets, Random* random) {
  double worst = 0;
  std::vector<std::string> keys;
  for (int trial = 0; trial < trials; ++trial) keys.push_back(random->Bytes(key_bytes));
  for (size_t bit = 0; bit < key_bytes * 8; ++bit) {
    int flips[64] = {};
    for (std::string& key : keys) {
      const uint64_t before = TableHashFast(key, secrets);
      key[bit / 8] = static_cast<char>(key[bit / 8] ^ 1 << bit % 8);
      uint64_t changed = before ^ TableHashFast(key, secrets);
      key[bit / 8] = static_cast<char>(key[bit / 8] ^ 1 << bit % 8);
      for (int out = 0; out < 64; ++out) flips[out] += static_cast<int>(changed >> out & 1);
    }
    for (int flip : flips) worst = std::max(worst, std::fabs(static_cast<double>(flip) / trials - 0.5));
  }
  return worst;
}

TEST(TableHash, EveryBitOfTheKeyMovesEveryBitOfTheHash) {
  Random random(test::Seed());
  constexpr int kTrials = 400;
  for (size_t key_bytes :
       {1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 20, 24, 31, 32, 33, 40, 47, 48, 49, 64, 96, 97, 130}) {
    const HashSecrets secrets = Draw(&random);
    // There are only 128 pairs of one-byte keys that differ in a given bit.
    const double bound = 8 * 0.5 / std::sqrt(key_bytes == 1 ? 128 : kTrials);
    EXPECT_LT(WorstAvalanche(key_bytes, kTrials, secrets, &random), bound) << key_bytes << "-byte keys";
  }
}

// Families of distinct keys as they occur.
std::vector<std::vector<std::string>> KeyFamilies(Random* random) {
  constexpr uint32_t kCount = 1 << 15;
  std::vector<std::vector<std::string>> families;
  auto family = [&](auto make) {
    families.emplace_back();
    for (uint32_t i = 0; i < kCount; ++i) families.back().push_back(make(i));
  };
  family([](uint32_t i) { return std::to_string(i); });
  family([](uint32_t i) { return "user:" + std::to_string(i); });
  family([](uint32_t i) { return "session:2024:" + std::to_string(1000000000000 + i) + ":profile"; });
  for (size_t padding : {1, 5, 13, 29, 45, 61, 100, 240}) {
    family([=](uint32_t i) {  // counted in decimal behind and before padding
      const std::string number = std::to_string(100000 + i);
      return std::string(padding, 'x') + number;
    });
    family([=](uint32_t i) {
      const std::string number = std::to_string(100000 + i);
      return number + std::string(padding, 'x');
    });
  }
  for (size_t size = 4; size <= 64; size += size < 20 ? 1 : 7) {
    family([=](uint32_t i) {  // a little-endian counter in zeros, at the front
      std::string key(size, '\0');
      for (size_t byte = 0; byte < 4; ++byte) key[byte] = static_cast<char>(i >> 8 * byte);
      return key;
    });
    family([=](uint32_t i) {  // big-endian in 0xff, at the end
      std::string key(size, '\xff');
      for (size_t byte = 0; byte < 4; ++byte) key[size - 1 - byte] = static_cast<char>(i >> 8 * byte);
      return key;
    });
  }
  family([](uint32_t i) { return std::string(i % 300, 'x') + std::to_string(i); });
  for (size_t size : {8, 16, 24, 32, 48, 64}) {
    family([=](uint32_t) { return random->Bytes(size); });
  }
  // Only the length tells them apart.
  families.emplace_back();
  for (size_t size = 0; size < 4096; ++size) families.back().push_back(std::string(size, '\0'));
  return families;
}

// Chi-square of `counts` against an even spread, as standard deviations from what it should be.
double ChiSquareDeviation(const std::vector<uint32_t>& counts, size_t total) {
  const double expected = static_cast<double>(total) / static_cast<double>(counts.size());
  double chi_square = 0;
  for (uint32_t count : counts) chi_square += (count - expected) * (count - expected) / expected;
  const double freedom = static_cast<double>(counts.size() - 1);
  return (chi_square - freedom) / std::sqrt(2 * freedom);
}

// A draw of the secrets in some hundred spreads one family or another less evenly than chance would (keys of zeros that
// only their length tells apart, above all); the next one does not.
TEST(TableHash, SpreadsKeysEvenly) {
  Random random(test::Seed());
  const auto families = KeyFamilies(&random);
  constexpr int kDraws = 3;
  HashSecrets draws[kDraws];
  for (HashSecrets& secrets : draws) secrets = Draw(&random);
  for (size_t f = 0; f < families.size(); ++f) {
    const auto& keys = families[f];
    // Of bucket, tag and the bits between.
    std::vector<double> deviations[3];
    for (const HashSecrets& secrets : draws) {
      const size_t bucket_count = keys.size() / 16;
      std::vector<uint32_t> buckets(bucket_count), tags(256), middles(256);
      std::vector<uint64_t> hashes;
      for (const std::string& key : keys) {
        const uint64_t hash = TableHashFast(key, secrets);
        ++buckets[static_cast<uint32_t>(hash) % bucket_count];
        ++tags[hash >> 56];
        ++middles[hash >> 32 & 0xff];
        hashes.push_back(hash);
      }
      std::sort(hashes.begin(), hashes.end());
      EXPECT_TRUE(std::adjacent_find(hashes.begin(), hashes.end()) == hashes.end())
          << "family " << f << " of " << keys[1];
      // Too even is no better than uneven: counters multiplied by a constant are so.
      int part = 0;
      for (const auto* counts : {&buckets, &tags, &middles}) {
        deviations[part++].push_back(std::fabs(ChiSquareDeviation(*counts, keys.size())));
      }
    }
    for (std::vector<double>& of_part : deviations) {
      std::sort(of_part.begin(), of_part.end());
      EXPECT_LT(of_part[kDraws / 2], 8.0) << "family " << f << " of " << keys[1];
      EXPECT_LT(of_part.back(), 64.0) << "family " << f << " of " << keys[1];
    }
  }
}

TEST(TableHash, NoPublishedWordHidesTheRestOfTheKey) {
  Random random(test::Seed());
  const uint64_t words[] = {0,
                            ~uint64_t{0},
                            0x2d358dccaa6c78a5,
                            0x8bb84b93962eacc9,
                            0x4b33a62ed433d4a3,
                            0xa0761d6478bd642f,
                            0xe7037ed1a0b428db,
                            0x8ebc6af09c88c6e3,
                            0x589965cc75374cc3};
  for (int draw = 0; draw < 4; ++draw) {
    const HashSecrets secrets = Draw(&random);
    for (size_t key_bytes : {16, 24, 32, 40, 48, 64, 96, 112, 160}) {
      for (uint64_t word : words) {
        for (size_t at = 0; at + 8 <= key_bytes; at += 8) {
          std::unordered_set<uint64_t> hashes;
          for (int i = 0; i < 64; ++i) {
            std::string key = random.Bytes(key_bytes);
            std::memcpy(key.data() + at, &word, sizeof(word));
            hashes.insert(TableHashFast(key, secrets));
          }
          EXPECT_EQ(hashes.size(), 64u) << key_bytes << "-byte keys with a fixed word at " << at;
        }
      }
    }
  }
}

// Keys of one length that differ in few bytes, and keys that overlapping loads could confuse across lengths.
TEST(TableHash, KeysOfNeighbouringLengthsDoNotCollide) {
  Random random(test::Seed());
  const HashSecrets secrets = Draw(&random);
  std::unordered_set<uint64_t> hashes;
  size_t count = 0;
  for (size_t size = 0; size <= 200; ++size) {
    for (int byte = 0; byte < 256; ++byte) {
      if (size == 0 && byte != 0) continue;
      hashes.insert(TableHashFast(std::string(size, static_cast<char>(byte)), secrets));
      ++count;
    }
  }
  EXPECT_EQ(hashes.size(), count);
}

TEST(HashSecrets, AreDrawnAnewAndWithoutDegenerateWords) {
  std::unordered_set<uint64_t> words;
  for (int draw = 0; draw < 2000; ++draw) {
    const HashSecrets secrets = DrawHashSecrets();
    EXPECT_FALSE(secrets.IsZero());
    for (uint64_t word : secrets.words) {
      EXPECT_GE(std::popcount(word), 16);
      EXPECT_LE(std::popcount(word), 48);
      words.insert(word);
    }
  }
  EXPECT_EQ(words.size(), 2000u * 8);
  EXPECT_TRUE(HashSecrets().IsZero());
}

}  // namespace
}  // namespace cairn
