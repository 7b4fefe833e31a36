#include "delays.h"

#include <assert.h>
#include <stddef.h>

static int is_before(const struct delays *d, uint32_t one, uint32_t other)
{
    return d->heap[one]->begin_ns < d->heap[other]->begin_ns;
}

static void swap(struct delays *d, uint32_t one, uint32_t other)
{
    struct op *op = d->heap[one];
    d->heap[one] = d->heap[other];
    d->heap[other] = op;
}

void delays_add(struct delays *d, struct op *op)
{
    assert(d->count < DELAYED_MAX);
    uint32_t i = d->count++;
    d->heap[i] = op;
    for (; i && is_before(d, i, (i - 1) / 2); i = (i - 1) / 2)
        swap(d, i, (i - 1) / 2);
}

static uint32_t first_of(const struct delays *d, uint32_t i)
{
    uint32_t first = i;
    for (uint32_t child = 2 * i + 1; child <= 2 * i + 2; child++)
        if (child < d->count && is_before(d, child, first))
            first = child;
    return first;
}

static void sink(struct delays *d)
{
    uint32_t i = 0;
    for (uint32_t first = first_of(d, i); first != i; first = first_of(d, i)) {
        swap(d, i, first);
        i = first;
    }
}

struct op *delays_due(struct delays *d, uint64_t now_ns)
{
    if (!d->count || d->heap[0]->begin_ns > now_ns)
        return NULL;
    struct op *op = d->heap[0];
    d->heap[0] = d->heap[--d->count];
    sink(d);
    return op;
}

uint64_t delays_left_ns(const struct delays *d, uint64_t now_ns, uint64_t most_ns)
{
    if (!d->count)
        return most_ns;
    uint64_t begin_ns = d->heap[0]->begin_ns;
    uint64_t left_ns = begin_ns > now_ns ? begin_ns - now_ns : 0;
    return left_ns < most_ns ? left_ns : most_ns;
}
