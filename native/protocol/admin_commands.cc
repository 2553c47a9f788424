#include "protocol/admin_commands.h"

#include <string_view>

#include "protocol/response.h"
#include "protocol/text_parse.h"

namespace cairn {

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

}  // namespace cairn
