#include "protocol/event_lines.h"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace cairn {

namespace {

// The longest address of a client: that of IPv6 with a zone.
constexpr size_t kAddressBytesMax = 128;

// A line being written.
class Line {
 public:
  explicit Line(char* to) : at_(to) {}
  char* end() const { return at_; }

  Line& Put(std::string_view text) {
    std::memcpy(at_, text.data(), text.size());
    at_ += text.size();
    return *this;
  }
  template <class Number>
  Line& PutNumber(Number number) {
    at_ = std::to_chars(at_, at_ + 20, number).ptr;
    return *this;
  }
  Line& PutKey(std::string_view key, const KeyDisplay& keys) {
    at_ = keys.Write(key, at_);
    return *this;
  }
  // With six places behind the point, as of microseconds.
  Line& PutSeconds(int64_t ms) {
    PutNumber(ms / 1000).Put(".");
    const auto rest = static_cast<uint32_t>(ms % 1000);
    const char digits[] = {static_cast<char>('0' + rest / 100), static_cast<char>('0' + rest / 10 % 10),
                           static_cast<char>('0' + rest % 10)};
    return Put({digits, sizeof digits}).Put("000");
  }

 private:
  char* at_;
};

std::string_view TypeOf(Event::Kind kind) {
  switch (kind) {
    case Event::Kind::kItemGet:
      return "item_get";
    case Event::Kind::kItemStore:
      return "item_store";
    case Event::Kind::kEviction:
      return "eviction";
    case Event::Kind::kDeleted:
      return "deleted";
    case Event::Kind::kConnected:
      return "conn_new";
    case Event::Kind::kDisconnected:
      break;
  }
  return "conn_close";
}

std::string_view StoreStatus(Status status) {
  switch (status) {
    case Status::kStored:
      return "stored";
    case Status::kExists:
      return "exists";
    case Status::kNotFound:
      return "not_found";
    case Status::kTooLarge:
      return "too_large";
    case Status::kNoMemory:
      return "no_memory";
    default:
      break;
  }
  return "not_stored";
}

std::string_view CommandOf(Verb verb) {
  switch (verb) {
    case Verb::kAdd:
      return "add";
    case Verb::kReplace:
      return "replace";
    case Verb::kAppend:
      return "append";
    case Verb::kPrepend:
      return "prepend";
    case Verb::kCas:
      return "cas";
    default:
      break;
  }
  return "set";
}

std::string_view ReasonOf(CloseReason reason) {
  switch (reason) {
    case CloseReason::kNormal:
      return "normal";
    case CloseReason::kIdleTimeout:
      return "idle_timeout";
    case CloseReason::kError:
      break;
  }
  return "error";
}

// The end of a client, which is tcp:ADDRESS:PORT, tcp6:[ADDRESS]:PORT, or unix:.
void PutPeer(std::string_view name, Line* line) {
  std::string_view address = "unix";
  std::string_view port = "0";
  std::string_view transport = "local";
  const size_t colon = name.find(':');
  const size_t port_colon = name.rfind(':');
  if (name.starts_with("tcp") && colon < port_colon) {
    address = name.substr(colon + 1, port_colon - colon - 1);
    if (address.size() >= 2 && address.front() == '[') address = address.substr(1, address.size() - 2);
    port = name.substr(port_colon + 1, 5);
    transport = "tcp";
  }
  line->Put(" rip=").Put(address.substr(0, kAddressBytesMax)).Put(" rport=").Put(port);
  line->Put(" transport=").Put(transport);
}

}  // namespace

char* WriteEventLine(const Event& event, std::string_view text, const KeyDisplay& keys, char* to) {
  const std::string_view class_number =
      event.kind == Event::Kind::kItemStore || event.status == Status::kFound ? " clsid=1 cfd=" : " clsid=0 cfd=";
  Line line(to);
  line.Put("ts=").PutSeconds(event.wall_ms).Put(" gid=").PutNumber(event.number);
  line.Put(" type=").Put(TypeOf(event.kind));
  switch (event.kind) {
    case Event::Kind::kItemGet:
      line.Put(" key=").PutKey(text, keys);
      line.Put(event.status == Status::kFound ? " status=found" : " status=not_found");
      line.Put(class_number).PutNumber(event.client).Put(" size=").PutNumber(event.value_bytes);
      break;
    case Event::Kind::kItemStore:
      line.Put(" key=").PutKey(text, keys);
      line.Put(" status=").Put(StoreStatus(event.status)).Put(" cmd=").Put(CommandOf(event.verb));
      line.Put(" ttl=").PutNumber(event.ttl_s);
      line.Put(class_number).PutNumber(event.client).Put(" size=").PutNumber(event.value_bytes);
      break;
    case Event::Kind::kEviction:
      line.Put(" key=").PutKey(text, keys);
      line.Put(event.is_fetched ? " fetch=yes" : " fetch=no").Put(" ttl=").PutNumber(event.ttl_s);
      line.Put(" la=").PutNumber(event.idle_s).Put(" clsid=1 size=").PutNumber(event.value_bytes);
      break;
    case Event::Kind::kDeleted:
      line.Put(" key=").PutKey(text, keys);
      line.Put(event.is_meta ? " cmd=md" : " cmd=delete").Put(" clsid=1 size=").PutNumber(event.value_bytes);
      break;
    case Event::Kind::kConnected:
    case Event::Kind::kDisconnected:
      PutPeer(text, &line);
      if (event.kind == Event::Kind::kDisconnected) line.Put(" reason=").Put(ReasonOf(event.reason));
      line.Put(" cfd=").PutNumber(event.client);
      break;
  }
  return line.Put("\n").end();
}

char* WriteSkippedLine(uint64_t count, char* to) {
  Line line(to);
  return line.Put("skipped=").PutNumber(count).Put("\n").end();
}

}  // namespace cairn
