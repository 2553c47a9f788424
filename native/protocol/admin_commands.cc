#include "protocol/admin_commands.h"

#include <string_view>

#include "protocol/text_parse.h"
#include "store/refusal.h"

namespace cairn {

namespace {

constexpr uint32_t kMegabytesMin = 8;
// Beyond it, memcached takes the number for one of bytes.
constexpr uint32_t kMegabytesMax = 1'000'000'000;

}  // namespace

Why RunShutdown(const TextRequest& line, Service* service, ByteBuffer* out) {
  std::string_view words = line.words;
  const std::string_view mode = NextWord(&words);
  Reply error = Reply::kShutdownNotEnabled;
  if (service->options().enable_shutdown) {
    const bool is_graceful = mode == "graceful" && NextWord(&words).empty();
    if (mode.empty() || is_graceful) {
      service->AskShutdown(is_graceful ? Service::Shutdown::kGraceful : Service::Shutdown::kPlain);
      return Why::kClosing;
    }
    error = Reply::kBadShutdownMode;
  }
  if (LastWord(line.words) != "noreply") out->Append(TextOf(error));
  return Why::kDone;
}

Reply RunMemlimit(const TextRequest& line, Store* store, const Now& now) {
  std::string_view words = line.words;
  uint32_t megabytes = 0;
  if (!ParseUint32(NextWord(&words), &megabytes)) return Reply::kError;
  if (megabytes < kMegabytesMin) return Reply::kMemlimitTooSmall;
  if (megabytes > kMegabytesMax) return Reply::kMemlimitNotMegabytes;
  const uint64_t memory_bytes = uint64_t{megabytes} << 20;
  Refusal refusal;
  if (!store->CheckResize(memory_bytes, &refusal)) return Reply::kMemlimitRefused;
  // The janitor does the rest of it.
  static_cast<void>(store->Resize(memory_bytes, 0, now));
  return Reply::kOk;
}

}  // namespace cairn
