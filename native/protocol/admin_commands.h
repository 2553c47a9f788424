// Commands of one line by which an operator changes the server instead of its entries.
#pragma once

#include "protocol/byte_buffer.h"
#include "protocol/dialect.h"
#include "protocol/request.h"
#include "protocol/service.h"

namespace cairn {

// shutdown [graceful]. kClosing: the owner of the server has been told to end it, and this connection ends.
Why RunShutdown(const TextRequest& line, Service* service, ByteBuffer* out);

}  // namespace cairn
