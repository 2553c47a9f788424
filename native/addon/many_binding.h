// getMany, setMany and deleteMany: one native call, and one lock per shard, for up to kChunkKeysMax keys at a time; and
// the packed form, where keys and values lie in two buffers and no JavaScript value is made per key.
#pragma once

#include <napi.h>

namespace cairn {

void InitManyBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
