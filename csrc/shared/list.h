/* Lists: a head points to itself when it is empty; so does a member of none. */
#ifndef AOE_LIST_H
#define AOE_LIST_H

#include <assert.h>
#include <stddef.h>

struct link {
    struct link *prev, *next;
};

static inline void link_init(struct link *l)
{
    l->prev = l->next = l;
}

static inline int link_alone(const struct link *l)
{
    return l->next == l;
}

static inline void link_remove(struct link *l)
{
    assert(l->prev->next == l && l->next->prev == l);
    l->prev->next = l->next;
    l->next->prev = l->prev;
    link_init(l);
}

static inline void link_append(struct link *head, struct link *l)
{
    assert(!l->next || link_alone(l)); /* a member of one list at a time */
    l->prev = head->prev;
    l->next = head;
    head->prev->next = l;
    head->prev = l;
}

#define OWNER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))

#endif
