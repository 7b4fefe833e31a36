#include "cut.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct cut *cut_new(uint64_t length, uint64_t step)
{
    assert(length && step && step % SECTOR == 0);
    uint64_t count = (length + step - 1) / step;
    assert(count <= UINT32_MAX);
    struct cut *cut = calloc(1, sizeof *cut + count);
    if (!cut)
        return NULL;
    cut->step = step;
    cut->count = cut->left = (uint32_t)count;
    cut->tail = &cut->kept;
    return cut;
}

static int64_t missing_in(const struct cut *cut, uint64_t first, uint64_t last)
{
    uint64_t end = last < cut->count ? last : cut->count;
    const uint8_t *found = first < end ? memchr(cut->cloned + first, 0, end - first) : NULL;
    return found ? found - cut->cloned : NO_RANGE;
}

static int64_t missing(const struct cut *cut, const struct spans *where)
{
    uint32_t count;
    uint64_t sectors = cut->step / SECTOR;
    int64_t found = NO_RANGE;
    const struct span *span = spans_compared(where, &count);
    for (uint32_t i = 0; i < count && found < 0; i++)
        found = missing_in(cut, span[i].first / sectors, (span[i].last + sectors - 1) / sectors);
    return found;
}

int cut_keeps(struct cut *cut, struct op *op)
{
    int64_t needs = missing(cut, &op->where);
    op->kept = needs >= 0;
    if (!op->kept)
        return 0;
    op->needs = (uint32_t)needs;
    op->link = NULL;
    *cut->tail = op;
    cut->tail = &op->link;
    return 1;
}

int64_t cut_needed(const struct cut *cut) { return cut->kept ? (int64_t)cut->kept->needs : NO_RANGE; }

int64_t cut_following(struct cut *cut)
{
    int64_t found = missing_in(cut, cut->cursor, cut->count);
    cut->cursor = found < 0 ? cut->count : (uint32_t)found;
    return found;
}

static struct op *take_all(struct cut *cut)
{
    struct op *all = cut->kept;
    cut->kept = NULL;
    cut->tail = &cut->kept;
    return all;
}

static struct op **append(struct op **tail, struct op *op)
{
    op->link = NULL;
    *tail = op;
    return &op->link;
}

static void mark(struct cut *cut, uint32_t first, uint32_t last)
{
    assert(first < last && last <= cut->count);
    for (uint32_t at = first; at < last; at++)
        cut->left -= !cut->cloned[at];
    memset(cut->cloned + first, 1, last - first);
}

struct op *cut_has(struct cut *cut, uint32_t first, uint32_t last)
{
    struct op *due = NULL, **due_tail = &due, *free = NULL, **free_tail = &free;
    mark(cut, first, last);
    for (struct op *op = take_all(cut), *next; op; op = next) {
        next = op->link;
        if (op->needs >= first && op->needs < last)
            due_tail = append(due_tail, op);
        else
            cut->tail = append(cut->tail, op);
    }
    for (struct op *op = due, *next; op; op = next) {
        next = op->link;
        if (!cut_keeps(cut, op))
            free_tail = append(free_tail, op);
    }
    return free;
}

struct op *cut_end(struct cut *cut)
{
    struct op *all = take_all(cut);
    for (struct op *op = all; op; op = op->link)
        op->kept = 0;
    return all;
}
