#include "order.h"

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

void order_admit(struct order *order, struct op *op)
{
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
}

struct op *order_done(struct order *order, struct op *op)
{
    struct op *ready = NULL, **tail = &ready;
    if (order->waiting)
        for (struct op *other = op->next; other; other = other->next)
            if (other->state == S_WAITING && conflict(op, other) && --other->waits == 0) {
                other->state = S_READY;
                order->waiting--;
                *tail = other;
                tail = &other->link;
            }
    *tail = NULL;
    *(op->prev ? &op->prev->next : &order->head) = op->next;
    *(op->next ? &op->next->prev : &order->tail) = op->prev;
    order->pending--;
    order->changes -= (uint32_t)obstructs(op);
    return ready;
}
