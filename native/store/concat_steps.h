// An append or prepend that would copy more than kConcatCopiedBytesMax under one hold of the lock is done in steps:
//
//   Shard::Concat()      makes room, if need be by several calls, and takes a body slot
//   Shard::CopyConcat()  copies a part of the old value; Bodies::Write() writes the added bytes
//   Shard::EndConcat()   puts the body in the place of the old entry
//
// False from CopyConcat() or EndConcat(): the entry has changed. The caller abandons the slot and begins again.
#pragma once

#include <cstdint>

namespace cairn {

// How far the steps are.
struct ConcatSteps {
  int slot = 0;              // 0: it is done, *outcome says how; unless
  bool wants_room = false;   // another call is to go on making room
  bool room_in_one = false;  // given: no, this one makes all of it
  uint64_t version = 0;
  uint32_t old_bytes = 0;
};

}  // namespace cairn
