/* Servers that tell of themselves while every place for a way is taken. Invented ones keep out no good one:
 * - each is asked by IDENTIFY, with a tag that is made of its address: nothing is kept of it;
 * - one that answers that it may be the disk is invited: when it tells of itself once more, it gets the place of a way
 *   that was never usable, or of one that is of no use any more. */
#include <string.h>

#include "initiator.h"

enum { FNV_PRIME = 0x01000193, MAC_AT = 6, ADDRESS_AT = 16 };

/* MAC, address and our port. */
static void name_of(uint8_t *name, uint32_t port, const uint8_t *raw)
{
    memcpy(name, raw + MAC_AT, 6);
    memcpy(name + 6, raw + ADDRESS_AT, 3);
    name[9] = (uint8_t)port;
}

uint32_t strangers_tag(const struct strangers *s, uint32_t port, const uint8_t *raw)
{
    uint8_t name[STRANGER_BYTES];
    uint32_t value = s->seed;
    name_of(name, port, raw);
    for (uint32_t i = 0; i < sizeof name; i++)
        value = (value ^ name[i]) * FNV_PRIME;
    return USER_TAG | value;
}

int strangers_may_ask(struct strangers *s, int64_t now_ns)
{
    if (now_ns - s->since_ns >= PULSE_NS) {
        s->since_ns = now_ns;
        s->asked = 0;
    }
    return ++s->asked <= STRANGERS_MAX;
}

static uint32_t find(const struct strangers *s, const uint8_t *name)
{
    uint32_t at = 0;
    while (at < s->invited_count && memcmp(s->invited[at], name, STRANGER_BYTES))
        at++;
    return at;
}

static void leave_out(struct strangers *s, uint32_t at)
{
    s->invited_count--;
    memmove(s->invited[at], s->invited[at + 1], (s->invited_count - at) * sizeof s->invited[0]);
}

void strangers_invite(struct strangers *s, uint32_t port, const uint8_t *raw)
{
    uint8_t name[STRANGER_BYTES];
    name_of(name, port, raw);
    if (find(s, name) < s->invited_count)
        return;
    if (s->invited_count == INVITED_MAX)
        leave_out(s, 0);
    memcpy(s->invited[s->invited_count++], name, sizeof name);
}

int strangers_welcome(struct strangers *s, uint32_t port, const uint8_t *raw)
{
    uint8_t name[STRANGER_BYTES];
    name_of(name, port, raw);
    uint32_t at = find(s, name);
    if (at == s->invited_count)
        return 0;
    leave_out(s, at);
    return 1;
}
