// Runs a fuzz target without libFuzzer, so that any compiler can: each file or folder given is one input or many;
// then `-runs=N` inputs (default 20000) made from a seed, by changing given inputs or from nothing. It has no feedback
// from the code's paths: it finds shallow faults and replays known ones, libFuzzer finds the rest.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "test.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using cairn::test::Random;

std::vector<std::string> corpus;
const std::string* current = nullptr;

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

void AddInputs(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) {
    corpus.push_back(ReadFile(path));
    return;
  }
  std::vector<std::filesystem::path> files;
  for (const auto& file : std::filesystem::directory_iterator(path)) files.push_back(file.path());
  std::sort(files.begin(), files.end());  // the folder's order differs between machines; a seed must not
  for (const auto& file : files) corpus.push_back(ReadFile(file));
}

void SaveCurrent() {
  if (current == nullptr) return;
  std::ofstream("crash-input", std::ios::binary) << *current;
  std::fprintf(stderr, "the input is in crash-input (seed %llu)\n",
               static_cast<unsigned long long>(cairn::test::Seed()));
}

void OnAbort(int signal_number) {
  SaveCurrent();
  std::signal(signal_number, SIG_DFL);
  std::raise(signal_number);
}

void Run(const std::string& input) {
  current = &input;
  // A copy of exactly this size, so that a sanitizer sees a read past the end.
  const std::unique_ptr<uint8_t[]> bytes(new uint8_t[input.size()]);
  if (!input.empty()) std::memcpy(bytes.get(), input.data(), input.size());
  LLVMFuzzerTestOneInput(bytes.get(), input.size());
  current = nullptr;
}

std::string Mutate(Random& random) {
  std::string input = corpus.empty() ? random.Bytes(random.Below(200)) : corpus[random.Below(corpus.size())];
  for (uint64_t changes = 1 + random.Below(8); changes > 0; --changes) {
    const size_t at = input.empty() ? 0 : random.Below(input.size());
    switch (random.Below(5)) {
      case 0:
        if (!input.empty()) input[at] = static_cast<char>(random.Next());
        break;
      case 1:
        input.insert(at, random.Bytes(1 + random.Below(8)));
        break;
      case 2:
        input.erase(at, random.Below(16));
        break;
      case 3:
        input.insert(at, input.substr(at, random.Below(64)));
        break;
      default:
        if (!corpus.empty()) {
          const std::string& other = corpus[random.Below(corpus.size())];
          input.insert(at, other.substr(other.empty() ? 0 : random.Below(other.size())));
        }
    }
    if (input.size() > 64 * 1024) input.resize(64 * 1024);
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  uint64_t runs = 20000;
  const char* seed_text = std::getenv("CAIRN_SEED");
  uint64_t seed = seed_text != nullptr ? std::strtoull(seed_text, nullptr, 0) : std::random_device()();
  for (int i = 1; i < argc; ++i) {
    if (std::strncmp(argv[i], "-runs=", 6) == 0) {
      runs = std::strtoull(argv[i] + 6, nullptr, 0);
    } else if (std::strncmp(argv[i], "-seed=", 6) == 0) {
      seed = std::strtoull(argv[i] + 6, nullptr, 0);
    } else {
      AddInputs(argv[i]);
    }
  }
  cairn::test::CurrentState().seed = seed;
  std::signal(SIGABRT, OnAbort);
  std::signal(SIGSEGV, OnAbort);
  for (const std::string& input : corpus) Run(input);
  Random random(seed);
  for (uint64_t i = 0; i < runs; ++i) Run(Mutate(random));
  std::printf("%zu inputs and %llu made from seed %llu\n", corpus.size(), static_cast<unsigned long long>(runs),
              static_cast<unsigned long long>(seed));
  return 0;
}
