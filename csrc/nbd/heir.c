#include "heir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "door/estate.h"

enum { KNOWN_OWNER = 32 };

static struct {
    struct estate *estate;
    aoe_debt debts[DEBTS_MAX];
    uint64_t news; /* that were published */
} heir = {.news = UINT64_MAX};

int heir_is_one(void) { return heir.estate != NULL; }

/* nbdkit in the foreground ends with the thread that started it, even unasked. What a supervisor's death would leave is a door
 * that serves. */
const char *heir_open(int fd)
{
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    struct estate *estate = mmap(NULL, sizeof *estate, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (estate == MAP_FAILED)
        return strerror(errno);
    if (estate->signature != ESTATE_SIGNATURE)
        return "its supervisor is of another version";
    heir.estate = estate;
    prctl(PR_SET_PDEATHSIG, 0);
    mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT); /* without the right to it, it is as it was */
    return NULL;
}

/* A port that is not there any more: it is over by time. */
static void adopt(aoe_debt *debt, const struct estate *left, uint32_t ports)
{
    if (debt->port >= ports)
        debt->port = debt->stream = 0;
    if (left->sending) /* frames may have left later than they were made */
        debt->until_ns = left->died_ns;
}

static void prefer(const struct estate *left, uint32_t *address, uint32_t count)
{
    uint64_t owner = left->owner;
    for (uint32_t i = 1; i < count; i++)
        if (owner == (1ull << KNOWN_OWNER | address[i])) {
            memmove(&address[1], &address[0], i * sizeof *address);
            address[0] = (uint32_t)owner;
            return;
        }
}

void heir_take_over(struct shared_settings *set, uint32_t *addresses)
{
    const struct estate *left = heir.estate;
    if (!left->died_ns)
        return;
    const struct estate_slot *slot = &left->slots[left->current & 1];
    set->core.debts = slot->count < DEBTS_MAX ? slot->count : DEBTS_MAX;
    memcpy(heir.debts, slot->debts, set->core.debts * sizeof *heir.debts);
    for (uint32_t i = 0; i < set->core.debts; i++)
        adopt(&heir.debts[i], left, set->core.ports);
    set->core.debt = heir.debts;
    set->core.since_ns = left->died_ns;
    prefer(left, addresses, set->core.addresses);
}

/* The slot that is not in use is filled, and then it is in use: whenever we are killed, one of them is whole. */
static void publish(const aoe_core *core)
{
    struct estate *estate = heir.estate;
    uint32_t next = !(estate->current & 1);
    estate->slots[next].count = aoe_core_debts(core, estate->slots[next].debts);
    atomic_store(&estate->current, next);
    heir.news = aoe_core_debts_news(core);
}

static void keep(const aoe_core *core, int sending)
{
    if (heir.news != aoe_core_debts_news(core))
        publish(core);
    atomic_store_explicit(&heir.estate->sending, (uint32_t)sending, memory_order_release);
}

void heir_settle(struct shared *disk)
{
    int64_t began_ns = aoe_remote_now();
    heir.estate->fence_ns = 0;
    shared_keep(disk, keep);
    shared_settle(disk);
    heir.estate->fence_ns = aoe_remote_now() - began_ns;
}

int heir_is_over(void) { return atomic_exchange(&heir.estate->is_over, 0) != 0; }

const char *heir_meet(struct shared *disk)
{
    aoe_disk is;
    struct estate *estate = heir.estate;
    shared_disk(disk, &is);
    if (estate->is_known && memcmp(estate->serial, is.serial, sizeof is.serial))
        return "another disk is there: its serial is not that of the one in use; serve that one there again";
    memcpy(estate->serial, is.serial, sizeof is.serial);
    estate->is_known = 1;
    return NULL;
}

void heir_report(struct shared *disk)
{
    aoe_disk is;
    aoe_path paths[PATHS_MAX];
    shared_disk(disk, &is);
    if (heir.estate->size != is.size)
        heir.estate->size = is.size;
    uint32_t count = shared_paths(disk, paths, PATHS_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (paths[i].owner)
            heir.estate->owner = 1ull << KNOWN_OWNER | (uint32_t)paths[i].shelf << 8 | paths[i].slot;
}
