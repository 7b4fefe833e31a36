/* What a disk that many threads use is made of. */
#ifndef AOE_NBD_STATE_H
#define AOE_NBD_STATE_H

#include <pthread.h>
#include <stdatomic.h>

#include "shared.h"
#include "shared/list.h"

enum { REST_MS = 10, LOOK_MS = 100 };
enum { AWAKE, ASLEEP, APPOINTED, ENDED };

struct waiter {
    struct waiter *next; /* in the inbox, or among those that have ended */
    struct link open;
    uint32_t verb;
    int over, crowded, overdue;
    uint64_t offset, length;
    uint8_t *data;
    aoe_request *request;
    int64_t since_ns, until_ns; /* by the core's own time; until_ns negative: for ever */
    struct answer answer;
    _Atomic uint32_t state;
};

/* The command that is run for a lost server. */
struct fencing {
    struct shared *shared;
    aoe_path path;
    int runs;
    int64_t after_ns;
};

/* The same for what an earlier door left. */
enum { FENCE_RESTS, FENCE_RUNS, FENCED_WELL, FENCED_NOT };
struct settling {
    aoe_path path; /* whose server is fenced */
    _Atomic uint32_t fate;
    int64_t fence_ns, tell_ns; /* not before */
};

struct shared {
    struct shared_settings set;
    aoe_core *core;
    aoe_remote *remote;
    pthread_mutex_t lock;
    _Atomic(struct waiter *) inbox;
    _Atomic(struct waiter *) leader;
    struct waiter *ended; /* to be told so when the lock is given up */
    struct link open;     /* the oldest first */
    int stopped, ends;
    int alone; /* the leader's own request is the only one */
    int64_t spin_ns;
    int64_t look_ns; /* when to ask again whether it ends */
    _Atomic uint32_t inside, stopping;
    pthread_t keeper_id;
    int kept;
    struct waiter keeper;
    uint64_t news;
    aoe_path known[PATHS_MAX];
    uint32_t known_count;
    struct fencing fencing[PATHS_MAX];
    struct settling settling;
};

/* As a path was when it was last looked at; NULL for one that is new. */
static inline const aoe_path *known_as(const struct shared *s, uint32_t number)
{
    for (uint32_t i = 0; i < s->known_count; i++)
        if (s->known[i].number == number)
            return &s->known[i];
    return NULL;
}

#endif
