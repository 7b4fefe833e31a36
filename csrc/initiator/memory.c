#include "memory.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OBJECTS = 64, CHUNK_HEAD = 16 };

static _Thread_local jmp_buf *escape __attribute__((tls_model("initial-exec")));

jmp_buf *memory_escape(jmp_buf *to)
{
    jmp_buf *before = escape;
    escape = to;
    return before;
}

static _Noreturn void go_without(void)
{
    assert(escape);
    longjmp(*escape, 1);
}

void *must_allocate(void *old, size_t size)
{
    void *got = realloc(old, size ? size : 1);
    if (!got)
        go_without();
    return got;
}

void pool_init(struct pool *pool, size_t size)
{
    assert(size >= sizeof(void *));
    *pool = (struct pool){.size = (size + 15) & ~(size_t)15};
}

int pool_grow(struct pool *pool, size_t objects)
{
    size_t more = objects - pool->spare > OBJECTS ? objects - pool->spare : OBJECTS;
    char *chunk = more < (SIZE_MAX - CHUNK_HEAD) / pool->size ? malloc(CHUNK_HEAD + more * pool->size) : NULL;
    if (!chunk)
        return 0;
    *(void **)chunk = pool->chunks;
    pool->chunks = chunk;
    while (more--)
        pool_give(pool, chunk + CHUNK_HEAD + more * pool->size);
    return 1;
}

void *pool_take(struct pool *pool)
{
    if (!pool_reserve(pool, 1))
        go_without();
    void *object = pool->free;
    assert(object);
    pool->free = *(void **)object;
    pool->spare--;
    return memset(object, 0, pool->size);
}

void pool_end(struct pool *pool)
{
    while (pool->chunks) {
        void *chunk = pool->chunks;
        pool->chunks = *(void **)chunk;
        free(chunk);
    }
}
