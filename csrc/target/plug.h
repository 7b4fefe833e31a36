/* Requests to a server that takes its time for each of them, as that of an image behind FUSE: those of which one begins
 * where the one before it ends go as one. Pure. */
#ifndef AOE_PLUG_H
#define AOE_PLUG_H

#include <stdint.h>

enum action { IO_READ, IO_WRITE, IO_SYNC };

struct io {
    struct io *link;
    void *owner;
    void *buffer;
    uint64_t offset;
    uint32_t length;
    int32_t result; /* bytes, or a negative errno */
    int fd;
    int may_block;   /* even where it is only started */
    uint32_t weight; /* requests that the disk beneath may get for it */
    enum action action;
    struct plug *plug; /* NULL: it goes at once, alone */
    struct io *joined; /* the next one of its plug; of those that go, of the same that go as one */
};

enum {
    PLUG_PARTS = 32, /* requests that go as one, at most */
    PLUG_READY = 2,
};

/* Reads of an image, or writes of it. */
struct plug {
    struct io *first, *last; /* they are to go, in that order */
    uint64_t end;            /* where the last one that went ends */
    uint32_t under_way;      /* those that went as one count once */
    int listed;              /* there may be something to go */
    struct plug *next;
};

void plug_add(struct plug *plug, struct io *io);
/* What goes now as one, chained by `joined`; NULL: nothing, before something is added, or over. */
struct io *plug_take(struct plug *plug);
/* It is over, with that result: what it comes to for each of them. */
void plug_over(struct plug *plug, struct io *first, int32_t result);

#endif
