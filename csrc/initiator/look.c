/* What the proof looks at: a range, read through one server and no other; and which processes the servers are. */
#include "core.h"

struct lives lives_of(const struct path *owner, const struct path *path)
{
    return (struct lives){owner->ours, path->ours, owner->instance, path->instance};
}

int lives_last(const struct lives *one, const struct path *owner, const struct path *path)
{
    struct lives now = lives_of(owner, path);
    return one->owner_ours == now.owner_ours && one->ours == now.ours && one->owner == now.owner &&
           one->instance == now.instance;
}

void look_begin(aoe_core *c, struct look *l, struct path *path, uint64_t lba, uint32_t sectors, int64_t now_ns)
{
    struct operation *o = operation_for(c, path, ATA_HEADER + sectors * SECTOR);
    operation_registers(o, AFLAG_EXTENDED, sectors, READ_SECTORS_EXT, lba);
    o->look = l;
    o->sectors = sectors;
    l->operation = o;
    l->is_answered = 0;
    session_start(c, o, now_ns);
}

void look_end(aoe_core *c, struct look *l, int64_t now_ns)
{
    struct operation *o = l->operation;
    l->operation = NULL;
    if (!o)
        return;
    o->look = NULL;
    if (o->open)
        session_abandon(c, o, now_ns);
}

const uint8_t *look_bytes(const struct event *e)
{
    return e->good ? e->raw + ATA_HEADER : NULL;
}
