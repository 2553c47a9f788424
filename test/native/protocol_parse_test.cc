// Lines of the text protocol, as the parser reads them.

#include <string>

#include "protocol/exptime.h"
#include "protocol/limits.h"
#include "protocol/text_compose.h"
#include "protocol/text_parse.h"
#include "test.h"

namespace cairn {
namespace {

TextRequest Parse(std::string_view line) {
  TextRequest request;
  ParseTextLine(line, line.size() + 2, &request);
  return request;
}

TEST(ProtocolParse, EveryCommandIsFoundByItsNameAndByNothingElse) {
  for (const CommandInfo& info : kCommands) {
    ASSERT_TRUE(FindCommand(info.name) != nullptr) << info.name;
    EXPECT_EQ(FindCommand(info.name)->command, info.command);
    std::string longer = std::string(info.name) + "x";
    EXPECT_TRUE(FindCommand(longer) == nullptr) << longer;
    std::string upper = std::string(info.name);
    upper[0] = static_cast<char>(upper[0] - 32);
    EXPECT_TRUE(FindCommand(upper) == nullptr) << upper;
  }
  EXPECT_TRUE(FindCommand("") == nullptr);
  EXPECT_TRUE(FindCommand("g") == nullptr);
  EXPECT_TRUE(FindCommand("ge") == nullptr);
}

TEST(ProtocolParse, OnlyBlanksSeparateWords) {
  std::string_view words = "  one\ttwo   three ";
  EXPECT_EQ(NextWord(&words), "one\ttwo");
  EXPECT_EQ(NextWord(&words), "three");
  EXPECT_EQ(NextWord(&words), "");
  EXPECT_EQ(LastWord("a b  c  "), "c");
  EXPECT_EQ(LastWord("   "), "");
  EXPECT_EQ(LastWord("one"), "one");
}

TEST(ProtocolParse, NumbersAreDigitsWithinTheirBounds) {
  uint64_t number = 7;
  EXPECT_TRUE(ParseUint64("18446744073709551615", &number));
  EXPECT_EQ(number, UINT64_MAX);
  EXPECT_TRUE(ParseUint64("000000000000000000000000001", &number));
  EXPECT_EQ(number, 1);
  for (std::string_view word :
       {"", "18446744073709551616", "99999999999999999999", "-1", "+1", "1x", "0x1", "1.5", " 1"}) {
    EXPECT_FALSE(ParseUint64(word, &number)) << word;
  }
  uint32_t small = 0;
  EXPECT_TRUE(ParseUint32("4294967295", &small));
  EXPECT_EQ(small, UINT32_MAX);
  EXPECT_FALSE(ParseUint32("4294967296", &small));
  EXPECT_FALSE(ParseUint32("18446744073709551617", &small));
  int32_t seconds = 0;
  EXPECT_TRUE(ParseInt32("-2147483648", &seconds));
  EXPECT_EQ(seconds, INT32_MIN);
  EXPECT_TRUE(ParseInt32("+5", &seconds));
  EXPECT_EQ(seconds, 5);
  for (std::string_view word : {"2147483648", "-2147483649", "-", "+", "--1", "1.5", "4294967297"}) {
    EXPECT_FALSE(ParseInt32(word, &seconds)) << word;
  }
}

TEST(ProtocolParse, AStorageLineGivesItsFields) {
  TextRequest request = Parse("cas key 7 -1 12 99 noreply");
  ASSERT_TRUE(request.info != nullptr);
  EXPECT_FALSE(request.has_error);
  EXPECT_EQ(request.info->command, Command::kCas);
  EXPECT_EQ(request.key, "key");
  EXPECT_EQ(request.client_flags, 7);
  EXPECT_EQ(request.seconds, -1);
  EXPECT_TRUE(request.has_body);
  EXPECT_EQ(request.body_bytes, 12);
  EXPECT_EQ(request.number, 99);
  EXPECT_TRUE(request.no_reply);
}

TEST(ProtocolParse, ABlockIsAnnouncedOnlyByALengthThatCanBeRead) {
  EXPECT_TRUE(Parse("set k x 0 5").has_body);
  EXPECT_TRUE(Parse("set k 0 x 5").has_body);
  EXPECT_TRUE(Parse("set " + std::string(251, 'k') + " 0 0 5").has_body);
  EXPECT_TRUE(Parse("cas k 0 0 5").has_body);
  EXPECT_TRUE(Parse("set k 0 0 2147483645").has_body);
  for (std::string_view line : {"set k 0 0 -1", "set k 0 0 +1", "set k 0 0 x", "set k 0 0 2147483646", "set k 0 0",
                                "set k 0 0 4294967297", "set k", "set"}) {
    TextRequest request = Parse(line);
    EXPECT_FALSE(request.has_body) << line;
    EXPECT_TRUE(request.has_error) << line;
  }
}

TEST(ProtocolParse, NoreplyIsTheLastWordButNeverTheKey) {
  EXPECT_TRUE(Parse("set k 0 0 1 noreply").no_reply);
  EXPECT_TRUE(Parse("set k 0 0 1 x noreply  ").no_reply);
  EXPECT_FALSE(Parse("set k 0 0 1 noreply x").no_reply);
  EXPECT_FALSE(Parse("set k 0 0 1 NoReply").no_reply);
  EXPECT_FALSE(Parse("set noreply 0 0 1").no_reply);
  EXPECT_FALSE(Parse("delete noreply").no_reply);
  EXPECT_TRUE(Parse("delete noreply noreply").no_reply);
  EXPECT_TRUE(Parse("touch k noreply").no_reply);
  EXPECT_TRUE(Parse("bogus noreply").no_reply);
  EXPECT_TRUE(Parse("noreply").no_reply);
}

TEST(ProtocolParse, LinesOfLessThanFourBytesAreInBadFormat) {
  for (std::string_view line : {"", "a", "\r"}) {
    TextRequest request;
    ParseTextLine(line, line.size() + 1, &request);
    EXPECT_TRUE(request.has_error);
    EXPECT_EQ(request.error, Reply::kBadFormat);
  }
  EXPECT_EQ(Parse("ab").error, Reply::kError);
}

TEST(ProtocolParse, HttpIsTheLastOfSeveralWords) {
  EXPECT_TRUE(Parse("GET / HTTP/1.1").is_http);
  EXPECT_FALSE(Parse("HTTP/1.1").is_http);
  EXPECT_FALSE(Parse("bogus HTTP/1.1 x").is_http);
  EXPECT_FALSE(Parse("bogus http/1.1").is_http);
  EXPECT_FALSE(Parse("get / HTTP/1.1").is_http);
}

TEST(ProtocolParse, EveryPrefixAndEveryFlippedByteOfEveryCommandIsReadToSomething) {
  for (std::string_view line :
       {"get a b", "gats 100 a b", "set key 1 2 3 noreply", "cas key 1 2 3 4 noreply", "incr key 1 noreply",
        "touch key 10", "delete key 0 noreply", "flush_all 10 noreply", "stats settings", "verbosity 1"}) {
    for (size_t length = 0; length <= line.size(); length++) {
      TextRequest request = Parse(std::string(line.substr(0, length)));
      EXPECT_TRUE(request.has_error || request.info != nullptr);
    }
    for (size_t i = 0; i < line.size(); i++) {
      for (int byte = 0; byte < 256; byte++) {
        std::string flipped(line);
        flipped[i] = static_cast<char>(byte);
        TextRequest request = Parse(flipped);
        EXPECT_TRUE(request.has_error || request.info != nullptr);
        if (!request.has_error) {
          EXPECT_LE(request.key.size(), kKeyBytesInlineMax);
        }
      }
    }
  }
}

TEST(ProtocolParse, SecondsAreRelativeUpToThirtyDaysAndUnixTimeAbove) {
  const Now now{5'000'000, 1'700'000'000'000};
  EXPECT_EQ(ExpiryOfSeconds(0, now), kNeverExpires);
  EXPECT_EQ(ExpiryOfSeconds(-1, now), kAlreadyExpired);
  EXPECT_EQ(ExpiryOfSeconds(INT32_MIN, now), kAlreadyExpired);
  EXPECT_EQ(ExpiryOfSeconds(1, now), 5'001'000);
  EXPECT_EQ(ExpiryOfSeconds(2'592'000, now), 5'000'000 + uint64_t{2'592'000} * 1000);
  EXPECT_EQ(ExpiryOfSeconds(2'592'001, now), kAlreadyExpired);
  EXPECT_EQ(ExpiryOfSeconds(1'700'000'000, now), kAlreadyExpired);
  EXPECT_EQ(ExpiryOfSeconds(1'700'000'001, now), 5'001'000);
  EXPECT_EQ(ExpiryOfSeconds(INT32_MAX, now), 5'000'000 + (uint64_t{INT32_MAX} * 1000 - 1'700'000'000'000));
}

TEST(ProtocolCompose, TheLongestValueLineFitsItsBound) {
  std::string key(kKeyBytesInlineMax, 'k');
  char line[kValueLineBytesMax];
  EXPECT_EQ(WriteValueLine({key, UINT32_MAX, UINT32_MAX, UINT64_MAX}, line), kValueLineBytesMax);
  EXPECT_EQ(std::string_view(line, kValueLineBytesMax),
            "VALUE " + key + " 4294967295 4294967295 18446744073709551615\r\n");
  EXPECT_EQ(std::string_view(line, WriteValueLine({"a", 0, 9, 0}, line)), "VALUE a 0 9\r\n");
  EXPECT_EQ(std::string_view(line, WriteValueLine({"a", 10, 0, 5}, line)), "VALUE a 10 0 5\r\n");
}

}  // namespace
}  // namespace cairn
