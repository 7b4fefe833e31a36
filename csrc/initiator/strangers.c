/* Servers that tell of themselves while every place for a path is taken. Invented ones keep out no good one:
 * - each is asked by IDENTIFY, with a tag that is made of its address: nothing is kept of it;
 * - one that answers that it may be the disk is invited: when it tells of itself once more, it gets the place of a path
 *   that was never usable, or of one that is of no use any more. */
#include <string.h>

#include "initiator.h"


static struct stranger stranger_of(uint32_t port, const uint8_t *raw)
{
    const struct wire *said = wire_of(raw);
    struct stranger server = {.slot = said->slot, .port = (uint8_t)port};
    memcpy(server.mac, said->src, sizeof server.mac);
    memcpy(server.shelf, said->shelf, sizeof server.shelf);
    return server;
}

uint32_t strangers_tag(const struct strangers *s, uint32_t port, const uint8_t *raw)
{
    struct stranger server = stranger_of(port, raw);
    const uint8_t *name = (const uint8_t *)&server;
    uint32_t value = s->seed;
    for (uint32_t i = 0; i < sizeof server; i++)
        value = (value ^ name[i]) * FNV_PRIME;
    return USER_TAG | value;
}

int strangers_may_ask(struct strangers *s, int64_t pulse_ns, int64_t now_ns)
{
    if (now_ns - s->since_ns >= pulse_ns) {
        s->since_ns = now_ns;
        s->asked = 0;
    }
    return ++s->asked <= STRANGERS_MAX;
}

static uint32_t find(const struct strangers *s, struct stranger server)
{
    uint32_t at = 0;
    while (at < s->invited_count && memcmp(&s->invited[at], &server, sizeof server))
        at++;
    return at;
}

static void leave_out(struct strangers *s, uint32_t at)
{
    s->invited_count--;
    memmove(s->invited + at, s->invited + at + 1, (s->invited_count - at) * sizeof *s->invited);
}

void strangers_invite(struct strangers *s, uint32_t port, const uint8_t *raw)
{
    struct stranger server = stranger_of(port, raw);
    if (find(s, server) < s->invited_count)
        return;
    if (s->invited_count == INVITED_MAX)
        leave_out(s, 0);
    s->invited[s->invited_count++] = server;
}

int strangers_welcome(struct strangers *s, uint32_t port, const uint8_t *raw)
{
    uint32_t at = find(s, stranger_of(port, raw));
    if (at == s->invited_count)
        return 0;
    leave_out(s, at);
    return 1;
}
