/* How large frames may be on one path, learned by trying; in sectors. The rules are in aoe/initiator/sizes.py. */
#ifndef AOE_SIZES_H
#define AOE_SIZES_H

#include <stdint.h>

#include "shared/generated.h"

enum { SMALL = DIRECTIONS };

struct size_probe {
    uint32_t tag; /* 0: none, or it was answered */
    int direction; /* SMALL: the one beside the others */
    uint32_t sectors;
    uint64_t turn;
};

struct sizes {
    const aoe_timing *timing;
    uint32_t most; /* what both ends take */
    uint64_t lba;  /* where probes read */
    uint32_t passed[DIRECTIONS], tried[DIRECTIONS], losses[DIRECTIONS];
    int doubted[DIRECTIONS];
    struct size_probe sent[SIZE_PROBES_MAX];
    uint64_t turn;
    int heard, settled;
    int64_t wait_ns, due_ns, again_ns;
};

/* What others see of it. */
struct sizes_shown {
    uint32_t there, back;
    int narrow;
};

void sizes_init(struct sizes *s, const aoe_timing *timing);
uint32_t sizes_limit(const struct sizes *s, int direction);
struct sizes_shown sizes_shown(const struct sizes *s);
void sizes_fit(struct sizes *s, uint32_t most, int64_t now_ns);
void sizes_restart(struct sizes *s, int64_t now_ns);
int sizes_again(struct sizes *s, uint32_t wanted, int64_t now_ns);
void sizes_doubt(struct sizes *s, int direction, uint64_t lba, int64_t now_ns);
void sizes_stand_still(struct sizes *s, int64_t gap_ns);
/* What is to be sent; how many. */
uint32_t sizes_turn(struct sizes *s, struct size_probe *probes, int64_t now_ns);
void sizes_sent(struct sizes *s, struct size_probe probe);
struct size_probe *sizes_asked(struct sizes *s, uint32_t tag);
void sizes_answered(struct sizes *s, struct size_probe *probe);

#endif
