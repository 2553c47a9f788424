// Runs the native tests:
// `native_tests [--list] [--part=K/N] [--seed=N] [--repeat=N] [--report=FILE] [--verbose] [--without=FILTER]...
// [FILTER...]`. --part=K/N runs every Nth test from the Kth on, so that N processes share the tests. A filter is a part
// of "Suite.Name", or a pattern with *; several are joined by or. What --without names is left out. The seed also comes
// from CAIRN_SEED.
// The report has a line "passed N failed N skipped N", one "skip<TAB>Suite.Name<TAB>reason" for each skipped test, and
// one "fail<TAB>Suite.Name<TAB>how to repeat it" for each that failed.

#include <chrono>
#include <csignal>
#include <cstring>
#include <random>

#include "test.h"

#if defined(__linux__)
// Present when a sanitizer is linked in: says which test was running when it ended the process.
extern "C" void __sanitizer_set_death_callback(void (*callback)()) __attribute__((weak));
#endif

namespace cairn::test {
namespace {

const Case* running = nullptr;

void PrintRunning() {
  if (running == nullptr) return;
  std::fprintf(stderr, "died in %s.%s; repeat with: native_tests --seed=%llu %s.%s\n", running->suite, running->name,
               static_cast<unsigned long long>(Seed()), running->suite, running->name);
  std::fflush(stderr);
}

void OnAbort(int signal_number) {
  PrintRunning();
  std::signal(signal_number, SIG_DFL);
  std::raise(signal_number);
}

// Whether `name` matches `pattern`, where * stands for any text. Greedy with one step back: linear in practice.
bool MatchesWhole(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = std::string_view::npos, mark = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      mark = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++mark;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool Matches(const std::vector<std::string>& filters, const std::string& name) {
  for (const std::string& filter : filters) {
    const bool pattern = filter.find('*') != std::string::npos;
    if (pattern ? MatchesWhole(filter, name) : name.find(filter) != std::string::npos) return true;
  }
  return false;
}

struct Options {
  bool list = false;
  bool verbose = false;
  int repeat = 1;
  size_t part = 1, parts = 1;
  std::string report;
  std::vector<std::string> filters;
  std::vector<std::string> without;
};

// Returns false, having said why, for an argument it does not know.
bool Parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--list") {
      options->list = true;
    } else if (argument == "--verbose") {
      options->verbose = true;
    } else if (argument.starts_with("--seed=")) {
      CurrentState().seed = std::strtoull(argv[i] + 7, nullptr, 0);
    } else if (argument.starts_with("--repeat=")) {
      options->repeat = std::atoi(argv[i] + 9);
    } else if (argument.starts_with("--part=")) {
      if (std::sscanf(argv[i], "--part=%zu/%zu", &options->part, &options->parts) != 2 || options->part == 0 ||
          options->part > options->parts) {
        std::fprintf(stderr, "Expected --part=K/N with 1 <= K <= N, got %s\n", argv[i]);
        return false;
      }
    } else if (argument.starts_with("--without=")) {
      options->without.push_back(argument.substr(10));
    } else if (argument.starts_with("--report=")) {
      options->report = argument.substr(9);
    } else if (argument.starts_with("-")) {
      std::fprintf(stderr, "Unknown argument %s\n", argv[i]);
      return false;
    } else {
      options->filters.push_back(argument);
    }
  }
  return true;
}

int Main(int argc, char** argv) {
  const char* seed_text = std::getenv("CAIRN_SEED");
  CurrentState().seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 0) : std::random_device()();
  Options options;
  if (!Parse(argc, argv, &options)) return 2;
  std::signal(SIGABRT, OnAbort);
#if defined(__linux__)
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(PrintRunning);
#endif

  int passed = 0;
  int failed = 0;
  std::string lines;
  int skipped = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < options.repeat; ++round) {
    size_t selected = 0;
    for (const Case& test : Cases()) {
      const std::string name = std::string(test.suite) + "." + test.name;
      if (!options.filters.empty() && !Matches(options.filters, name)) continue;
      if (Matches(options.without, name)) continue;
      if (selected++ % options.parts != options.part - 1) continue;
      if (options.list) {
        std::printf("%s\n", name.c_str());
        continue;
      }
      if (options.verbose) std::fprintf(stderr, "%s\n", name.c_str());
      State& state = CurrentState();
      state.failure_count = 0;
      state.skipped = false;
      running = &test;
      test.body();
      running = nullptr;
      if (state.failure_count != 0) {
        ++failed;
        const std::string repeat = "native_tests --seed=" + std::to_string(state.seed) + " " + name;
        std::fprintf(stderr, "FAILED %s; repeat with: %s\n", name.c_str(), repeat.c_str());
        lines += "fail\t" + name + "\trepeat with: " + repeat + "\n";
      } else if (state.skipped) {
        ++skipped;
        lines += "skip\t" + name + "\t" + state.skip_reason + "\n";
      } else {
        ++passed;
      }
    }
  }
  if (options.list) return 0;

  const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  std::printf("native_tests: %d tests passed, %d failed, %d skipped in %lld ms, seed %llu\n", passed, failed, skipped,
              static_cast<long long>(elapsed.count()), static_cast<unsigned long long>(Seed()));
  if (!options.report.empty()) {
    std::FILE* file = std::fopen(options.report.c_str(), "w");
    if (file == nullptr) {
      std::fprintf(stderr, "Cannot write %s: %s\n", options.report.c_str(), std::strerror(errno));
      return 2;
    }
    std::fprintf(file, "passed %d failed %d skipped %d\n%s", passed, failed, skipped, lines.c_str());
    std::fclose(file);
  }
  if (passed + failed + skipped == 0) {
    std::fprintf(stderr, "No test matches the filter\n");
    return 2;
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace cairn::test

int main(int argc, char** argv) { return cairn::test::Main(argc, argv); }
