// getMany, setMany and deleteMany: one native call, and one lock per shard, for up to kChunkKeysMax keys at a time; and
// the packed form, where keys and values lie in two buffers and no JavaScript value is made per key.
#pragma once

#include <node_api.h>

namespace cairn {

void InitManyBinding(napi_env env, napi_value exports);

}  // namespace cairn
