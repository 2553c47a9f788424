// The short form of the model run (programs/run_model.cc): enough lives of every family to come to every interesting
// state, which is asserted. model/harness.h says what is compared.

#include "model/harness.h"
#include "test.h"

namespace cairn::model {
namespace {

// Runs lives of one family, drawn from this seed. A failure prints what repeats it.
Coverage RunFamily(const char* arena, uint64_t first_seed, int lives, uint64_t steps) {
  Coverage coverage;
  test::Random random(first_seed);
  for (int i = 0; i < lives; ++i) {
    const uint64_t seed = random.Next() >> 16;
    const Life life = DrawLife(arena, seed);
    Harness harness(life);
    Generator generator(life, seed);
    bool good = true;
    uint64_t step = 0;
    for (; good && step < steps; ++step) good = harness.Step(generator.Next());
    if (good) good = harness.Finish();
    if (!good) {
      ADD_FAILURE() << harness.failure() << "; repeat with: run_model --arena " << arena << " --life " << seed
                    << " --steps " << step;
      return coverage;
    }
    coverage.Add(harness.coverage());
  }
  return coverage;
}

bool IsSlow(std::string_view arena) { return arena == "small" || arena == "drift"; }

TEST(StoreModel, TheStoreDoesWhatTheModelSays) {
  for (const char* arena : kArenaNames) {
    RunFamily(arena, test::Seed() * 1000 + static_cast<uint64_t>(arena[0]), IsSlow(arena) ? 1 : 6,
              IsSlow(arena) ? 12'000 : 2000);
    if (test::CurrentState().failure_count != 0) return;
  }
}

TEST(StoreModel, TheRunsComeToEveryInterestingState) {
  // The same lives every time, so that what they come to does not depend on luck.
  Coverage coverage;
  uint64_t seed = 100;
  for (const char* arena : kArenaNames) {
    coverage.Add(RunFamily(arena, ++seed, IsSlow(arena) ? 2 : 12, IsSlow(arena) ? 12'000 : 2000));
    if (test::CurrentState().failure_count != 0) return;
  }
  EXPECT_EQ(coverage.Missing(true), "") << coverage.Text();
}

TEST(StoreModel, AnOperationMeansSomethingInEveryState) {
  // Every kind of operation as the first one, and each twice: none depends on what came before.
  for (int kind = 0; kind < kOpKindCount; ++kind) {
    for (int verb = 0; verb < 16; ++verb) {
      Life life = DrawLife("tiny", 5);
      Harness harness(life);
      Op op;
      op.kind = static_cast<OpKind>(kind);
      op.verb = static_cast<Verb>(verb);
      op.bytes = 10'000;
      op.number = 7;
      EXPECT_TRUE(harness.Step(op)) << Describe(op) << ": " << harness.failure();
      EXPECT_TRUE(harness.Step(op)) << Describe(op) << ": " << harness.failure();
      EXPECT_TRUE(harness.Finish()) << harness.failure();
    }
  }
}

}  // namespace
}  // namespace cairn::model
