/* The limits of one export at work, the same as aoe/target/rates.py. Pure. */
#ifndef AOE_RATES_H
#define AOE_RATES_H

#include <stdint.h>

#include "abi.h"

struct rates;

static inline int limits_any(const aoe_limits *l)
{
    return l->iops || l->bandwidth || l->client_iops || l->client_bandwidth;
}

/* NULL where there is no memory. */
struct rates *rates_new(const aoe_limits *limits);

/* Whether these are the same limits, which then need not begin anew; NULL: none. */
int rates_alike(const struct rates *one, const struct rates *other);

/* How long a request may be delayed. */
uint64_t rates_patience_ns(uint64_t frame_age_ns);

/* When a request of a host may begin: now, or later. Times are CLOCK_BOOTTIME and never go back. */
uint64_t rates_begin_ns(struct rates *rates, const uint8_t *mac, uint64_t now_ns);

/* A request that moves so many bytes is taken. */
void rates_pay(struct rates *rates, const uint8_t *mac, uint64_t size, uint64_t now_ns);

#endif
