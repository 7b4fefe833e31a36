/* What is under way, for the next life, and what the last one left: as aoe/initiator/debts.py has it. */
#ifndef AOE_DEBTS_H
#define AOE_DEBTS_H

#include <stdint.h>
#include <string.h>

#include "abi.h"
#include "shared/wire.h"

struct path;

/* A debt of an earlier life; its questions have all tags from `first` to the debt's. */
struct left {
    aoe_debt debt;
    int asked;
    uint32_t first;
    int64_t again_ns, wait_ns;
};

struct debts {
    uint64_t news;
    uint32_t own_count, left_count;
    aoe_debt own[DEBTS_MAX];
    struct left left[DEBTS_MAX];
    aoe_debt cache, left_cache; /* not `cached`: there is none */
};

void debts_init(struct debts *d, const aoe_debt *left, uint32_t count, int64_t since_ns);
void debts_note(struct debts *d, const aoe_timing *timing, const aoe_debt *debt, uint32_t tag, int64_t now_ns);
void debts_go_on(aoe_core *c, const struct path *path, int64_t now_ns);
uint32_t debts_all(const struct debts *d, aoe_debt *all);
void debts_sent(struct debts *d, int64_t since_ns, int64_t until_ns);
void debts_cache(struct debts *d, const struct path *path); /* it has changes in a volatile cache */
void debts_flushed(struct debts *d);                         /* no path has */
int debts_has(const struct debts *d, const struct path *path, uint16_t stream);
void debts_tick(aoe_core *c, int64_t now_ns);
int debts_received(aoe_core *c, uint32_t port, const uint8_t *raw, uint32_t length);
void debts_learned(aoe_core *c, const struct path *path);
void debts_over(struct debts *d, const uint8_t *mac, uint32_t address); /* NULL: of all servers */

#endif
