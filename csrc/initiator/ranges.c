#include <assert.h>
#include <stdlib.h>

#include "initiator.h"

_Static_assert(BUCKETS_MAX == sizeof((struct range_lock){0}.nodes) / sizeof(struct range_node), "a node for each");
_Static_assert(BUCKETS_MAX < RANGE_BUCKETS, "neighbours are in different lists");

static uint64_t buckets_of(uint64_t first, uint64_t last)
{
    return (last - 1) / BUCKET_SECTORS - first / BUCKET_SECTORS + 1;
}

static int overlaps(const struct range_lock *lock, uint64_t first, uint64_t last)
{
    return lock->first < last && first < lock->last;
}

static void follow(struct range_lock *lock, struct range_lock *follower)
{
    assert(lock != follower && lock->entered);
    if (lock->followers_count == lock->followers_room) {
        lock->followers_room = lock->followers_room ? 2 * lock->followers_room : 4;
        lock->followers = must_allocate(lock->followers, lock->followers_room * sizeof *lock->followers);
    }
    lock->followers[lock->followers_count++] = follower;
    follower->waits++;
}

/* Looks at a lock once for each query; whether it was touched, and `follower`, if any, comes behind it. */
static int look(struct ranges *r, struct range_lock *lock, uint64_t first, uint64_t last, struct range_lock *follower)
{
    if (lock->mark == r->mark || !overlaps(lock, first, last))
        return 0;
    lock->mark = r->mark;
    if (follower)
        follow(lock, follower);
    return 1;
}

static int look_at_all(struct ranges *r, uint64_t first, uint64_t last, struct range_lock *follower)
{
    int touched = 0;
    for (struct link *l = r->all.next; l != &r->all; l = l->next)
        touched |= look(r, OWNER_OF(l, struct range_lock, all), first, last, follower);
    return touched;
}

static int look_near(struct ranges *r, uint64_t first, uint64_t last, struct range_lock *follower)
{
    int touched = 0;
    r->mark++;
    if (buckets_of(first, last) > BUCKETS_MAX)
        return look_at_all(r, first, last, follower);
    for (struct link *l = r->wide.next; l != &r->wide; l = l->next)
        touched |= look(r, OWNER_OF(l, struct range_lock, wide), first, last, follower);
    for (uint64_t b = first / BUCKET_SECTORS; b <= (last - 1) / BUCKET_SECTORS; b++) {
        struct link *head = &r->buckets[b % RANGE_BUCKETS];
        for (struct link *l = head->next; l != head; l = l->next)
            touched |= look(r, OWNER_OF(l, struct range_node, link)->lock, first, last, follower);
    }
    return touched;
}

void lock_init(struct range_lock *lock, uint64_t first, uint64_t last)
{
    lock->first = first;
    lock->last = last;
    link_init(&lock->all);
    link_init(&lock->wide);
    link_init(&lock->nodes[0].link);
    link_init(&lock->nodes[1].link);
}

/* Out of all lists. */
static void unlink_lock(struct range_lock *lock)
{
    link_remove(&lock->all);
    link_remove(&lock->wide);
    link_remove(&lock->nodes[0].link);
    link_remove(&lock->nodes[1].link);
}

void lock_end(struct range_lock *lock)
{
    if (lock->entered)
        unlink_lock(lock);
    free(lock->followers);
    lock->followers = NULL;
    lock->entered = 0;
    lock->followers_count = lock->followers_room = 0;
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

void ranges_enter(struct ranges *r, struct range_lock *lock)
{
    assert(lock->first < lock->last && !lock->entered && link_alone(&lock->all));
    look_near(r, lock->first, lock->last, lock);
    lock->entered = 1;
    link_append(&r->all, &lock->all);
    if (buckets_of(lock->first, lock->last) > BUCKETS_MAX) {
        link_append(&r->wide, &lock->wide);
        return;
    }
    for (uint64_t n = 0; n < buckets_of(lock->first, lock->last); n++) {
        assert(n < sizeof lock->nodes / sizeof *lock->nodes);
        lock->nodes[n].lock = lock;
        link_append(&r->buckets[(lock->first / BUCKET_SECTORS + n) % RANGE_BUCKETS], &lock->nodes[n].link);
    }
}

void ranges_leave(struct range_lock *lock)
{
    assert(lock->entered && !lock->waits);
    lock->entered = 0;
    unlink_lock(lock);
    for (uint32_t n = 0; n < lock->followers_count; n++) {
        assert(lock->followers[n]->waits && lock->followers[n]->entered);
        lock->followers[n]->waits--;
    }
}
