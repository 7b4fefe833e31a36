/* engine.h has no guard and no includes, so that cffi can read it. */
#ifndef AOE_ABI_H
#define AOE_ABI_H
#include <stdint.h>
#include "engine.h"
#endif
