#include "protocol/authentication.h"

#include <algorithm>
#include <utility>

#include "protocol/limits.h"

namespace cairn {

namespace {

// 0 if the two are equal. Looks at every byte of `given` and takes no branch on what it finds; the length of `kept` is
// clamped, not tested.
unsigned Difference(std::string_view given, std::string_view kept) {
  unsigned difference = given.size() == kept.size() ? 0 : 1;
  if (kept.empty()) return difference;
  const size_t last = kept.size() - 1;
  for (size_t i = 0; i < given.size(); i++) {
    difference |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(kept[std::min(i, last)]);
  }
  return difference;
}

}  // namespace

Accounts::Accounts(std::string lines) : lines_(std::move(lines)) {
  std::string_view rest = lines_;
  while (!rest.empty()) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    accounts_.push_back({line.substr(0, colon), line.substr(colon + 1)});
  }
}

bool Accounts::Has(const Account& given) const {
  if (given.user.size() + given.password.size() > kAccountBytesMax) return false;
  unsigned is_found = 0;
  for (const Account& account : accounts_) {
    const unsigned difference = Difference(given.user, account.user) | Difference(given.password, account.password);
    is_found |= difference == 0 ? 1 : 0;
  }
  return is_found != 0;
}

void Authentication::Replace(std::string lines) {
  auto accounts = std::make_shared<const Accounts>(std::move(lines));
  // The former ones are freed without the lock.
  OsLockGuard guard(&lock_);
  accounts_.swap(accounts);
}

bool Authentication::Allows(const Account& given) {
  std::shared_ptr<const Accounts> accounts;
  {
    OsLockGuard guard(&lock_);
    accounts = accounts_;
  }
  return accounts->Has(given);
}

bool ReadToken(std::string_view block, Account* account) {
  const size_t blank = block.find(' ');
  if (blank == std::string_view::npos) return false;
  *account = {block.substr(0, blank), block.substr(blank + 1)};
  return true;
}

bool ReadPlain(std::string_view message, Account* account) {
  const size_t first = message.find('\0');
  if (first == std::string_view::npos) return false;
  const std::string_view identity = message.substr(0, first);
  message.remove_prefix(first + 1);
  const size_t second = message.find('\0');
  if (second == std::string_view::npos) return false;
  *account = {message.substr(0, second), message.substr(second + 1)};
  if (account->user.empty() || account->password.empty()) return false;
  if (account->password.find('\0') != std::string_view::npos) return false;
  return identity.empty() || identity == account->user;
}

}  // namespace cairn
