/* What time it is, also while the machine sleeps. */
#include "door.h"

#include <time.h>

int64_t boottime_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}
