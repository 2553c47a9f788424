// Runs the store beside its model (model/harness.h) for as long as asked.
//
//   run_model [--seed N] [--seconds N] [--steps N] [--life-steps N] [--arena NAME] [--no-shrink]
//   run_model --arena NAME --life N --steps N [--keep LIST] [--print]      one life again
//
// A life is a store opened with drawn options, some thousand operations, and the store's end. Lives follow one another
// until the steps or the seconds are used up, whichever come first (with neither: 20 seconds, which is what
// `npm run check` runs under each sanitizer). On a failure, or when the process dies, the operations are cut down to a
// shorter sequence that still fails, and printed with the command that repeats it.
//
// At the end the run must have come to every interesting state at least once: see Coverage.

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#define CAIRN_MODEL_HAS_FORK 1
#endif

#include "model/harness.h"

namespace {

using namespace cairn;
using namespace cairn::model;

struct Arguments {
  uint64_t seed = 1;
  uint64_t steps = 0;
  uint64_t life_steps = 0;
  double seconds = 0;
  std::string arena;
  uint64_t life = 0;
  bool one_life = false;
  bool print = false;
  bool shrink = true;
  std::vector<uint64_t> keep;
  bool has_keep = false;
};

// Where a run is, for the parent process to report if the run dies.
struct Progress {
  char arena[16];
  uint64_t life;
  uint64_t step;
  uint64_t life_steps;
};

Progress local_progress;
Progress* progress = &local_progress;

std::vector<Op> OpsOf(const Life& life, uint64_t count) {
  Generator generator(life, life.seed);
  std::vector<Op> ops;
  for (uint64_t i = 0; i < count; ++i) ops.push_back(generator.Next());
  return ops;
}

// Runs these operations of a life. Empty, or what went wrong.
std::string RunOps(const Life& life, const std::vector<Op>& ops, const std::vector<uint64_t>& which, bool print,
                   Coverage* coverage) {
  Harness harness(life);
  for (uint64_t i : which) {
    progress->step = i;
    if (print) std::fprintf(stderr, "%6" PRIu64 "  %s\n", i, Describe(ops[i]).c_str());
    if (!harness.Step(ops[i])) return "step " + std::to_string(i) + ": " + harness.failure();
  }
  progress->step = ~uint64_t{0};
  if (!harness.Finish()) return "at the end: " + harness.failure();
  if (coverage != nullptr) coverage->Add(harness.coverage());
  return "";
}

std::vector<uint64_t> All(uint64_t count) {
  std::vector<uint64_t> which(count);
  for (uint64_t i = 0; i < count; ++i) which[i] = i;
  return which;
}

#if defined(CAIRN_MODEL_HAS_FORK)
std::string ListOf(const std::vector<uint64_t>& which) {
  std::string text;
  for (size_t i = 0; i < which.size();) {
    size_t end = i;
    while (end + 1 < which.size() && which[end + 1] == which[end] + 1) ++end;
    if (!text.empty()) text += ",";
    text += std::to_string(which[i]);
    if (end > i) text += "-" + std::to_string(which[end]);
    i = end + 1;
  }
  return text;
}

// Whether these operations still fail, found out in a child process.
bool Fails(const Life& life, const std::vector<Op>& ops, const std::vector<uint64_t>& which) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    std::freopen("/dev/null", "w", stderr);
    _exit(RunOps(life, ops, which, false, nullptr).empty() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// Leaves out parts, smaller and smaller, as long as the rest fails ("delta debugging": A. Zeller and R. Hildebrandt,
// "Simplifying and Isolating Failure-Inducing Input", IEEE TSE 2002).
std::vector<uint64_t> Shrink(const Life& life, const std::vector<Op>& ops, std::vector<uint64_t> which,
                             double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  for (size_t part = which.size() / 2; part >= 1;) {
    bool shorter = false;
    for (size_t at = 0; at < which.size() && std::chrono::steady_clock::now() < end;) {
      std::vector<uint64_t> rest(which.begin(), which.begin() + static_cast<ptrdiff_t>(at));
      const size_t behind = std::min(at + part, which.size());
      rest.insert(rest.end(), which.begin() + static_cast<ptrdiff_t>(behind), which.end());
      if (Fails(life, ops, rest)) {
        which = std::move(rest);
        shorter = true;
      } else {
        at += part;
      }
    }
    if (part == 1 && !shorter) break;
    part = std::min(part > 1 ? part / 2 : 1, std::max<size_t>(which.size() / 2, 1));
    if (std::chrono::steady_clock::now() >= end) break;
  }
  return which;
}
#endif

void Report(const Progress& at, const std::string& failure, const Arguments& arguments) {
  std::fprintf(stderr, "run_model failed in arena %s, life %" PRIu64 "\n  %s\n", at.arena, at.life, failure.c_str());
  uint64_t steps = at.step == ~uint64_t{0} ? at.life_steps : std::min(at.step + 1, at.life_steps);
  std::string keep;
#if defined(CAIRN_MODEL_HAS_FORK)
  if (arguments.shrink) {
    const Life life = DrawLife(at.arena, at.life);
    const std::vector<Op> ops = OpsOf(life, steps);
    const std::vector<uint64_t> which = Shrink(life, ops, All(steps), 60);
    keep = " --keep " + ListOf(which);
    std::fprintf(stderr, "shortest failing sequence found, %zu of %" PRIu64 " operations:\n", which.size(), steps);
    for (size_t i = 0; i < which.size() && i < 60; ++i) {
      std::fprintf(stderr, "%6" PRIu64 "  %s\n", which[i], Describe(ops[which[i]]).c_str());
    }
  }
#else
  static_cast<void>(arguments);
#endif
  std::fprintf(stderr, "repeat with: run_model --arena %s --life %" PRIu64 " --steps %" PRIu64 "%s\n", at.arena,
               at.life, steps, keep.c_str());
}

int RunLives(const Arguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  Coverage coverage;
  test::Random random(arguments.seed);
  for (uint64_t number = 0;; ++number) {
    if (arguments.steps != 0 && coverage.steps >= arguments.steps) break;
    // A slow build gets to less in its time: it goes on until every kind of event was met, or for five times as long.
    if (arguments.seconds != 0 && elapsed() >= arguments.seconds) {
      const bool complete = !arguments.arena.empty() || coverage.Missing(true).empty();
      if (complete || elapsed() >= 5 * arguments.seconds) break;
    }
    const std::string arena = !arguments.arena.empty() ? arguments.arena : kArenaNames[number % std::size(kArenaNames)];
    const uint64_t life_seed = random.Next() >> 16;
    const uint64_t life_steps = arguments.life_steps != 0 ? arguments.life_steps
                                                          : random.Between(200, arena == "small"   ? 50'000
                                                                                : arena == "drift" ? 20'000
                                                                                                   : 8000);
    std::snprintf(progress->arena, sizeof progress->arena, "%s", arena.c_str());
    progress->life = life_seed;
    progress->life_steps = life_steps;
    const Life life = DrawLife(arena, life_seed);
    const std::string failure = RunOps(life, OpsOf(life, life_steps), All(life_steps), false, &coverage);
    if (failure.empty()) continue;
    Report(*progress, failure, arguments);
    return 1;
  }
  std::printf("run_model: seed %" PRIu64 ", %.1f s\n%s\n", arguments.seed, elapsed(), coverage.Text().c_str());
  if (arguments.arena.empty() && coverage.steps >= 200'000) {
    const std::string missing = coverage.Missing(true);
    if (!missing.empty()) {
      std::fprintf(stderr, "the run never came to:%s\n", missing.c_str());
      return 1;
    }
  }
  return 0;
}

bool Parse(int argc, char** argv, Arguments* arguments) {
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--print") {
      arguments->print = true;
    } else if (name == "--no-shrink") {
      arguments->shrink = false;
    } else if (i + 1 == argc) {
      return false;
    } else if (const char* value = argv[++i]; name == "--seed") {
      arguments->seed = std::strtoull(value, nullptr, 0);
    } else if (name == "--steps") {
      arguments->steps = std::strtoull(value, nullptr, 0);
    } else if (name == "--life-steps") {
      arguments->life_steps = std::strtoull(value, nullptr, 0);
    } else if (name == "--seconds") {
      arguments->seconds = std::strtod(value, nullptr);
    } else if (name == "--arena") {
      arguments->arena = value;
    } else if (name == "--life") {
      arguments->life = std::strtoull(value, nullptr, 0);
      arguments->one_life = true;
    } else if (name == "--keep") {
      arguments->has_keep = true;
      for (const char* at = value; *at != '\0';) {
        char* end;
        const uint64_t first = std::strtoull(at, &end, 10);
        uint64_t last = first;
        if (*end == '-') last = std::strtoull(end + 1, &end, 10);
        for (uint64_t k = first; k <= last; ++k) arguments->keep.push_back(k);
        at = *end == ',' ? end + 1 : end;
        if (*end != ',' && *end != '\0') return false;
      }
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (!Parse(argc, argv, &arguments)) {
    std::fprintf(stderr, "See the top of run_model.cc for the arguments\n");
    return 2;
  }
  if (arguments.one_life) {
    const Life life = DrawLife(arguments.arena, arguments.life);
    const std::vector<Op> ops = OpsOf(life, arguments.steps);
    const std::string failure =
        RunOps(life, ops, arguments.has_keep ? arguments.keep : All(arguments.steps), arguments.print, nullptr);
    std::fprintf(stderr, "%s\n", failure.empty() ? "passed" : failure.c_str());
    return failure.empty() ? 0 : 1;
  }
  if (arguments.steps == 0 && arguments.seconds == 0) arguments.seconds = 20;
#if defined(CAIRN_MODEL_HAS_FORK)
  // The run is a child, so that its death can be looked into.
  void* shared = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared != MAP_FAILED) {
    progress = static_cast<Progress*>(shared);
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
      const int code = RunLives(arguments);
      std::fflush(nullptr);
      _exit(code);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) <= 2) return WEXITSTATUS(status);
    const Progress at = *progress;
    Report(at, "the process died at step " + std::to_string(at.step), arguments);
    return 1;
  }
#endif
  return RunLives(arguments);
}
