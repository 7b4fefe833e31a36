/* Sleep until a word changes, futex(2), among the threads of this process. */
#ifndef AOE_FUTEX_H
#define AOE_FUTEX_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static inline long futex(_Atomic uint32_t *word, int what, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, what | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

#endif
