// getMany, setMany and deleteMany: one native call, and one lock per shard, for up to kChunkKeysMax keys; and the
// packed form, in which keys and values are in two buffers and no JavaScript value is made per key.
#pragma once

#include <napi.h>

namespace cairn {

void InitManyBinding(Napi::Env env, Napi::Object exports);

}  // namespace cairn
