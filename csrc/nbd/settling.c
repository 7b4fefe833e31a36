#include "settling.h"

#include <string.h>

#include "fencing.h"

/* As long as a server that is there may take to be found; and when it is told of one that is waited for, and told again. */
enum { LOST_S = 2, TELL_S = 5, TELL_AGAIN_S = 60 };
#define SECOND_NS 1000000000ll

static void *fence(void *argument)
{
    struct shared *s = argument;
    struct settling *now = &s->settling;
    atomic_store(&now->fate, fencing_run(s->set.fence, &now->path) ? FENCED_WELL : FENCED_NOT);
    atomic_fetch_sub(&s->inside, 1);
    return NULL;
}

static void begin(struct shared *s, const aoe_debt *of)
{
    struct settling *now = &s->settling;
    pthread_t id;
    now->path = (aoe_path){.shelf = of->shelf, .slot = of->slot};
    memcpy(now->path.mac, of->mac, sizeof of->mac);
    atomic_store(&now->fate, FENCE_RUNS);
    atomic_fetch_add(&s->inside, 1);
    if (!pthread_create(&id, NULL, fence, s)) {
        pthread_detach(id);
        return;
    }
    atomic_store(&now->fate, FENCED_NOT);
    atomic_fetch_sub(&s->inside, 1);
}

static void end(struct shared *s, int64_t now_ns)
{
    struct settling *now = &s->settling;
    uint32_t fate = atomic_load(&now->fate), address = (uint32_t)now->path.shelf << 8 | now->path.slot;
    if (fate == FENCED_WELL)
        aoe_core_left_is_over(s->core, now->path.mac, address, now_ns);
    if (fate == FENCED_NOT)
        now->fence_ns = now_ns + FENCE_AGAIN_NS;
    if (fate != FENCE_RUNS)
        atomic_store(&now->fate, FENCE_RESTS);
}

static int is_of(const aoe_debt *debt, const aoe_path *path)
{
    return !memcmp(debt->mac, path->mac, sizeof debt->mac) && debt->shelf == path->shelf && debt->slot == path->slot;
}

static int is_known(const aoe_debt *debt)
{
    static const uint8_t none[sizeof debt->mac];
    return memcmp(debt->mac, none, sizeof none) || debt->shelf || debt->slot;
}

/* A server that is not there, while another one is. */
static int is_lost(const aoe_debt *debt, const aoe_path *paths, uint32_t count)
{
    int another = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (paths[i].state != PATH_USABLE)
            continue;
        if (is_of(debt, &paths[i]))
            return 0;
        another = 1;
    }
    return another && is_known(debt);
}

static void fence_lost(struct shared *s, const aoe_debt *left, uint32_t count, int64_t now_ns)
{
    aoe_path paths[PATHS_MAX];
    if (!s->set.fence || atomic_load(&s->settling.fate) != FENCE_RESTS || now_ns < s->settling.fence_ns)
        return;
    uint32_t known = aoe_core_paths(s->core, paths, PATHS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (!left[i].cached && is_lost(&left[i], paths, known)) {
            begin(s, &left[i]);
            return;
        }
}

static int told_before(const aoe_debt *left, uint32_t at)
{
    for (uint32_t i = 0; i < at; i++)
        if (!memcmp(left[i].mac, left[at].mac, sizeof left->mac) && left[i].shelf == left[at].shelf &&
            left[i].slot == left[at].slot)
            return 1;
    return left[at].cached;
}

static void tell(struct shared *s, const aoe_debt *left, uint32_t count, int64_t now_ns)
{
    if (now_ns < s->settling.tell_ns)
        return;
    s->settling.tell_ns = now_ns + TELL_AGAIN_S * SECOND_NS;
    for (uint32_t i = 0; i < count; i++)
        if (!told_before(left, i))
            s->set.tell_left(&left[i], is_known(&left[i]));
}

void settling_begin(struct shared *s)
{
    int64_t now_ns = aoe_remote_now();
    s->settling.fence_ns = now_ns + LOST_S * SECOND_NS;
    s->settling.tell_ns = now_ns + TELL_S * SECOND_NS;
}

void settling_look(struct shared *s)
{
    aoe_debt left[DEBTS_MAX];
    int64_t now_ns = aoe_remote_now();
    end(s, now_ns);
    if (s->set.all_is_over())
        aoe_core_left_is_over(s->core, NULL, 0, now_ns);
    if (!aoe_core_left(s->core))
        return;
    uint32_t count = aoe_core_debts(s->core, left);
    fence_lost(s, left, count, now_ns);
    tell(s, left, count, now_ns);
}
