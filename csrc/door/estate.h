/* What a door and its supervisor share, in a memfd that the latter holds: what the next door has to know. The door
 * may be killed at any instruction: what is read is whole. */
#ifndef AOE_ESTATE_H
#define AOE_ESTATE_H

#include <stdatomic.h>

#include "abi.h"

#define ESTATE_SIGNATURE 0x32657461747365ull /* another layout, another signature */
enum { ESTATE_SERIAL = 20 };

struct estate_slot {
    uint32_t count;
    aoe_debt debts[DEBTS_MAX];
};

struct estate {
    uint64_t signature;
    _Atomic int64_t died_ns;  /* CLOCK_BOOTTIME: from then on the last door did nothing; 0: there was none */
    _Atomic int64_t fence_ns; /* how long the present one waited until what the last one had under way was over */
    _Atomic uint64_t size;    /* of the disk in bytes, as the door knows it; 0: not yet */
    _Atomic uint64_t owner;   /* which address carries what is written: shelf << 8 | slot, and 1 << 32; 0: none yet */
    _Atomic uint32_t is_known;
    uint8_t serial[ESTATE_SERIAL]; /* of the disk, once it is known */
    _Atomic uint32_t current; /* which slot is whole */
    _Atomic uint32_t sending; /* frames are being sent right now, whenever they were made */
    _Atomic uint32_t is_over; /* the user says so of what earlier doors had under way */
    struct estate_slot slots[2];
};

#endif
