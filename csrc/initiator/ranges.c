#include <assert.h>
#include <stdlib.h>

#include "initiator.h"

_Static_assert(BUCKETS_MAX == sizeof((struct piece){0}.nodes) / sizeof(struct range_node), "a node for each");
_Static_assert(BUCKETS_MAX < RANGE_BUCKETS, "neighbours are in different lists");

static uint64_t buckets_of(uint64_t first, uint64_t last)
{
    return (last - 1) / BUCKET_SECTORS - first / BUCKET_SECTORS + 1;
}

static int overlaps(const struct piece *p, uint64_t first, uint64_t last)
{
    return p->first < last && first < p->last;
}

static void follow(struct piece *p, struct piece *follower)
{
    assert(p != follower && p->locked);
    if (p->followers_count == p->followers_room) {
        p->followers_room = p->followers_room ? 2 * p->followers_room : 4;
        p->followers = must_allocate(p->followers, p->followers_room * sizeof *p->followers);
    }
    p->followers[p->followers_count++] = follower;
    follower->waits++;
}

/* Looks at a lock once for each query; whether it was touched, and `follower`, if any, comes behind it. */
static int look(struct ranges *r, struct piece *p, uint64_t first, uint64_t last, struct piece *follower)
{
    if (p->mark == r->mark || !overlaps(p, first, last))
        return 0;
    p->mark = r->mark;
    if (follower)
        follow(p, follower);
    return 1;
}

static int look_at_all(struct ranges *r, uint64_t first, uint64_t last, struct piece *follower)
{
    int touched = 0;
    for (struct link *l = r->all.next; l != &r->all; l = l->next)
        touched |= look(r, OWNER_OF(l, struct piece, all), first, last, follower);
    return touched;
}

static int look_near(struct ranges *r, uint64_t first, uint64_t last, struct piece *follower)
{
    int touched = 0;
    r->mark++;
    if (buckets_of(first, last) > BUCKETS_MAX)
        return look_at_all(r, first, last, follower);
    for (struct link *l = r->wide.next; l != &r->wide; l = l->next)
        touched |= look(r, OWNER_OF(l, struct piece, wide), first, last, follower);
    for (uint64_t b = first / BUCKET_SECTORS; b <= (last - 1) / BUCKET_SECTORS; b++) {
        struct link *head = &r->buckets[b % RANGE_BUCKETS];
        for (struct link *l = head->next; l != head; l = l->next)
            touched |= look(r, OWNER_OF(l, struct range_node, link)->piece, first, last, follower);
    }
    return touched;
}

void ranges_init(struct ranges *r)
{
    link_init(&r->all);
    link_init(&r->wide);
    for (uint32_t b = 0; b < RANGE_BUCKETS; b++)
        link_init(&r->buckets[b]);
}

int ranges_touched(struct ranges *r, uint64_t first, uint64_t last)
{
    return !link_alone(&r->all) && look_near(r, first, last, NULL);
}

void ranges_enter(struct ranges *r, struct piece *p)
{
    assert(p->first < p->last && !p->locked && link_alone(&p->all));
    look_near(r, p->first, p->last, p);
    p->locked = 1;
    link_append(&r->all, &p->all);
    if (buckets_of(p->first, p->last) > BUCKETS_MAX) {
        link_append(&r->wide, &p->wide);
        return;
    }
    for (uint64_t n = 0; n < buckets_of(p->first, p->last); n++) {
        assert(n < sizeof p->nodes / sizeof *p->nodes);
        p->nodes[n].piece = p;
        link_append(&r->buckets[(p->first / BUCKET_SECTORS + n) % RANGE_BUCKETS], &p->nodes[n].link);
    }
}

void ranges_leave(struct ranges *r, struct piece *p)
{
    (void)r;
    assert(p->locked && !p->waits);
    p->locked = 0;
    link_remove(&p->all);
    link_remove(&p->wide);
    link_remove(&p->nodes[0].link);
    link_remove(&p->nodes[1].link);
    for (uint32_t n = 0; n < p->followers_count; n++) {
        assert(p->followers[n]->waits && p->followers[n]->locked);
        p->followers[n]->waits--;
    }
}
