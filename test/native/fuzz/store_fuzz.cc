// Bytes become operations on a tiny store, and the store is compared with its model after each: a difference, a broken
// invariant or a crash ends the process. See model/harness.h.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "model/harness.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  using namespace cairn::model;
  if (size < 2) return 0;
  const uint8_t options = data[0];
  Life life;
  life.seed = 1;
  life.key_count = 64;
  life.long_keys = 4;
  life.records = (options & 1) != 0;
  life.recovers = life.records && (options & 32) != 0;
  life.options.memory_bytes = kMemoryBytesMin;
  life.options.memory_bytes_ceiling = 2 * kMemoryBytesMin;
  life.options.page_bytes = kPageBytesMin;
  life.options.shard_count = (options & 2) != 0 ? 2 : 1;
  if (life.options.shard_count == 2) life.options.memory_bytes *= 2, life.options.memory_bytes_ceiling *= 2;
  life.options.entries_max = (options & 4) != 0 ? 1 + data[1] % 32 : 0;
  life.options.track_access = (options & 8) != 0;
  if (life.records) {
    life.options.ring_bytes = 1;  // the smallest there are
    life.options.value_bytes_max = 200'000;
  }
  life.options.epoch = 3;
  life.options.secrets = FixedSecrets(1);
  life.verify_every = 4;
  data += 2;
  size -= 2;
  Harness harness(life);
  Op op;
  for (int steps = 0; steps < 4000 && TakeOp(&data, &size, &op); ++steps) {
    if (harness.Step(op)) continue;
    std::fprintf(stderr, "step %d, %s: %s\n", steps, Describe(op).c_str(), harness.failure().c_str());
    std::abort();
  }
  if (!harness.Finish()) {
    std::fprintf(stderr, "at the end: %s\n", harness.failure().c_str());
    std::abort();
  }
  return 0;
}
