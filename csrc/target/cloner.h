/* Clones ranges of one file into another one, which shares the blocks then, on a thread: FICLONERANGE waits for the
 * store, and keeps every writer waiting. */
#ifndef AOE_CLONER_H
#define AOE_CLONER_H

#include <stdint.h>

struct cloner;

struct cloned {
    uint32_t first, last; /* ranges */
    int error;            /* errno, 0 */
    uint64_t took_ns;
};

/* `length` bytes in ranges of `step`; `event` is an eventfd that is written whenever something is done. Descriptors are
 * copied. NULL, and an errno in *error. */
struct cloner *cloner_open(int of, int into, uint64_t length, uint64_t step, int event, int *error);

/* Begin with a range after `rest_ns`, unless one is being cloned. One that rests is replaced. */
void cloner_ask(struct cloner *cloner, uint32_t range, uint64_t rest_ns);

/* Whether something is done: what. */
int cloner_take(struct cloner *cloner, struct cloned *done);

/* It ends when what it does is over, and writes no event any more. */
void cloner_close(struct cloner *cloner);

#endif
