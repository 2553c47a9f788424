// Who may use a port whose clients have to log in: names and passwords, and whether a client has given one of them.
//
//   kText    -Y: the client begins with `set KEY FLAGS TIME BYTES`, and a block of `USER PASSWORD` (text_login.h)
//   kSasl    -S: SASL of the binary protocol, with the mechanism PLAIN (binary_sasl.cc)
//
// Thread safety: any thread may call any method. Replace() takes effect for the logins that follow it; clients that
// have logged in stay so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/os.h"
#include "base/thread_annotations.h"

namespace cairn {

// How clients log in.
enum class Login : uint8_t { kNone, kText, kSasl };

// A name with a password.
struct Account {
  std::string_view user;
  std::string_view password;
};

// Accounts, as they were read from a file.
class Accounts {
 public:
  // `lines`: `USER:PASSWORD` and a line feed, each. The name ends at the first colon; lines without one are skipped.
  explicit Accounts(std::string lines);
  Accounts(const Accounts&) = delete;
  Accounts& operator=(const Accounts&) = delete;

  // Whether one of them has this name and this password. Takes a time that depends on what is given and on the number
  // of accounts, and not on where the two differ.
  bool Has(const Account& given) const;
  size_t size() const { return accounts_.size(); }

 private:
  const std::string lines_;
  std::vector<Account> accounts_;  // views into lines_
};

class Authentication {
 public:
  // Without accounts, which no client can log in to.
  explicit Authentication(Login login) : login_(login) {}

  Login login() const { return login_; }
  // Takes these accounts, see Accounts, in the place of the former ones.
  void Replace(std::string lines);
  bool Allows(const Account& given);

 private:
  const Login login_;
  OsLock lock_;
  std::shared_ptr<const Accounts> accounts_ GUARDED_BY(lock_) = std::make_shared<const Accounts>("");
};

// Reads the block of a login in the text protocol, `USER PASSWORD`: the name ends at the first blank, and the password
// has all that follows. False: it has no blank.
[[nodiscard]] bool ReadToken(std::string_view block, Account* account);

// Reads a message of PLAIN (RFC 4616): `[IDENTITY] NUL USER NUL PASSWORD`. False: it is malformed, one of user and
// password is empty, or the identity is another than the user.
[[nodiscard]] bool ReadPlain(std::string_view message, Account* account);

}  // namespace cairn
