// What a check of test.h does when it fails, and death tests.

#include "test.h"

#include <cstdio>

#if defined(CAIRN_TEST_HAS_FORK_)
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace cairn::test {

Message::Message() : stream_(std::make_unique<std::ostringstream>()) {}
Message::~Message() = default;
std::string Message::text() const { return stream_->str(); }

std::string ShowBytes(std::string_view bytes) {
  std::string out = "\"";
  for (unsigned char c : bytes.substr(0, 400)) {
    char escaped[8];
    if (c == '\\' || c == '"') {
      std::snprintf(escaped, sizeof escaped, "\\%c", c);
    } else if (c == '\r' || c == '\n') {
      std::snprintf(escaped, sizeof escaped, c == '\r' ? "\\r" : "\\n");
    } else {
      std::snprintf(escaped, sizeof escaped, c < 32 || c > 126 ? "\\x%02x" : "%c", c);
    }
    out += escaped;
  }
  out += '"';
  if (bytes.size() > 400) out += " (" + std::to_string(bytes.size()) + " bytes)";
  return out;
}

std::string ShowInteger(long long value) { return std::to_string(value); }
std::string ShowInteger(unsigned long long value) { return std::to_string(value); }

Outcome Failed(std::string text) { return {new std::string(std::move(text))}; }

Outcome FailedComparison(const char* a_text, const char* op, const char* b_text, std::string a, std::string b) {
  return Failed(std::string("expected ") + a_text + " " + op + " " + b_text + ", got " + a + " and " + b);
}

Outcome FailedTruth(const char* text, bool expected) {
  return Failed(std::string("expected ") + text + " to be " + (expected ? "true" : "false"));
}

void Reporter::operator=(const Message& message) const {
  CurrentState().failure_count.fetch_add(1, std::memory_order_relaxed);
  const std::string more = message.text();
  std::fprintf(stderr, "%s:%d: %s%s%s\n", file, line, outcome.failure->c_str(), more.empty() ? "" : ": ", more.c_str());
  delete outcome.failure;
}

#if defined(CAIRN_TEST_HAS_FORK_)
Outcome DiesWith(const char* statement_text, std::string_view text, const std::function<void()>& statement) {
  int ends[2];
  if (pipe(ends) != 0) return Failed("no pipe");
  std::fflush(stdout);
  std::fflush(stderr);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    dup2(ends[1], STDERR_FILENO);
    std::signal(SIGABRT, SIG_DFL);
    statement();
    _exit(0);
  }
  close(ends[1]);
  std::string output;
  char buffer[512];
  for (ssize_t count; (count = read(ends[0], buffer, sizeof buffer)) > 0;) {
    output.append(buffer, static_cast<size_t>(count));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
    return Failed(std::string("expected to die: ") + statement_text);
  }
  if (output.find(text) == std::string::npos) {
    return Failed("expected the dying words to hold " + ShowBytes(text) + ", got " + ShowBytes(output));
  }
  return {};
}
#endif

}  // namespace cairn::test
