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

struct op *op_new(struct thread *t)
{
    struct op *op = t->free_ops;
    if (op) {
        t->free_ops = op->link;
        atomic_fetch_add_explicit(&t->pending, 1, memory_order_relaxed);
    }
    return op;
}

void op_free(struct thread *t, struct op *op)
{
    assert(atomic_load_explicit(&t->pending, memory_order_relaxed) && t->ports[op->port].held);
    t->ports[op->port].held--;
    op->link = t->free_ops;
    t->free_ops = op;
    atomic_fetch_sub_explicit(&t->pending, 1, memory_order_relaxed);
}
