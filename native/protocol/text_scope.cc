// TextDialect: what a line is about, which decides its order among requests that wait for answers from elsewhere.
#include "protocol/limits.h"
#include "protocol/meta_parse.h"
#include "protocol/text_dialect.h"
#include "protocol/text_parse.h"

namespace cairn {

namespace {

constexpr size_t kBlockEndBytes = 2;

void AddKeys(std::string_view words, Scope* scope) {
  scope->kind = Scope::Kind::kKeys;
  for (std::string_view key = NextWord(&words); !key.empty(); key = NextWord(&words)) scope->keys.push_back(key);
}

// They change no entry, and tell of none.
bool IsAboutNothing(Command command) {
  return command == Command::kMetaNoop || command == Command::kVersion || command == Command::kVerbosity ||
         command == Command::kQuit;
}

}  // namespace

void TextDialect::Look(const char* at, const char* end, Scope* scope) {
  const char* const newline = FindNewline(at, end);
  if (newline == nullptr) {
    scope->kind = Scope::Kind::kPart;
    return;
  }
  const char* const next = newline + 1;
  const std::string_view words(at, static_cast<size_t>(LineEnd(at, newline) - at));
  scope->bytes = static_cast<size_t>(next - at);
  if (place_.is_inside) return AddKeys(words, scope);
  TextRequest line;
  ParseTextLine(words, scope->bytes, &line);
  if (line.info != nullptr && line.info->shape == Shape::kMeta) {
    MetaLine meta;
    ParseMetaLine(line.info->command, line.words, &meta);
    line.has_error = meta.has_error;
    line.has_body = meta.has_body;
    line.body_bytes = meta.body_bytes;
    scope->decoded = meta.key;
    line.key = scope->decoded;
  }
  if (line.has_error) {
    // The block of a wrong line is discarded in pieces.
    scope->kind = line.has_body ? Scope::Kind::kAll : Scope::Kind::kNothing;
    return;
  }
  switch (line.info->shape) {
    case Shape::kWords:
      scope->kind = IsAboutNothing(line.info->command) ? Scope::Kind::kNothing : Scope::Kind::kAll;
      return;
    case Shape::kKeys:
    case Shape::kSecondsKeys:
      return AddKeys(line.words, scope);
    default:
      scope->kind = Scope::Kind::kKeys;
      scope->keys.push_back(line.key);
  }
  if (line.has_body) LookAtBlock(line.body_bytes, static_cast<size_t>(end - next), scope);
}

void TextDialect::LookAtBlock(uint32_t body_bytes, size_t bytes_there, Scope* scope) {
  const size_t block_bytes = size_t{body_bytes} + kBlockEndBytes;
  if (body_bytes > kBodyBufferedBytesMax) {
    scope->kind = Scope::Kind::kAll;
  } else if (bytes_there < block_bytes) {
    scope->kind = Scope::Kind::kPart;
    stream_->Need(scope->bytes + block_bytes);
  } else {
    scope->bytes += block_bytes;
  }
}

}  // namespace cairn
