/* Memory of the initiator's arithmetic. It is used deep inside, where there is no way on without: what cannot be had is
 * told to the border, which ends the core (core.c), and never ends the user's process. */
#ifndef AOE_MEMORY_H
#define AOE_MEMORY_H

#include <setjmp.h>
#include <stddef.h>

/* Where this thread goes on when memory cannot be had; NULL outside of a core. */
jmp_buf *memory_escape(jmp_buf *to); /* the one before comes back */
void *must_allocate(void *old, size_t size);

/* Objects of one size, kept for later. */
struct pool {
    size_t size, spare;
    void *free;
    void *chunks;
};

void pool_init(struct pool *pool, size_t size);
int pool_grow(struct pool *pool, size_t objects);
void *pool_take(struct pool *pool); /* zeroed */
void pool_end(struct pool *pool);

/* Have so many at hand; 0 where there is no memory for them. */
static inline int pool_reserve(struct pool *pool, size_t objects)
{
    return objects <= pool->spare || pool_grow(pool, objects);
}

static inline void pool_give(struct pool *pool, void *object)
{
    *(void **)object = pool->free;
    pool->free = object;
    pool->spare++;
}

#endif
