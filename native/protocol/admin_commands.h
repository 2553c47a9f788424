// Commands of one line by which an operator changes the server instead of its entries.
#pragma once

#include "base/clock.h"
#include "protocol/byte_buffer.h"
#include "protocol/dialect.h"
#include "protocol/request.h"
#include "protocol/response.h"
#include "protocol/service.h"
#include "store/store.h"

namespace cairn {

// shutdown [graceful]. kClosing: the owner of the server has been told to end it, and this connection ends.
Why RunShutdown(const TextRequest& line, Service* service, ByteBuffer* out);

// cache_memlimit MEGABYTES. A lower limit is reached in the background: entries leave a bounded number at a time.
Reply RunMemlimit(const TextRequest& line, Store* store, const Now& now);

}  // namespace cairn
