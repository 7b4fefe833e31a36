#include "requests.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

int requests_make(struct thread *t)
{
    aoe_engine *e = t->engine;
    t->ops = calloc(OPS, sizeof *t->ops);
    t->buffers = mmap(NULL, OPS * e->buffer_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                      -1, 0);
    if (!t->ops || t->buffers == MAP_FAILED) {
        t->buffers = NULL;
        return -ENOMEM;
    }
    for (uint32_t i = OPS; i-- > 0;) {
        t->ops[i].op.data = t->buffers + i * e->buffer_size + PAGE;
        t->ops[i].op.link = t->free_ops;
        t->free_ops = &t->ops[i].op;
    }
    return 0;
}

/* Its thread alone changes it, and others look. */
static uint32_t pending(const struct thread *t) { return atomic_load_explicit(&t->pending, memory_order_relaxed); }

static void pending_is(struct thread *t, uint32_t now)
{
    atomic_store_explicit(&t->pending, now, memory_order_relaxed);
}

struct op *op_new(struct thread *t)
{
    struct op *op = t->free_ops;
    if (op) {
        t->free_ops = op->link;
        pending_is(t, pending(t) + 1);
    }
    return op;
}

void op_free(struct thread *t, struct op *op)
{
    assert(pending(t) && t->ports[op->port].held);
    t->ports[op->port].held--;
    op->link = t->free_ops;
    t->free_ops = op;
    pending_is(t, pending(t) - 1);
}
