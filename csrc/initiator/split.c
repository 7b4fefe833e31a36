/* A request in pieces, each of which fits one message; or why it is refused. As aoe/initiator/split.py and core.py. */
#include <stdlib.h>
#include <string.h>

#include "core.h"

static void enter(aoe_core *c, struct piece *p, int64_t now_ns)
{
    ranges_enter(&c->ranges, &p->lock);
    if (!p->lock.waits)
        progress_go(c, p, now_ns);
}

static void transfer(aoe_core *c, struct asked *a, int64_t now_ns)
{
    const aoe_request *r = &a->request;
    uint64_t lba = r->offset / SECTOR, last = (r->offset + r->length + SECTOR - 1) / SECTOR;
    uint32_t frame = session_frame(c, r->verb == AOE_VERB_READ ? LANE_READS : LANE_CHANGES);
    for (uint64_t next; r->length && lba < last; lba = next) {
        next = lba + frame < last ? lba + frame : last;
        struct piece *p = pieces_new(c, a, lba, next, (uint32_t)(next - lba));
        if (r->verb == AOE_VERB_READ) {
            p->free = !ranges_touched(&c->ranges, lba, next);
            pieces_carry_on(c, p, p->count, now_ns);
            continue;
        }
        enter(c, p, now_ns);
    }
}

/* The ranges of a TRIM, and in how many blocks they are. */
static uint8_t *trim_ranges(uint64_t lba, uint64_t end, uint32_t *blocks)
{
    uint64_t ranges = (end - lba + RANGE_SECTORS_MAX - 1) / RANGE_SECTORS_MAX;
    *blocks = (uint32_t)((ranges + WIRE_RANGES - 1) / WIRE_RANGES);
    struct wire_range *data = must_allocate(NULL, (size_t)*blocks * SECTOR), *at = data;
    memset(data, 0, (size_t)*blocks * SECTOR);
    for (uint64_t count; lba < end; lba += count, at++) {
        count = end - lba < RANGE_SECTORS_MAX ? end - lba : RANGE_SECTORS_MAX;
        wire_put_little(at->lba, LBA_BYTES, lba);
        wire_put_little(at->count, sizeof at->count, count);
    }
    return (uint8_t *)data;
}

/* Whole sectors only; each piece is as many ranges as fit one request. */
static void trim(aoe_core *c, struct asked *a, int64_t now_ns)
{
    const aoe_request *r = &a->request;
    uint64_t lba = (r->offset + SECTOR - 1) / SECTOR, last = (r->offset + r->length) / SECTOR;
    uint32_t blocks = trim_blocks_of(c->facts), frame = session_frame(c, LANE_CHANGES), used;
    blocks = blocks < frame ? blocks : frame;
    uint64_t most = (uint64_t)blocks * WIRE_RANGES * RANGE_SECTORS_MAX;
    for (uint64_t next; lba < last; lba = next) {
        next = lba + most < last ? lba + most : last;
        uint8_t *data = trim_ranges(lba, next, &used);
        struct piece *p = pieces_new(c, a, lba, next, used);
        p->data = data;
        enter(c, p, now_ns);
    }
}

static void ask(aoe_core *c, struct asked *a, struct path *path, int64_t now_ns)
{
    aoe_request *r = &a->request;
    struct piece *p = pieces_new(c, a, 0, 1, 1);
    struct operation *o;
    if (r->verb == AOE_VERB_ASK) {
        o = operation_new(c, p, LANE_READS, (uint32_t)r->length);
        p->data = must_allocate(NULL, r->data_length);
        if (r->data_length)
            memcpy(p->data, r->data, r->data_length);
        link_append(&c->messages, &p->message);
        o->body = (struct body){.data = p->data, .data_length = (uint32_t)r->data_length};
        o->command = (uint8_t)r->offset;
        o->only = path;
    } else {
        o = operation_new(c, p, LANE_READS, ATA_HEADER + SECTOR);
        operation_registers(o, 0, 1, IDENTIFY_DEVICE, 0xA0ull << 24);
    }
    session_start(c, o, now_ns);
}

/* Whether there is memory for as many pieces as a request may have: a large one is refused alone, before it begins. */
static int is_room_for(aoe_core *c, const aoe_request *r)
{
    uint32_t frame = session_frame(c, r->verb == AOE_VERB_READ ? LANE_READS : LANE_CHANGES);
    int moves = r->verb == AOE_VERB_READ || r->verb == AOE_VERB_WRITE || r->verb == AOE_VERB_WRITE_FUA;
    uint64_t pieces = moves ? r->length / SECTOR / frame + 2 : 1;
    return pool_reserve(&c->pieces, pieces) && pool_reserve(&c->operations, pieces) &&
           pool_reserve(&c->exchanges, pieces) && pool_reserve(&c->copies, pieces);
}

uint32_t split_refused(aoe_core *c, const aoe_request *r, const struct path *path)
{
    if (r->verb == AOE_VERB_ASK)
        return path ? AOE_ENDED_OK : AOE_ENDED_OUT_OF_RANGE;
    uint64_t size = c->sectors * SECTOR;
    if (!c->has_facts || !c->chosen || r->offset > size || r->length > size - r->offset)
        return AOE_ENDED_OUT_OF_RANGE;
    if (r->verb == AOE_VERB_TRIM && !trim_blocks_of(c->facts))
        return AOE_ENDED_UNSUPPORTED;
    if (c->pending >= REQUESTS_MAX)
        return AOE_ENDED_TOO_MANY;
    return is_room_for(c, r) ? AOE_ENDED_OK : AOE_ENDED_NO_MEMORY;
}

void split_begin(aoe_core *c, struct asked *a, struct path *path, int64_t now_ns)
{
    aoe_request *r = &a->request;
    switch (r->verb) {
    case AOE_VERB_ASK:
    case AOE_VERB_IDENTIFY:
        ask(c, a, path, now_ns);
        return;
    case AOE_VERB_FLUSH:
        progress_flush(c, a, now_ns);
        return;
    case AOE_VERB_TRIM:
        trim(c, a, now_ns);
        break;
    case AOE_VERB_READ:
        a->own_data = !r->data && r->length;
        if (a->own_data && !(r->data = malloc(r->length))) {
            progress_end(c, a, AOE_ENDED_NO_MEMORY);
            return;
        }
        r->data_length = r->length;
        transfer(c, a, now_ns);
        break;
    default:
        a->flushes = r->verb == AOE_VERB_WRITE_FUA && !fua_of(c->facts);
        r->data_length = 0;
        transfer(c, a, now_ns);
    }
    if (!a->left)
        progress_end(c, a, AOE_ENDED_OK);
}
