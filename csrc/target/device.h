/* The disk beneath exports, the same rules as aoe/disk/device.py: a loop that must not wait starts I/O there itself
 * only while it answers and has room. io_uring and RWF_NOWAIT promise not to wait, but filesystems do: for a request
 * slot of the block layer, for their own metadata. */
#ifndef AOE_DEVICE_H
#define AOE_DEVICE_H

#include <assert.h>
#include <stdint.h>

#include "shared/generated.h"

struct device {
    uint32_t room;     /* requests there at a time that leave slots free */
    uint32_t inside;
    uint64_t heard_ns; /* when it last finished one, or got one after a rest */
};

static inline void device_begin(struct device *d, uint32_t requests, uint64_t now_ns)
{
    if (!d->inside)
        d->heard_ns = now_ns;
    d->inside += requests;
}

static inline void device_end(struct device *d, uint32_t requests, uint64_t now_ns)
{
    assert(d->inside >= requests);
    d->inside -= requests;
    d->heard_ns = now_ns;
}

static inline int device_answers(const struct device *d, uint64_t now_ns)
{
    return d->inside < d->room && (!d->inside || now_ns - d->heard_ns < DEVICE_SILENCE_NS);
}

#endif
