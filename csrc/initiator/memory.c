#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *must_allocate(void *old, size_t size)
{
    void *got = realloc(old, size);
    if (!got) {
        perror("aoe: out of memory");
        abort();
    }
    return got;
}

void pool_init(struct pool *pool, size_t size)
{
    *pool = (struct pool){.size = (size + 15) & ~(size_t)15};
}

void *pool_take(struct pool *pool)
{
    enum { OBJECTS = 64, CHUNK_HEAD = 16 };
    if (!pool->free) {
        char *chunk = must_allocate(NULL, CHUNK_HEAD + OBJECTS * pool->size);
        *(void **)chunk = pool->chunks;
        pool->chunks = chunk;
        for (int i = OBJECTS; i--;)
            pool_give(pool, chunk + CHUNK_HEAD + (size_t)i * pool->size);
    }
    void *object = pool->free;
    pool->free = *(void **)object;
    return memset(object, 0, pool->size);
}

void pool_give(struct pool *pool, void *object)
{
    *(void **)object = pool->free;
    pool->free = object;
}

void pool_end(struct pool *pool)
{
    while (pool->chunks) {
        void *chunk = pool->chunks;
        pool->chunks = *(void **)chunk;
        free(chunk);
    }
}
