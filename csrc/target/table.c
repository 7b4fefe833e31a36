#include "table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t key_of(const struct export *x) { return (uint32_t)x->shelf << 8 | x->slot; }

/* Of this address, or where it would be: at most half of the table is used. */
static uint32_t slot_of(const struct thread *t, uint32_t key)
{
    const aoe_engine *e = t->engine;
    uint32_t at = key * 2654435761u & e->table_mask, first = at;
    while (t->table[at] != NO_EXPORT && key_of(&e->exports[t->table[at]]) != key) {
        at = (at + 1) & e->table_mask;
        assert(at != first);
    }
    return at;
}

static void empty(struct thread *t) { memset(t->table, 0xFF, (t->engine->table_mask + 1) * sizeof *t->table); }

int table_make(struct thread *t)
{
    t->table = malloc((t->engine->table_mask + 1) * sizeof *t->table);
    if (!t->table)
        return -ENOMEM;
    empty(t);
    return 0;
}

struct export *table_find(const struct thread *t, uint16_t shelf, uint8_t slot)
{
    uint32_t index = t->table[slot_of(t, (uint32_t)shelf << 8 | slot)];
    return index == NO_EXPORT ? NULL : &t->engine->exports[index];
}

void table_add(struct thread *t, const struct export *x) { t->table[slot_of(t, key_of(x))] = x->index; }

void table_refill(struct thread *t)
{
    aoe_engine *e = t->engine;
    empty(t);
    for (uint32_t i = 0; i < e->set.exports; i++) {
        const struct export *x = &e->exports[i];
        if (thread_owns(t, x) && x->now && !is_gone(x))
            table_add(t, x);
    }
}
