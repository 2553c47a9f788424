// What clients send that have to log in -> sessions over a tiny real store. The input is a list of instructions: each
// adds a line, a token or a packet that is nearly right, or bytes of the input as they are, and says where what has
// gathered is cut. Half the servers have no account: whatever their clients send, nothing is executed, and every reply
// is one that a client without a login may get. The others have one that instructions know, so that what follows a
// login is reached, too.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>

#include "base/check.h"
#include "support/binary_packet.h"
#include "support/protocol_client.h"

namespace {

using cairn::Login;
using cairn::Session;
using cairn::test::NumberAt;
using cairn::test::PacketOf;
using cairn::test::ProtocolClient;
using cairn::test::ProtocolServer;
using cairn::test::StorePacket;

// Reads the input byte by byte; zeros behind its end.
class Instructions {
 public:
  Instructions(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
  bool done() const { return at_ == end_; }
  unsigned Next() { return done() ? 0 : *at_++; }
  std::string Bytes(size_t count) {
    count = std::min(count, static_cast<size_t>(end_ - at_));
    const std::string bytes(reinterpret_cast<const char*>(at_), count);
    at_ += count;
    return bytes;
  }

 private:
  const uint8_t* at_;
  const uint8_t* const end_;
};

std::string TextOf(Instructions* from) {
  constexpr std::string_view kPieces[] = {"set a 0 0 3\r\nu p\r\n",
                                          "set a 0 0 5\r\nu wro\r\n",
                                          "set a 0 0 3 noreply\r\n",
                                          "set a 0 0 16384\r\n",
                                          "set a 0 0 16385\r\n",
                                          "set a 0 0 4294967295\r\n",
                                          "set  a  0 0 1\n",
                                          "u p",
                                          "\r\n",
                                          "\n",
                                          "get a\r\n",
                                          "flush_all\r\n",
                                          "ms a 1 \r\nx\r\n",
                                          "set a 0 0 1\r\nx\r\n",
                                          "ab\r\n",
                                          "set a 0 0 x\r\n",
                                          "set a 0 0 3\r\nu p\r\r\n"};
  const unsigned choice = from->Next();
  if (choice % 8 == 7) return from->Bytes(choice / 8);
  if (choice % 64 == 6) return std::string(size_t{16} * choice, 'x');
  return std::string(kPieces[choice % std::size(kPieces)]);
}

std::string SaslOf(Instructions* from) {
  constexpr uint8_t kOpcodes[] = {0x20, 0x21, 0x22, 0x21, 0x22, 0x0b, 0x0a, 0x01, 0x00};
  constexpr std::string_view kMechanisms[] = {"PLAIN", "plain", "", "FOO"};
  constexpr std::string_view kMessages[] = {{"\0u\0p", 4}, {"u\0u\0p", 5}, {"\0u\0q", 4}, {"", 0},
                                            {"\0\0p", 3},  {"x\0u\0p", 5}, {"\0u", 2}};
  const unsigned choice = from->Next();
  if (choice % 16 == 15) return from->Bytes(choice / 16);
  const uint8_t opcode = kOpcodes[choice % std::size(kOpcodes)];
  const unsigned shape = from->Next();
  std::string key(kMechanisms[shape % std::size(kMechanisms)]);
  std::string value(kMessages[shape / 4 % std::size(kMessages)]);
  if (shape % 64 == 63) key.assign(from->Next(), 'X');
  if (shape % 64 == 62) value.assign(size_t{100} * from->Next(), 'p');
  if (opcode == 0x20 || opcode == 0x0b || opcode == 0x0a) key = value = "";
  std::string packet =
      opcode == 0x01 ? StorePacket(opcode, "k", value) : PacketOf(opcode, {.key = key, .value = value});
  if (shape % 32 == 3) packet[from->Next() % 24] = static_cast<char>(from->Next());
  return packet;
}

void CheckText(std::string_view reply) {
  constexpr std::string_view kReplies[] = {
      "CLIENT_ERROR unauthenticated\r\n", "CLIENT_ERROR authentication failure\r\n",
      "CLIENT_ERROR bad authentication token format\r\n", "CLIENT_ERROR bad command line termination\r\n",
      "CLIENT_ERROR auth token too long\r\n"};
  while (!reply.empty()) {
    const auto* line = std::find_if(std::begin(kReplies), std::end(kReplies),
                                    [reply](std::string_view each) { return reply.starts_with(each); });
    CHECK(line != std::end(kReplies));
    reply.remove_prefix(line->size());
  }
}

// Success is only the list, the version, and the question for a password.
void CheckSasl(std::string_view replies) {
  while (!replies.empty()) {
    const auto opcode = static_cast<unsigned char>(replies[1]);
    const uint64_t status = NumberAt(replies, 6, 2);
    CHECK(status != 0 || opcode == 0x20 || opcode == 0x0b);
    CHECK(status != 0x21 || opcode == 0x21);
    replies.remove_prefix(24 + NumberAt(replies, 8, 4));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Instructions instructions(data, size);
  const unsigned kind = instructions.Next();
  const bool is_text = kind % 2 == 0;
  const bool has_account = kind / 2 % 2 == 1;
  cairn::Service::Options options = ProtocolServer::DefaultOptions();
  options.login = is_text ? Login::kText : Login::kSasl;
  ProtocolServer server(options);
  if (has_account) server.service()->authentication()->Replace("u:p\n");
  auto client = std::make_unique<ProtocolClient>(&server);
  std::string sent;  // and not fed yet
  while (!instructions.done()) {
    sent += is_text ? TextOf(&instructions) : SaslOf(&instructions);
    const unsigned chance = instructions.Next();
    if (chance % 3 == 0 && !instructions.done()) continue;
    const size_t cut = chance % 3 == 1 ? sent.size() : sent.size() * (chance % 32) / 32;
    const std::string reply = client->Send(std::string_view(sent).substr(0, cut));
    sent.erase(0, cut);
    if (!has_account) is_text ? CheckText(reply) : CheckSasl(reply);
    if (client->next != Session::Next::kClose) continue;
    client = std::make_unique<ProtocolClient>(&server);
    sent.clear();
  }
  if (!has_account) {
    CHECK(server.store()->Stats().entries == 0);
    CHECK(server.service()->ReadCounters()[cairn::Counter::kFlushes] == 0);
    const auto counters = server.service()->ReadCounters();
    CHECK(counters[cairn::Counter::kLogins] == counters[cairn::Counter::kLoginsFailed]);
  }
  return 0;
}
