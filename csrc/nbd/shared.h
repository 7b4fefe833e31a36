/* One disk behind AoE, used by many threads at once: each asks and waits for its answer. */
#ifndef AOE_SHARED_H
#define AOE_SHARED_H

#include "abi.h"

enum { ASK_TIMED_OUT = 64, ASK_CLOSED }; /* outcomes besides AOE_ENDED_... */

struct shared_settings {
    aoe_core_settings core;
    const aoe_remote_port *ports;
    int64_t timeout_ns; /* of a request; negative: none */
    char **fence;       /* a command and its arguments, or NULL; two more are added */
    void (*tell)(const aoe_path *path); /* a path has changed */
    void (*tell_unheeded)(const aoe_path *path); /* its writes were not answered, and are those of another stream now */
    void (*tell_left)(const aoe_debt *left, int is_known); /* it is waited for, and whether it is known where it went */
    int (*all_is_over)(void);                              /* whether the user has said that it is */
    void (*report)(void);             /* now and then, when shared_paths may be asked */
    void (*tell_size)(const aoe_path *path); /* something else was found out about the size of its frames */
    int (*ending)(void);              /* whether it is to end: no thread should wait for long then */
    void (*idle)(void);               /* it is to end, and no thread waits */
};

struct answer {
    uint32_t outcome, status, error;
    uint64_t lba;
};

struct shared;

/* Negative errno. All that `settings` refers to stays. */
int shared_open(struct shared **shared, const struct shared_settings *settings);
/* Look for paths until one is chosen; 0 where there was none for so long. Before shared_start. */
int shared_find(struct shared *s, int64_t for_ns);
/* `keep` as in aoe_remote_keep. Before shared_start. */
void shared_keep(struct shared *s, void (*keep)(const aoe_core *core, int sending));
/* Wait until what an earlier life had under way is over. Before shared_start. */
void shared_settle(struct shared *s);
/* From here on a thread looks after the paths while none asks. */
int shared_start(struct shared *s);
/* A thread that still waits gets ASK_CLOSED, and so does one that asks from now on. */
void shared_stop(struct shared *s);
void shared_close(struct shared *s);

/* With `data` as in aoe_core_start; `for_ns` negative: as long as the settings say. */
struct answer shared_ask(struct shared *s, uint32_t verb, uint64_t offset, uint64_t length, uint8_t *data,
                         int64_t for_ns);
int shared_disk(struct shared *s, aoe_disk *disk);
uint32_t shared_paths(struct shared *s, aoe_path *paths, uint32_t room);
const char *shared_interface(const struct shared *s, uint32_t port);

#endif
