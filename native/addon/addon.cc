// Every export of the addon on one screen. Each binding adds its functions to `exports`, and, through the handle
// extenders, its functions to every cache handle.
#include <napi.h>

#include "addon/atomic_binding.h"
#include "addon/batch_binding.h"
#include "addon/cache_binding.h"
#include "addon/debts_binding.h"
#include "addon/environment.h"
#include "addon/feed_binding.h"
#include "addon/flight_binding.h"
#include "addon/front_binding.h"
#include "addon/handle_binding.h"
#include "addon/load_binding.h"
#include "addon/lock_binding.h"
#include "addon/many_binding.h"
#include "addon/removal_binding.h"
#include "addon/retry_binding.h"
#include "addon/session_binding.h"
#include "addon/stored_binding.h"
#include "addon/thread_waker.h"
#include "addon/walk_binding.h"
#include "base/os.h"

namespace {

void Here() {}

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  // Node lets go of the addon with the last worker that loaded it; the janitor may be at work then.
  cairn::OsKeepLoaded(&Here);
  cairn::InitEnvironment(env, exports);     // scratch, words, marks, takeBuffer, takeRefusal, takeMessage
  cairn::InitThreadWaker(env, exports);     // onWake, holdAwake, wakeSelf, which the others use
  cairn::InitHandleBinding(env, exports);   // openCache, attachCache, attachById, limits; handles: clear, resize, close
  cairn::InitCacheBinding(env, exports);    // get, set; handles: the other direct verbs
  cairn::InitManyBinding(env, exports);     // handles: getChunk, setChunk, deleteChunk, getPacked
  cairn::InitAtomicBinding(env, exports);   // handles: executeAtomic, setAtomicBatches
  cairn::InitBatchBinding(env, exports);    // handles: beginBatch, continueBatch
  cairn::InitFlightBinding(env, exports);   // handles: joinFlight and its kin
  cairn::InitLoadBinding(env, exports);     // handles of a cache with a database: beginLoads, drainLoads and their kin
  cairn::InitRemovalBinding(env, exports);  // handles: listenRemovals, takeRemovals
  cairn::InitFeedBinding(env, exports);     // attachForScribe; handles with a log: drain and its kin
  cairn::InitStoredBinding(env, exports);   // handles of caches with a log: markStored and its kin
  cairn::InitDebtsBinding(env, exports);    // handles of caches with a backend: stubOf and its kin
  cairn::InitRetryBinding(env, exports);    // handles of caches with a backend: beginRetry, executeRetry, endRetry
  cairn::InitWalkBinding(env, exports);     // statNames; handles: walks, dump, load, stats
  cairn::InitLockBinding(env, exports);     // lockFile, unlockFile
  cairn::InitSessionBinding(env, exports);  // startService, openSession and their kin
  cairn::InitFrontBinding(env, exports);    // makeFront, listenFront and their kin, where there is a native front
  return exports;
}

}  // namespace

NODE_API_MODULE(cairn, Init)
