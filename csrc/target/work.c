#include "work.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(CLIENTS_MAX < UINT8_MAX, "a place is a byte");
_Static_assert(AOE_CLIENT_HEARD == AOE_CLIENT_NUMBERS - 1, "the others are counted, and can be added");

static uint64_t name_of(const uint8_t *mac)
{
    uint32_t first;
    uint16_t last;
    memcpy(&first, mac, sizeof first);
    memcpy(&last, mac + sizeof first, sizeof last);
    return (uint64_t)1 << 48 | (uint64_t)last << 32 | first;
}

static uint8_t *hint_of(struct work *w, uint64_t name)
{
    return &w->hints[name * 0x9E3779B97F4A7C15u >> 58]; /* CLIENT_HINTS is 2 to the 6th */
}

static struct client *clients_of(const struct work *w)
{
    return atomic_load_explicit(&w->clients, memory_order_acquire);
}

/* Python must not take numbers of one for those of another. */
static void rename_to(struct client *c, uint64_t name)
{
    atomic_store_explicit(&c->name, name, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
}

static void fold(struct work *w, struct client *c)
{
    rename_to(c, 0);
    for (int i = 0; i < AOE_CLIENT_HEARD; i++)
        number_add(&w->other.numbers[i], number(&c->numbers[i]));
    if (number(&c->numbers[AOE_CLIENT_HEARD]) > number(&w->other.numbers[AOE_CLIENT_HEARD]))
        number_put(&w->other.numbers[AOE_CLIENT_HEARD], number(&c->numbers[AOE_CLIENT_HEARD]));
}

/* The one that was not heard for longest, if that is not lately; NULL: all were. */
static struct client *silent(struct work *w, uint64_t now_ns)
{
    struct client *all = clients_of(w), *oldest = NULL;
    uint64_t oldest_ns = now_ns > CLIENT_HEARD_NS ? now_ns - CLIENT_HEARD_NS : 0;
    for (uint32_t i = 0; i < w->used; i++) {
        uint64_t heard_ns = number(&all[i].numbers[AOE_CLIENT_HEARD]), name = number(&all[i].name);
        int is_older = heard_ns < oldest_ns || (oldest && heard_ns == oldest_ns && name < number(&oldest->name));
        if (name && is_older) {
            oldest = &all[i];
            oldest_ns = heard_ns;
        }
    }
    return oldest;
}

static int enters(struct crowd *c, uint64_t now_ns)
{
    if (atomic_load_explicit(&c->count, memory_order_relaxed) < CLIENTS_IN_ALL_MAX) {
        if (atomic_fetch_add_explicit(&c->count, 1, memory_order_relaxed) < CLIENTS_IN_ALL_MAX)
            return 1;
        atomic_fetch_sub_explicit(&c->count, 1, memory_order_relaxed);
    }
    number_put(&c->full_ns, now_ns);
    return 0;
}

static void leaves(struct crowd *c)
{
    assert(atomic_load_explicit(&c->count, memory_order_relaxed));
    atomic_fetch_sub_explicit(&c->count, 1, memory_order_relaxed);
}

/* A place that no client has; NULL: there is none. */
static struct client *free_place(struct work *w)
{
    struct client *all = clients_of(w);
    uint32_t i = 0;
    while (i < w->used && number(&all[i].name))
        i++;
    return i < CLIENTS_MAX ? &all[i] : NULL;
}

static uint8_t begin(struct work *w, struct client *c, uint64_t name)
{
    uint32_t at = (uint32_t)(c - clients_of(w));
    for (int i = 0; i < AOE_CLIENT_NUMBERS; i++)
        number_put(&c->numbers[i], 0);
    memset(c->tags, 0, sizeof c->tags);
    if (w->used <= at)
        w->used = at + 1;
    rename_to(c, name);
    return *hint_of(w, name) = (uint8_t)at;
}

/* CLIENTS_MAX: it is one of the others. */
static uint8_t stranger(struct work *w, struct crowd *crowd, uint64_t name, uint64_t now_ns)
{
    if (w->closed_ns && now_ns - w->closed_ns < CLIENTS_SWEPT_NS)
        return CLIENTS_MAX;
    if (!clients_of(w))
        atomic_store_explicit(&w->clients, calloc(CLIENTS_MAX, sizeof(struct client)), memory_order_release);
    if (!clients_of(w))
        return CLIENTS_MAX;
    struct client *place = free_place(w);
    if (place && enters(crowd, now_ns))
        return begin(w, place, name);
    place = silent(w, now_ns);
    if (!place) {
        w->closed_ns = now_ns;
        return CLIENTS_MAX;
    }
    fold(w, place);
    return begin(w, place, name);
}

/* Found by all their names; or new. Apart from what finds one by its hint, which is short. */
static __attribute__((noinline)) uint8_t place_of(struct work *w, struct crowd *crowd, uint64_t name, uint64_t now_ns)
{
    struct client *all = clients_of(w);
    for (uint32_t i = 0; i < w->used; i++)
        if (number(&all[i].name) == name)
            return *hint_of(w, name) = (uint8_t)i;
    return stranger(w, crowd, name, now_ns);
}

/* Whether it is among the latest; then and later it is. Tag 0 is not known apart from none. */
static int repeats(struct client *c, uint32_t tag)
{
    uint32_t *place = &c->tags[(tag ^ tag >> 16) & (CLIENT_TAGS - 1)];
    int known = tag && *place == tag;
    *place = tag;
    return known;
}

uint8_t work_asked(struct work *w, struct crowd *crowd, const struct asked *a, uint64_t now_ns)
{
    uint64_t name = name_of(a->mac);
    uint8_t at = *hint_of(w, name);
    struct client *c = clients_of(w);
    if (c && number(&c[at].name) == name)
        c += at;
    else if ((at = place_of(w, crowd, name, now_ns)) < CLIENTS_MAX)
        c = &clients_of(w)[at];
    else
        c = &w->other;
    number_add(&c->numbers[AOE_CLIENT_REQUESTS], 1);
    number_add(&c->numbers[a->direction], a->bytes);
    if (number(&c->numbers[AOE_CLIENT_HEARD]) != now_ns) /* mostly the same for a batch, and a store takes longer */
        number_put(&c->numbers[AOE_CLIENT_HEARD], now_ns);
    if (at < CLIENTS_MAX && repeats(c, a->tag))
        number_add(&c->numbers[AOE_CLIENT_REPEATED], 1);
    return at;
}

void work_sweep(struct work *w, struct crowd *crowd, uint64_t now_ns)
{
    for (struct client *c; (c = silent(w, now_ns));) {
        fold(w, c);
        leaves(crowd);
    }
}

void work_leave(struct work *w, struct crowd *crowd)
{
    struct client *all = clients_of(w);
    for (uint32_t i = 0; i < w->used; i++)
        if (number(&all[i].name)) {
            fold(w, &all[i]);
            leaves(crowd);
        }
    w->used = 0;
}

void work_end(struct work *w) { free(clients_of(w)); }

static void copy(const struct client *c, uint64_t *numbers)
{
    for (int i = 0; i < AOE_CLIENT_NUMBERS; i++)
        numbers[i] = number(&c->numbers[i]);
}

uint32_t work_clients(const struct work *w, aoe_client *clients, uint64_t *other)
{
    const struct client *all = clients_of(w);
    uint32_t count = 0;
    for (uint32_t i = 0; all && i < CLIENTS_MAX; i++) {
        uint64_t name = atomic_load_explicit(&all[i].name, memory_order_acquire);
        copy(&all[i], clients[count].numbers);
        atomic_thread_fence(memory_order_acquire);
        clients[count].name = name;
        count += name && number(&all[i].name) == name;
    }
    copy(&w->other, other);
    return count;
}
