#include "order.h"

#include <stddef.h>

static int changes(const struct op *op) { return op->kind == K_WRITE; }

/* Whether `later` must wait for `earlier`. */
static int conflict(const struct op *earlier, const struct op *later)
{
    if (earlier->kind == K_UP || later->kind == K_UP)
        return 1;
    if (later->kind == K_FLUSH)
        return changes(earlier);
    if (earlier->kind == K_FLUSH || !(changes(earlier) || changes(later)))
        return 0;
    return earlier->first < later->last && later->first < earlier->last;
}

/* K_UP stands in the way of everything, so it counts as a change where only changes are looked for. */
static int obstructs(const struct op *op) { return changes(op) || op->kind == K_UP; }

void order_admit(struct order *order, struct op *op)
{
    op->waits = 0;
    if (order->changes || (op->kind != K_READ && op->kind != K_FLUSH))
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
