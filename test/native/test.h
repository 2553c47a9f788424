// The unit-test framework of the native tests, in one header; main.cc runs what is registered here.
//
//   TEST(Shard, SetEvictsFromTheColdEnd) {
//     Shard shard(...);
//     ASSERT_TRUE(shard.Set("a", "1"));
//     EXPECT_EQ(shard.entry_count(), 1) << "after one set";
//   }
//   TEST_F(ShardTest, Name) { ... }   // the body is a member of a class derived from ShardTest, made new for each test
//
// EXPECT_* reports and goes on; ASSERT_* reports and returns from the function it stands in, which must return void.
// Both may be used from any thread; SKIP and TEST bodies belong to the thread that runs the tests.
// EXPECT_DEATH(statement, "text") runs the statement in a forked process, which must die having written the text.
//
// Random tests take their seed from Seed(): it is printed when a test fails or the process dies, and
// `native_tests --seed=N Suite.Name` repeats the run.
#pragma once

#include <atomic>
#include <concepts>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#define CAIRN_TEST_HAS_FORK_ 1
#endif

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define CAIRN_UNDER_TSAN_ 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define CAIRN_UNDER_TSAN_ 1
#endif

namespace cairn::test {

// ThreadSanitizer makes everything ten times as slow, and finds nothing in what has one thread.
#if defined(CAIRN_UNDER_TSAN_)
inline constexpr bool kUnderTsan = true;
#else
inline constexpr bool kUnderTsan = false;
#endif

// One registered test.
struct Case {
  const char* suite;
  const char* name;
  void (*body)();
};

// All tests, in the order in which the linker met them.
inline std::vector<Case>& Cases() {
  static std::vector<Case> cases;
  return cases;
}

inline bool Register(const char* suite, const char* name, void (*body)()) {
  Cases().push_back({suite, name, body});
  return true;
}

// What the running test has come to. Failures may be counted by any thread.
struct State {
  std::atomic<int> failure_count{0};
  bool skipped = false;
  std::string skip_reason;
  uint64_t seed = 0;
};

inline State& CurrentState() {
  static State state;
  return state;
}

// The seed of this run: one number for all tests, so that a filter does not change it.
inline uint64_t Seed() { return CurrentState().seed; }

// Pseudo-random numbers that are the same on every platform: SplitMix64 (Steele, Lea, Flood: Fast Splittable
// Pseudorandom Number Generators, OOPSLA 2014). Not thread-safe; give each thread its own, with Fork().
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  // A number in [0, bound). REQUIRES: bound > 0.
  uint64_t Below(uint64_t bound) { return Next() % bound; }

  // A number in [low, high]. REQUIRES: low <= high, and the span fits 64 bits.
  uint64_t Between(uint64_t low, uint64_t high) { return low + Below(high - low + 1); }

  // True once in n times on average. REQUIRES: n > 0.
  bool OneIn(uint64_t n) { return Below(n) == 0; }

  // Any bytes, not only letters.
  std::string Bytes(size_t count) {
    std::string bytes(count, '\0');
    for (char& byte : bytes) byte = static_cast<char>(Next());
    return bytes;
  }

  // An independent generator.
  Random Fork() { return Random(Next()); }

 private:
  uint64_t state_;
};

// Text that a failed check carries: `EXPECT_TRUE(x) << "at step " << i`. What it takes to write one is kept out of the
// tests' code: there are thousands of checks, and few fail.
class Message {
 public:
  Message();
  ~Message();
  template <typename T>
  Message& operator<<(const T& value) {
    *stream_ << value;
    return *this;
  }
  std::string text() const;

 private:
  std::unique_ptr<std::ostringstream> stream_;
};

// Bytes quoted and escaped, the first 400.
std::string ShowBytes(std::string_view bytes);
std::string ShowInteger(long long value);
std::string ShowInteger(unsigned long long value);

// Prints a value of a failed comparison: bytes as above, enums as numbers, the rest as << does.
template <typename T>
std::string Show(const T& value) {
  using Bare = std::remove_cvref_t<T>;
  if constexpr (std::is_same_v<Bare, bool>) {
    return value ? "true" : "false";
  } else if constexpr (std::is_same_v<Bare, std::nullptr_t>) {
    return "nullptr";
  } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
    return ShowBytes(value);
  } else if constexpr (std::is_enum_v<Bare>) {
    return "enum " + ShowInteger(static_cast<long long>(value));
  } else if constexpr (std::integral<Bare> && std::is_signed_v<Bare>) {
    return ShowInteger(static_cast<long long>(value));
  } else if constexpr (std::integral<Bare>) {
    return ShowInteger(static_cast<unsigned long long>(value));
  } else if constexpr (requires(std::ostringstream& stream) { stream << value; }) {
    std::ostringstream stream;
    stream << value;
    return stream.str();
  } else {
    return "(" + ShowInteger(static_cast<unsigned long long>(sizeof(Bare))) + "-byte object)";
  }
}

// The outcome of a check: null if it held, otherwise what was expected and what came, which the Reporter deletes.
struct Outcome {
  const std::string* failure = nullptr;
};

// A check that has failed.
Outcome Failed(std::string text);
Outcome FailedComparison(const char* a_text, const char* op, const char* b_text, std::string a, std::string b);
Outcome FailedTruth(const char* text, bool expected);

// -1, 0, 1 for integers of any two types: 1u > -1 as in arithmetic, not as in C.
template <std::integral A, std::integral B>
constexpr int Order(A a, B b) {
  if constexpr (std::is_signed_v<A> && !std::is_signed_v<B>) {
    if (a < 0) return -1;
  } else if constexpr (!std::is_signed_v<A> && std::is_signed_v<B>) {
    if (b < 0) return 1;
  }
  using Wide = std::common_type_t<A, B>;
  const Wide x = static_cast<Wide>(a);
  const Wide y = static_cast<Wide>(b);
  return x < y ? -1 : y < x ? 1 : 0;
}

#define CAIRN_TEST_COMPARISON_(Name, op)                                         \
  template <typename A, typename B>                                              \
  Outcome Name(const char* a_text, const char* b_text, const A& a, const B& b) { \
    bool held;                                                                   \
    if constexpr (std::integral<A> && std::integral<B>) {                        \
      held = Order(a, b) op 0;                                                   \
    } else {                                                                     \
      held = static_cast<bool>(a op b);                                          \
    }                                                                            \
    if (held) [[likely]]                                                         \
      return {};                                                                 \
    return FailedComparison(a_text, #op, b_text, Show(a), Show(b));              \
  }
CAIRN_TEST_COMPARISON_(CompareEq, ==)
CAIRN_TEST_COMPARISON_(CompareNe, !=)
CAIRN_TEST_COMPARISON_(CompareLt, <)
CAIRN_TEST_COMPARISON_(CompareLe, <=)
CAIRN_TEST_COMPARISON_(CompareGt, >)
CAIRN_TEST_COMPARISON_(CompareGe, >=)
#undef CAIRN_TEST_COMPARISON_

template <typename T>
Outcome CompareTruth(const char* text, const T& value, bool expected) {
  if (static_cast<bool>(value) == expected) [[likely]]
    return {};
  return FailedTruth(text, expected);
}

// Reports a failed check. Assigning a message to it reports and is void, so that ASSERT_* can return it.
struct Reporter {
  const char* file;
  int line;
  Outcome outcome;

  void operator=(const Message& message) const;
};

#if defined(CAIRN_TEST_HAS_FORK_)
// Runs `statement` in a child and says whether it died on its own and wrote `text` to stderr.
Outcome DiesWith(const char* statement_text, std::string_view text, const std::function<void()>& statement);
#endif

}  // namespace cairn::test

#define TEST(Suite, Name)                                             \
  static void Suite##_##Name##_Body();                                \
  [[maybe_unused]] static const bool Suite##_##Name##_registered =    \
      ::cairn::test::Register(#Suite, #Name, &Suite##_##Name##_Body); \
  static void Suite##_##Name##_Body()

#define TEST_F(Fixture, Name)                                                                         \
  namespace {                                                                                         \
  struct Fixture##_##Name : Fixture {                                                                 \
    void Body();                                                                                      \
  };                                                                                                  \
  }                                                                                                   \
  [[maybe_unused]] static const bool Fixture##_##Name##_registered =                                  \
      ::cairn::test::Register(#Fixture, #Name, [] { std::make_unique<Fixture##_##Name>()->Body(); }); \
  void Fixture##_##Name::Body()

// A loop of at most one turn, and no `if`: an `else` behind the macro then binds to the caller's own.
#define CAIRN_TEST_CHECK_(outcome_expression, on_failure)                                           \
  for (::cairn::test::Outcome cairn_outcome = outcome_expression; cairn_outcome.failure != nullptr; \
       cairn_outcome = {})                                                                          \
  on_failure::cairn::test::Reporter{__FILE__, __LINE__, cairn_outcome} = ::cairn::test::Message()

#define EXPECT_EQ(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareEq(#a, #b, a, b), )
#define EXPECT_NE(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareNe(#a, #b, a, b), )
#define EXPECT_LT(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareLt(#a, #b, a, b), )
#define EXPECT_LE(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareLe(#a, #b, a, b), )
#define EXPECT_GT(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareGt(#a, #b, a, b), )
#define EXPECT_GE(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareGe(#a, #b, a, b), )
#define EXPECT_TRUE(a) CAIRN_TEST_CHECK_(::cairn::test::CompareTruth(#a, a, true), )
#define EXPECT_FALSE(a) CAIRN_TEST_CHECK_(::cairn::test::CompareTruth(#a, a, false), )
#define ASSERT_EQ(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareEq(#a, #b, a, b), return)
#define ASSERT_NE(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareNe(#a, #b, a, b), return)
#define ASSERT_LT(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareLt(#a, #b, a, b), return)
#define ASSERT_LE(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareLe(#a, #b, a, b), return)
#define ASSERT_GT(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareGt(#a, #b, a, b), return)
#define ASSERT_GE(a, b) CAIRN_TEST_CHECK_(::cairn::test::CompareGe(#a, #b, a, b), return)
#define ASSERT_TRUE(a) CAIRN_TEST_CHECK_(::cairn::test::CompareTruth(#a, a, true), return)
#define ASSERT_FALSE(a) CAIRN_TEST_CHECK_(::cairn::test::CompareTruth(#a, a, false), return)
#define FAIL() CAIRN_TEST_CHECK_(::cairn::test::Failed("failed"), return)
#define ADD_FAILURE() CAIRN_TEST_CHECK_(::cairn::test::Failed("failed"), )

#if defined(CAIRN_TEST_HAS_FORK_)
#define EXPECT_DEATH(statement, text) CAIRN_TEST_CHECK_(::cairn::test::DiesWith(#statement, text, [&] { statement; }), )
#else
#define EXPECT_DEATH(statement, text) static_cast<void>(0)
#endif

// Ends the test as skipped; the reason is listed at the end of `npm test`.
#define SKIP(reason)                                      \
  do {                                                    \
    ::cairn::test::CurrentState().skipped = true;         \
    ::cairn::test::CurrentState().skip_reason = (reason); \
    return;                                               \
  } while (false)
