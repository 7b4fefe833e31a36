/* The engine's internals with smaller bounds: an engine is made for every input, and the bounds are near. */
#ifndef AOE_FUZZ_SMALL_H
#define AOE_FUZZ_SMALL_H

#define STREAMS_MAX 3
#define OPS OPS = 1100, OPS_IN_SERVICE
#define UP_BYTES UP_BYTES = 1 << 16, UP_BYTES_IN_SERVICE
#include "target/state.h"
#undef OPS
#undef UP_BYTES

#endif
