#include "store/debts.h"

#include <algorithm>

namespace cairn {

uint64_t Debts::MarkByKey(const EntryHeader* entry) const {
  char prefix[kKeyBytesMax];
  const size_t bytes = std::min(KeyBytesOf(entry), backends_->prefix_bytes_max());
  memory_->ReadStream(entry, 0, prefix, bytes);
  return backends_->For({prefix, bytes})->marks()->Mark(shard_);
}

StubInfo Debts::StubFor(const EntryHeader* entry, bool recovering) const {
  StubInfo info;
  const bool owes_value = OwesValue(entry);
  info.kind = owes_value ? StubKind::kValue : StubKind::kExpiry;
  info.value_version = owes_value ? entry->version : 0;
  // The version of this touch is not kept: that of the shard's newest one is not lower. While a log is read back, a
  // version that is too high would keep the key's later records out; until recovery has ended no mark frees a stub.
  const bool retimed = !recovering && (entry->flags & kEntryRetimed) != 0;
  info.newest_version = retimed ? std::max(entry->version, state_->newest_touch) : entry->version;
  info.expires_ms = ExpiresMsOf(entry);
  info.fresh_until_ms = FreshUntilOf(entry);
  return info;
}

StubInfo Debts::InfoOf(const EntryHeader* stub) const {
  StubInfo info;
  info.kind = KindOfStub(stub);
  memory_->ReadStream(stub, KeyBytesOf(stub), reinterpret_cast<char*>(&info.value_version), kStubValueBytes);
  info.newest_version = stub->version;
  info.expires_ms = ExpiresMsOf(stub);
  info.fresh_until_ms = FreshUntilOf(stub);
  if (info.kind == StubKind::kValue && (info.value_version <= MarkOf(stub) || IsStored(stub))) {
    info.kind = StubKind::kExpiry;
    info.value_version = 0;
  }
  return info;
}

bool Debts::ForgetStoredValue(EntryHeader* stub) {
  const StubInfo info = InfoOf(stub);
  if (info.kind == KindOfStub(stub)) return false;
  Write(stub, info);
  return true;
}

NewEntry Debts::StubEntryOf(std::string_view key, const StubInfo& info) {
  NewEntry stub;
  stub.key = key;
  stub.value_bytes = kStubValueBytes;
  stub.codec = static_cast<Codec>(info.kind);
  stub.expires_ms = info.expires_ms;
  stub.fresh_until_ms = info.fresh_until_ms;
  stub.extra_flags = kEntryStub;
  return stub;
}

void Debts::Write(EntryHeader* stub, const StubInfo& info) {
  stub->flags &= static_cast<uint16_t>(~(kEntryCodecMask | kEntryOwed | kEntryRetimed | kEntryNegative));
  stub->flags |= static_cast<uint16_t>(kEntryStub | static_cast<uint16_t>(info.kind));
  stub->version = info.newest_version;
  memory_->WriteStream(stub, KeyBytesOf(stub), reinterpret_cast<const char*>(&info.value_version), kStubValueBytes);
}

void Debts::Came(Ref stub) {
  stubs_.PushFront(stub);
  state_->stub_count++;
  state_->stub_bytes += memory_->ChargeOf(At(stub), stub);
}

void Debts::Went(Ref stub) {
  stubs_.Unlink(stub);
  state_->stub_count--;
  state_->stub_bytes -= memory_->ChargeOf(At(stub), stub);
  state_->unvisited = std::min(state_->unvisited, state_->stub_count);
}

Ref Debts::NextStored(int* budget) {
  const uint64_t marks = Marks();
  if (state_->seen_marks != marks) {
    state_->seen_marks = marks;
    state_->unvisited = state_->stub_count;
  }
  while (state_->unvisited != 0 && *budget > 0) {
    --*budget;
    state_->unvisited--;
    const Ref oldest = stubs_.tail();
    if (IsStored(At(oldest))) return oldest;
    // Entries leave memory in another order than that of their versions: the others wait behind the newest.
    stubs_.MoveToFront(oldest);
  }
  return 0;
}

}  // namespace cairn
