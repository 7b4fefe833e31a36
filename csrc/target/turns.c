#include "turns.h"

#include <assert.h>
#include <string.h>

static uint64_t bit_of(const struct op *op) { return (uint64_t)1 << op->client % 64; }
static int had(const struct turns *t, const struct op *op) { return (t->had[op->client / 64] & bit_of(op)) != 0; }
static void has(struct turns *t, const struct op *op) { t->had[op->client / 64] |= bit_of(op); }

static struct op *line_of(const struct lines *lines, const struct op *op)
{
    struct op *line = lines->first;
    while (line && line->client != op->client)
        line = line->turn;
    return line;
}

static void append(struct lines *lines, struct op *line)
{
    line->turn = NULL;
    *(lines->last ? &lines->last->turn : &lines->first) = line;
    lines->last = line;
}

void turns_add(struct turns *t, struct op *op)
{
    struct op *line = line_of(&t->now, op);
    assert(op->client <= CLIENTS_MAX);
    if (!line)
        line = line_of(&t->next, op);
    op->link = NULL;
    if (line) {
        line->end->link = op;
        line->end = op;
        return;
    }
    op->end = op;
    append(had(t, op) ? &t->next : &t->now, op);
}

static void begin_round(struct turns *t)
{
    t->now = t->next;
    t->next = (struct lines){NULL, NULL};
    memset(t->had, 0, sizeof t->had);
}

struct op *turns_take(struct turns *t)
{
    if (!t->now.first)
        begin_round(t);
    struct op *op = t->now.first, *rest = op->link;
    t->now.first = op->turn;
    if (!t->now.first)
        t->now.last = NULL;
    has(t, op);
    if (rest) {
        rest->end = op->end;
        append(&t->next, rest);
    }
    return op;
}

void turns_pass(struct turns *t, const struct op *op)
{
    assert(turns_empty(t));
    if (had(t, op)) /* the next round begins */
        memset(t->had, 0, sizeof t->had);
    has(t, op);
}
