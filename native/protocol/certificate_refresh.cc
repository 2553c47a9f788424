#include "protocol/certificate_refresh.h"

namespace cairn {

uint64_t CertificateRefresh::Begin(std::string_view, const Now&) {
  uint64_t load;
  {
    OsLockGuard guard(&lock_);
    if (asked_ == taken_) asked_++;
    load = asked_;
  }
  if (owner_ != nullptr) owner_->Wake();
  return load;
}

ReadThrough::Load CertificateRefresh::Poll(uint64_t load) {
  OsLockGuard guard(&lock_);
  return answered_ >= load ? Load::kLoaded : Load::kPending;
}

bool CertificateRefresh::Take() {
  OsLockGuard guard(&lock_);
  if (asked_ == taken_) return false;
  taken_ = asked_;
  return true;
}

void CertificateRefresh::Answer(std::string_view line) {
  {
    OsLockGuard guard(&lock_);
    answered_ = taken_;
    line_ = line;
  }
  WakeAll();
}

std::string CertificateRefresh::line() {
  OsLockGuard guard(&lock_);
  return line_;
}

}  // namespace cairn
