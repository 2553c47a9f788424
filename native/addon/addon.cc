// Every export of the addon on one screen. Each binding adds its functions to `exports`, and, through the handle
// extenders, its functions to every cache handle.
#include <node_api.h>

#include "addon/cache_binding.h"
#include "addon/environment.h"
#include "addon/lock_binding.h"
#include "addon/many_binding.h"
#include "addon/walk_binding.h"
#include "base/os.h"

#if __has_include("addon/session_binding.h")
#include "addon/session_binding.h"
#define CAIRN_SESSION_BINDING 1
#endif
#if __has_include("addon/flight_binding.h")
#include "addon/feed_binding.h"
#include "addon/flight_binding.h"
#define CAIRN_FLIGHT_BINDING 1
#endif
#if __has_include("addon/removal_binding.h")
#include "addon/removal_binding.h"
#define CAIRN_REMOVAL_BINDING 1
#endif
#if __has_include("addon/batch_binding.h")
#include "addon/batch_binding.h"
#define CAIRN_BATCH_BINDING 1
#endif

namespace {

void Here() {}

napi_value Init(napi_env env, napi_value exports) {
  // Node lets go of the addon with the last worker that loaded it; the janitor may be at work then.
  cairn::OsKeepLoaded(&Here);
  cairn::InitEnvironment(env, exports);   // scratch, words, marks, takeBuffer, takeMessage
  cairn::InitCacheBinding(env, exports);  // openCache, attachCache, attachById, limits; handles: the direct verbs
  cairn::InitManyBinding(env, exports);   // handles: getChunk, setChunk, deleteChunk, getPacked
  cairn::InitFeedBinding(env, exports);   // attachForScribe; handles with a log: drain and its kin
  cairn::InitWalkBinding(env, exports);   // statNames; handles: walks, dump, load, stats
  cairn::InitLockBinding(env, exports);   // lockFile, unlockFile
#if defined(CAIRN_SESSION_BINDING)
  cairn::InitSessionBinding(env, exports);
#endif
#if defined(CAIRN_FLIGHT_BINDING)
  cairn::InitFlightBinding(env, exports);
#endif
#if defined(CAIRN_REMOVAL_BINDING)
  cairn::InitRemovalBinding(env, exports);
#endif
#if defined(CAIRN_BATCH_BINDING)
  cairn::InitBatchBinding(env, exports);
#endif
  return exports;
}

}  // namespace

NAPI_MODULE(cairn, Init)
