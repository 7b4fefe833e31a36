/* The pieces of requests: what each of them asks for, and which ranges they hold. As aoe/initiator/pieces.py. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"

/* Memory that what is out may refer to */

void pieces_discard(aoe_core *c, void *buffer)
{
    if (!buffer)
        return;
    if (!c->out_count) {
        free(buffer);
        return;
    }
    if (c->garbage_count == c->garbage_room) {
        size_t room = c->garbage_room ? 2 * c->garbage_room : 16;
        void **more = realloc(c->garbage, room * sizeof *more);
        if (!more)
            return; /* better kept for ever than freed too early */
        c->garbage = more;
        c->garbage_room = room;
    }
    c->garbage[c->garbage_count++] = buffer;
}

/* Their life */

void pieces_init(aoe_core *c)
{
    ranges_init(&c->ranges);
    link_init(&c->messages);
    link_init(&c->ready);
    pool_init(&c->operations, sizeof(struct operation));
    pool_init(&c->pieces, sizeof(struct piece));
    pool_init(&c->refusals, sizeof(struct refusal));
}

struct piece *pieces_new(aoe_core *c, struct asked *a, uint64_t first, uint64_t last, uint32_t count)
{
    struct piece *p = pool_take(&c->pieces);
    lock_init(&p->lock, first, last);
    link_init(&p->of_request);
    link_init(&p->ready);
    link_init(&p->message);
    c->pending++;
    p->count = count;
    p->request = a;
    link_append(&a->pieces, &p->of_request);
    a->left++;
    return p;
}

/* Those behind a lock may go. Only pieces are behind another. */
static void leave(aoe_core *c, struct range_lock *lock)
{
    ranges_leave(lock);
    for (uint32_t i = 0; i < lock->followers_count; i++)
        if (!lock->followers[i]->waits)
            link_append(&c->ready, &OWNER_OF(lock->followers[i], struct piece, lock)->ready);
}

void pieces_close(aoe_core *c, struct range_lock *lock)
{
    c->pending++;
    ranges_enter(&c->ranges, lock);
    assert(!lock->waits);
}

void pieces_open(aoe_core *c, struct range_lock *lock)
{
    assert(c->pending);
    c->pending--;
    leave(c, lock);
    lock_end(lock);
}

void pieces_end(aoe_core *c, struct piece *p)
{
    assert(c->pending && !p->lock.entered && !p->operation && link_alone(&p->ready));
    c->pending--;
    link_remove(&p->message);
    pieces_discard(c, p->data);
    lock_end(&p->lock);
    pool_give(&c->pieces, p);
}

void pieces_rest(aoe_core *c, struct piece *p)
{
    if (p->operation || p->older || p->echo)
        return;
    if (p->lock.entered)
        leave(c, &p->lock);
    pieces_end(c, p);
}

/* Operations */

struct operation *operation_for(aoe_core *c, struct path *only, uint32_t reply_min)
{
    struct operation *o = pool_take(&c->operations);
    link_init(&o->open_link);
    link_init(&o->held_link);
    link_init(&o->exchanges);
    o->reply_min = reply_min;
    o->open = 1;
    o->only = only;
    return o;
}

struct operation *operation_new(aoe_core *c, struct piece *p, uint32_t lane, uint32_t reply_min)
{
    struct operation *o = operation_for(c, NULL, reply_min);
    o->lane = (uint8_t)lane;
    o->piece = p;
    if (p->operation && p->operation->lane == LANE_CHANGES)
        p->older++;
    else if (p->operation)
        p->operation->piece = NULL; /* its copies are of no interest any more */
    p->operation = o;
    return o;
}

void operation_registers(struct operation *o, uint32_t flags, uint32_t count, uint32_t opcode, uint64_t lba)
{
    struct body *b = &o->body;
    b->ata = (struct wire_registers){.flags = (uint8_t)flags, .count = (uint8_t)count, .opcode = (uint8_t)opcode};
    wire_put_little(b->ata.lba, LBA_BYTES, lba);
    b->head_length = sizeof b->ata;
}

static void reading(struct operation *o, const struct piece *p)
{
    operation_registers(o, AFLAG_EXTENDED, o->sectors, READ_SECTORS_EXT, p->lock.first + p->at);
    o->reply_min += o->sectors * SECTOR;
}

const uint8_t *pieces_bytes(const struct piece *p)
{
    const aoe_request *r = &p->request->request;
    const uint8_t *data = p->data ? p->data : r->data + (p->lock.first * SECTOR - r->offset);
    return data + (size_t)p->at * SECTOR;
}

static void writing(struct operation *o, const struct piece *p)
{
    const struct asked *a = p->request;
    int fua = a->request.verb == AOE_VERB_WRITE_FUA && !a->flushes;
    uint32_t flags = AFLAG_EXTENDED | AFLAG_WRITE, opcode = fua ? WRITE_DMA_FUA_EXT : WRITE_SECTORS_EXT;
    if (a->request.verb == AOE_VERB_TRIM) {
        operation_registers(o, flags, o->sectors, DATA_SET_MANAGEMENT, 0);
        o->body.ata.feature = DSM_TRIM;
    } else {
        operation_registers(o, flags, o->sectors, opcode, p->lock.first + p->at);
    }
    o->body.data = pieces_bytes(p);
    o->body.data_length = o->sectors * SECTOR;
}

/* Ask for what comes next of it, at most so many sectors. */
void pieces_carry_on(aoe_core *c, struct piece *p, uint32_t most, int64_t now_ns)
{
    struct operation *o = operation_new(c, p, p->lane, ATA_HEADER);
    o->free = p->free;
    o->sectors = most < p->count - p->at ? most : p->count - p->at;
    if (p->lane == LANE_READS)
        reading(o, p);
    else
        writing(o, p);
    session_start(c, o, now_ns);
}

void pieces_write(aoe_core *c, struct piece *p, int64_t now_ns)
{
    if (p->request)
        pieces_carry_on(c, p, p->count, now_ns);
    else
        pieces_rest(c, p);
}

void pieces_settled(aoe_core *c, struct operation *o)
{
    struct piece *p = o->piece;
    if (p && p->operation == o) {
        p->operation = NULL;
    } else if (p) {
        assert(p->older);
        p->older--;
    }
    if (o->refusal)
        pool_give(&c->refusals, o->refusal);
    pool_give(&c->operations, o);
    if (p)
        pieces_rest(c, p);
}

/* Odd ends */

int pieces_patches(const struct piece *p)
{
    const aoe_request *r = &p->request->request;
    if (r->verb == AOE_VERB_TRIM)
        return 0;
    return p->lock.first * SECTOR < r->offset || p->lock.last * SECTOR > r->offset + r->length;
}

/* What `sectors` from a piece's `at` on and its request have in common. */
struct common {
    uint64_t start, skip, size; /* in the request, in the sectors, bytes */
};

static struct common common_bytes(const struct piece *p, uint32_t sectors)
{
    const aoe_request *r = &p->request->request;
    uint64_t at = (p->lock.first + p->at) * SECTOR, size;
    struct common both = {at > r->offset ? at - r->offset : 0, r->offset > at ? r->offset - at : 0, 0};
    size = (uint64_t)sectors * SECTOR - both.skip;
    both.size = size < r->length - both.start ? size : r->length - both.start;
    return both;
}

/* What was read: the caller's, or what is to be patched. */
void pieces_keep(struct piece *p, const uint8_t *data, uint32_t sectors)
{
    if (p->request->request.verb == AOE_VERB_READ) {
        struct common both = common_bytes(p, sectors);
        memcpy(p->request->request.data + both.start, data + both.skip, both.size);
        return;
    }
    if (!p->data)
        p->data = must_allocate(NULL, (size_t)p->count * SECTOR);
    memcpy(p->data + (size_t)p->at * SECTOR, data, (size_t)sectors * SECTOR);
}

/* The sectors as they are, with the part of them that the request covers: this is written. */
void pieces_patch(struct piece *p)
{
    p->lane = LANE_CHANGES;
    p->at = 0;
    struct common both = common_bytes(p, p->count);
    memcpy(p->data + both.skip, p->request->request.data + both.start, both.size);
}
