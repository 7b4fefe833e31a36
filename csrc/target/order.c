#include "order.h"

#include <assert.h>
#include <stddef.h>

static int changes(const struct op *op) { return op->kind == K_WRITE || op->kind == K_UP_CHANGE; }

/* A FLUSH; or a TRIM of nothing, which has a flush in it. */
static int only_flushes(const struct op *op)
{
    return op->kind == K_FLUSH || (op->kind == K_UP_CHANGE && !op->where.count);
}

/* Whether `later` must wait for `earlier`. */
static int conflict(const struct op *earlier, const struct op *later)
{
    if (earlier->kind == K_UP || later->kind == K_UP)
        return 1;
    if (only_flushes(earlier))
        return 0;
    if (only_flushes(later))
        return changes(earlier);
    return (changes(earlier) || changes(later)) && spans_overlap(&earlier->where, &later->where);
}

/* K_UP stands in the way of everything, so it counts as a change where only changes are looked for. */
static int obstructs(const struct op *op) { return (changes(op) && !only_flushes(op)) || op->kind == K_UP; }

/* The oldest waits for nothing, so not all can wait. */
static void check(const struct order *order)
{
    assert(!order->head == !order->pending && !order->tail == !order->pending);
    assert(!order->pending ? !order->waiting : order->waiting < order->pending);
    assert(order->changes <= order->pending);
    assert(!order->head || (!order->head->waits && order->head->state != S_WAITING));
}

void order_admit(struct order *order, struct op *op)
{
    assert(op->kind <= K_UP);
    op->waits = 0;
    if (order->changes || obstructs(op))
        for (const struct op *other = order->head; other; other = other->next)
            op->waits += (uint32_t)conflict(other, op);
    op->next = NULL;
    op->prev = order->tail;
    *(order->tail ? &order->tail->next : &order->head) = op;
    order->tail = op;
    order->pending++;
    order->changes += (uint32_t)obstructs(op);
    order->waiting += op->waits != 0;
    op->state = op->waits ? S_WAITING : S_READY;
    check(order);
}

struct op *order_done(struct order *order, struct op *op)
{
    struct op *ready = NULL, **tail = &ready;
    assert(order->pending && !op->waits && op->state != S_WAITING);
    for (struct op *other = order->waiting ? op->next : NULL; other; other = other->next) {
        if (other->state != S_WAITING || !conflict(op, other))
            continue;
        assert(other->waits && order->waiting);
        if (--other->waits)
            continue;
        other->state = S_READY;
        order->waiting--;
        *tail = other;
        tail = &other->link;
    }
    *tail = NULL;
    *(op->prev ? &op->prev->next : &order->head) = op->next;
    *(op->next ? &op->next->prev : &order->tail) = op->prev;
    assert(order->changes >= (uint32_t)obstructs(op));
    order->pending--;
    order->changes -= (uint32_t)obstructs(op);
    check(order);
    return ready;
}
