/* What the rooms of a session share: what is to be seen to, and questions of our own.
 * As aoe/initiator/board.py. */
#include "session.h"

const struct body board_read_config = {.head_length = 8};
const struct body board_identify = {
    .ata = {.count = 1, .opcode = IDENTIFY_DEVICE, .lba = {0, 0, 0, 0xA0}},
    .head_length = sizeof board_identify.ata,
};

struct event *board_event(aoe_core *c)
{
    if (c->events_count == c->events_room) {
        c->events_room = c->events_room ? 2 * c->events_room : 64;
        c->events = must_allocate(c->events, c->events_room * sizeof *c->events);
    }
    return &c->events[c->events_count++];
}

/* Something has happened to a path: it is seen to in its turn. */
void board_note(aoe_core *c, struct path *path, int happens, int reason)
{
    *channel_effect(c) = (struct effect){.what = EFFECT_HAPPENED, .path = path, .happens = happens, .reason = reason};
}

void board_query(aoe_core *c, uint32_t port, const uint8_t *mac, uint32_t shelf, uint32_t slot)
{
    c->tag = (c->tag + 1) & TAG_MASK;
    c->asked[c->asked_count++ % ASKED_MAX] = USER_TAG | c->tag;
    send_frame(c, port, mac, c->ports[port].mac, shelf, slot, COMMAND_CONFIG, USER_TAG | c->tag, &board_read_config);
}

int64_t board_bound_ns(const aoe_core *c, int64_t age_ns)
{
    return c->set.timing.network_lifetime_ns + age_ns + c->set.timing.completion_ns;
}

int64_t board_quiesce_ns(const aoe_core *c, int64_t age_ns)
{
    return c->set.hold ? NEVER_NS : board_bound_ns(c, age_ns);
}

struct body board_reading(uint8_t count)
{
    struct wire_registers asked = {.flags = AFLAG_EXTENDED, .count = count, .opcode = READ_SECTORS_EXT};
    return (struct body){.ata = asked, .head_length = sizeof asked};
}

struct path *path_numbered(const aoe_core *c, uint32_t number)
{
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (c->paths[i]->number == number)
            return c->paths[i];
    return NULL;
}
