/* Finding paths: config queries for every address on every port, and the servers that answer.
 * As aoe/initiator/discovery.py. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"

static int leads_to(const struct path *path, uint32_t address)
{
    return ((uint32_t)path->shelf << 8 | path->slot) == address;
}

/* Whether there is a usable path. Behind one that is refused a good server may be hidden. */
static int leads(const aoe_core *c, uint32_t port, uint32_t address)
{
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (c->paths[i]->state == PATH_USABLE && c->paths[i]->port == port && leads_to(c->paths[i], address))
            return 1;
    return 0;
}

/* Whether a path there, on any port, has been checked and found well, or not ours. */
int discovery_looked_at(const aoe_core *c, uint32_t address)
{
    for (uint32_t i = 0; i < c->paths_count; i++) {
        const struct path *path = c->paths[i];
        int known = path->state == PATH_USABLE || life_shown(path->state) == PATH_REFUSED;
        if (known && leads_to(path, address))
            return 1;
    }
    return 0;
}

void discovery_seek(aoe_core *c, int64_t now_ns)
{
    for (uint32_t p = 0; p < c->set.ports; p++)
        for (uint32_t a = 0; a < c->set.addresses; a++)
            if (c->ports[p].up && !leads(c, p, c->addresses[a]))
                board_query(c, p, wire_all(), c->addresses[a] >> 8, c->addresses[a] & 0xFF);
    c->seek_ns = now_ns + c->seek_wait_ns;
    int64_t most = c->owner ? c->set.timing.query_idle_ns : c->set.timing.query_max_ns;
    c->seek_wait_ns = 2 * c->seek_wait_ns < most ? 2 * c->seek_wait_ns : most;
}

static int64_t rank_of(const aoe_core *c, uint32_t address)
{
    for (uint32_t a = 0; a < c->set.addresses; a++)
        if (c->addresses[a] == address)
            return a;
    return -1;
}

/* Whether the place of a path is before that of a new one. */
static int comes_before(const struct path *path, const struct path *late)
{
    return path->rank < late->rank || (path->rank == late->rank && path->port <= late->port);
}

static void join(aoe_core *c, uint32_t port, const uint8_t *raw, int64_t now_ns)
{
    struct path *path = must_allocate(NULL, sizeof *path);
    memset(path, 0, sizeof *path);
    path->number = ++c->paths_made;
    path->port = port;
    path->offers = health_offers_of(raw);
    link_init(&path->refused);
    sizes_init(&path->sizes, &c->set.timing);
    health_fit(c, path, now_ns);
    path->shelf = wire_shelf(raw);
    path->slot = wire_of(raw)->slot;
    path->rank = (uint32_t)rank_of(c, (uint32_t)path->shelf << 8 | path->slot);
    memcpy(path->mac, wire_of(raw)->src, MAC_BYTES);
    memcpy(path->own, c->ports[port].mac, MAC_BYTES);
    channel_init(c, path, health_window_of(c, port, raw), c->first_tag + c->paths_made * TAG_STEP,
              board_quiesce_ns(c, c->set.timing.foreign_age_ns));
    path->bound_ns = board_bound_ns(c, c->set.timing.foreign_age_ns);
    uint32_t at = 0;
    while (at < c->paths_count && comes_before(c->paths[at], path))
        at++;
    memmove(&c->paths[at + 1], &c->paths[at], (c->paths_count - at) * sizeof *c->paths);
    c->paths[at] = path;
    c->paths_count++;
    c->news++;
    looks_look(c, path, now_ns);
}

/* Whether it makes room: what was never usable, when it is lost, or at any time for a server that answered well; what
 * was usable for such a server only, when no copy is of unknown fate there. */
static int replaceable(const struct path *path, int by_good)
{
    int over = path_is_lost(path) && !channel_uncertain(path);
    if (path->state == PATH_USABLE || path_load(path) != (path->check != NULL))
        return 0;
    return path->usable_ns ? by_good && over : by_good || over;
}

/* Whether another one makes room before it does: it was never usable, was silent for longer, is there for longer. */
static int goes_first(const struct path *path, const struct path *other)
{
    int known = path->usable_ns > 0, other_known = other->usable_ns > 0;
    if (known != other_known)
        return other_known;
    return path->heard_ns != other->heard_ns ? path->heard_ns < other->heard_ns : path->number < other->number;
}

/* A path that nothing was asked of but what it leads to makes room. */
static void forget(aoe_core *c, uint32_t at)
{
    struct path *path = c->paths[at];
    assert(c->effects_count == 0 && "nothing of it is to be seen to");
    channel_settle_all(c, path);
    if (path->check)
        channel_end(c, path, path->check);
    free(path);
    c->paths_count--;
    memmove(&c->paths[at], &c->paths[at + 1], (c->paths_count - at) * sizeof *c->paths);
    c->last = NULL;
}

/* What is asked of those that there is no place for. */
static void ask_stranger(aoe_core *c, uint32_t port, const uint8_t *raw, int64_t now_ns)
{
    const struct wire *said = wire_of(raw);
    uint32_t tag = strangers_tag(&c->strangers, port, raw);
    c->counters[AOE_TOO_MANY_PATHS]++;
    if (strangers_may_ask(&c->strangers, c->set.timing.pulse_ns, now_ns))
        send_frame(c, port, said->src, c->ports[port].mac, wire_shelf(raw), said->slot, COMMAND_ATA, tag, &board_identify);
}

/* Whether a server gets a place; if there is none, it is asked what it is. */
static int has_room(aoe_core *c, uint32_t port, const uint8_t *raw, int64_t now_ns)
{
    uint32_t at = PATHS_MAX;
    if (c->paths_count < PATHS_MAX)
        return 1;
    int welcome = strangers_welcome(&c->strangers, port, raw);
    for (uint32_t i = 0; i < c->paths_count; i++) {
        const struct path *path = c->paths[i];
        if (replaceable(path, welcome) && path != c->unflushed && (at == PATHS_MAX || goes_first(path, c->paths[at])))
            at = i;
    }
    if (at == PATHS_MAX)
        ask_stranger(c, port, raw, now_ns);
    else
        forget(c, at);
    return at < PATHS_MAX;
}

/* A server without a place says what it is. */
void discovery_stranger_reply(aoe_core *c, uint32_t port, const uint8_t *raw, uint32_t length)
{
    const uint8_t *identity = raw + ATA_HEADER;
    uint32_t address = wire_address(raw);
    int told = reply_judge(raw, length, COMMAND_ATA, ATA_HEADER + SECTOR) == REPLY_GOOD;
    if (!told || rank_of(c, address) < 0 || !c->ports[port].up) {
        c->counters[AOE_UNFIT_REPLY]++;
        return;
    }
    if ((c->has_facts && c->chosen && !facts_same_serial(identity, c->facts)) || facts_unfit(identity))
        return;
    strangers_invite(&c->strangers, port, raw);
    board_query(c, port, wire_of(raw)->src, wire_shelf(raw), wire_of(raw)->slot);
}

void discovery_config_reply(aoe_core *c, uint32_t port, struct path *path, const uint8_t *raw, uint32_t length,
                            int asked,
                         int64_t now_ns)
{
    uint32_t address = wire_address(raw);
    if (!health_config_fits(raw, length) || rank_of(c, address) < 0 || !c->ports[port].up) {
        c->counters[AOE_UNFIT_REPLY]++;
        return;
    }
    if (!path) {
        if (has_room(c, port, raw, now_ns))
            join(c, port, raw, now_ns);
        return;
    }
    if (asked) {
        channel_heard(path, now_ns);
    } else { /* an advertisement: the server may have started again, and knows nothing of what it was asked */
        path->vouched = 0;
        if (path->check && now_ns - path->check->sent_ns >= c->set.timing.rto_first_ns) /* not on its way */
            exchange_resend(c, path, path->check, now_ns);
    }
    health_takes(c, path, raw, now_ns);
    board_note(c, path, asked ? HAPPENS_ANSWERS : HAPPENS_TELLS, WHY_NONE);
}

static uint32_t address_of(const struct path *path) { return (uint32_t)path->shelf << 8 | path->slot; }

struct path *discovery_path_of(const aoe_core *c, uint32_t port, const uint8_t *raw)
{
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct path *path = c->paths[i];
        if (path->port == port && address_of(path) == wire_address(raw) && same_mac(path->mac, wire_of(raw)->src))
            return path;
    }
    return NULL;
}

static int was_asked(const aoe_core *c, uint32_t tag)
{
    uint32_t n = c->asked_count < ASKED_MAX ? c->asked_count : ASKED_MAX;
    while (n--)
        if (c->asked[n] == tag)
            return 1;
    return 0;
}

/* Whether a frame is the answer to a query of ours, or an advertisement. */
int discovery_tells_of_itself(const aoe_core *c, const uint8_t *raw)
{
    uint32_t tag = wire_tag(raw);
    int is_expected = !(tag & USER_TAG) || was_asked(c, tag);
    return wire_of(raw)->command == COMMAND_CONFIG && !wire_is_error(raw) && is_expected;
}
