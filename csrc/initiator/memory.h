/* Memory of the initiator's arithmetic. */
#ifndef AOE_MEMORY_H
#define AOE_MEMORY_H

#include <stddef.h>

/* Objects of one size, kept for the next use. */
struct pool {
    size_t size;
    void *free;
    void *chunks;
};

void pool_init(struct pool *pool, size_t size);
void *pool_take(struct pool *pool); /* zeroed */
void pool_give(struct pool *pool, void *object);
void pool_end(struct pool *pool);
void *must_allocate(void *old, size_t size);

#endif
