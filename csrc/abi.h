/* engine.h has no guard and no includes, so that cffi can read it; of generated.h it reads the enumerations and the
 * structures. */
#ifndef AOE_ABI_H
#define AOE_ABI_H
#include <stdint.h>
#include "shared/generated.h"

#include "engine.h"
#endif
