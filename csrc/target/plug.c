#include "plug.h"

#include <assert.h>
#include <stddef.h>

void plug_add(struct plug *p, struct io *io)
{
    assert(io->action != IO_SYNC && io->length);
    io->joined = NULL;
    if (p->first)
        p->last->joined = io;
    else
        p->first = io;
    p->last = io;
}

static uint64_t end_of(const struct io *io) { return io->offset + io->length; }

static int follows(const struct io *io, const struct io *before)
{
    return io->offset == end_of(before) && io->fd == before->fd;
}

/* What goes on where the last one ended waits for more of that, while one is with the server and the next one is ready
 * for it: its turn comes no earlier, and the kernel writes one after the other to a file behind FUSE. */
struct io *plug_take(struct plug *p)
{
    struct io *first = p->first, *last = first;
    if (!first)
        return NULL;
    uint32_t parts = 1;
    for (; last->joined && parts < PLUG_PARTS && follows(last->joined, last); parts++)
        last = last->joined;
    if (p->under_way >= PLUG_READY && !last->joined && parts < PLUG_PARTS && first->offset == p->end)
        return NULL;
    p->first = last->joined;
    last->joined = NULL;
    p->end = end_of(last);
    p->under_way++;
    return first;
}

void plug_over(struct plug *p, struct io *first, int32_t result)
{
    assert(p->under_way);
    p->under_way--;
    for (struct io *io = first; io; io = io->joined) {
        io->result = result < 0 || (uint32_t)result < io->length ? result : (int32_t)io->length;
        if (result > 0)
            result -= io->result;
    }
}
