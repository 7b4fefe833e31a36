/* How requests get on: a piece may begin, is answered, and the request ends. As aoe/initiator/progress.py. */
#include <assert.h>
#include <string.h>

#include "core.h"

static uint32_t flush_opcode(const aoe_core *c)
{
    uint32_t supported = word_of(c->facts, 83);
    return supported & 0x2000 ? FLUSH_CACHE_EXT : supported & 0x1000 ? FLUSH_CACHE : 0;
}

/* Requests */

void progress_end(aoe_core *c, struct asked *a, uint32_t outcome)
{
    if (outcome != AOE_ENDED_OK) {
        a->request.outcome = outcome;
        a->request.data_length = 0;
    }
    assert(!a->ended);
    a->ended = 1;
    link_append(&c->done, &a->done);
}

/* One piece of a request has its answer. */
static void part(aoe_core *c, struct asked *a, struct piece *p)
{
    assert(a->left && p->request == a && !a->ended);
    link_remove(&p->of_request);
    p->request = NULL;
    if (--a->left || (a->flushes && !a->worst))
        return;
    progress_end(c, a, a->request.outcome);
}

static void worse(struct asked *a, uint32_t outcome, uint32_t status, uint32_t error, uint64_t lba)
{
    if (a->worst && lba >= a->request.lba)
        return;
    a->worst = 1;
    a->request.outcome = outcome;
    a->request.status = status;
    a->request.error = error;
    a->request.lba = lba;
}

/* Beginning */

/* Whether a write waits until a server that is to be proved has shown its range. */
static int is_looked_for(aoe_core *c, struct piece *p, int64_t now_ns)
{
    return c->proof.wanted && p->request->request.verb != AOE_VERB_TRIM && echo_takes(c, p, pieces_bytes(p), now_ns);
}

/* Its range is its own now. One that no caller waits for gives it up. */
void progress_go(aoe_core *c, struct piece *p, int64_t now_ns)
{
    if (!p->request) {
        pieces_rest(c, p);
        return;
    }
    p->lane = pieces_patches(p) ? LANE_READS : LANE_CHANGES;
    if (p->lane == LANE_READS || !is_looked_for(c, p, now_ns))
        pieces_carry_on(c, p, p->count, now_ns);
}

/* As a request of its own, or behind a durable write; where the disk has no cache, it is done. */
void progress_flush(aoe_core *c, struct asked *a, int64_t now_ns)
{
    struct piece *p = pieces_new(c, a, 0, 1, 1);
    a->changes = c->changes;
    a->losses_told = c->losses_told;
    if (!flush_opcode(c)) {
        part(c, a, p);
        pieces_end(c, p);
        return;
    }
    struct operation *o = operation_new(c, p, LANE_SYNCS, ATA_HEADER);
    operation_registers(o, 0, 0, flush_opcode(c), 0);
    session_start(c, o, now_ns);
}

/* Answers */

/* So much more of a piece was read or changed. */
static void advance(aoe_core *c, struct asked *a, struct piece *p, const struct event *e, int64_t now_ns)
{
    uint32_t sectors = e->operation->sectors;
    assert(sectors && p->at + sectors <= p->count);
    if (p->lane == LANE_READS)
        pieces_keep(p, e->raw + ATA_HEADER, sectors);
    p->at += sectors;
    if (p->at == p->count && p->lane == LANE_READS && a->request.verb != AOE_VERB_READ) {
        pieces_patch(p);
        if (is_looked_for(c, p, now_ns))
            return;
    }
    if (p->at < p->count) {
        pieces_carry_on(c, p, session_frame(c, p->lane), now_ns);
        return;
    }
    part(c, a, p);
    if (p->echo)
        echo_acknowledged(c, p, e->path, now_ns);
}

static void keep(struct asked *a, const uint8_t *bytes, uint32_t length)
{
    a->request.data = must_allocate(NULL, length);
    a->request.data_length = length;
    a->own_data = 1;
    memcpy(a->request.data, bytes, length);
}

/* What was one message. */
static void answered_well(aoe_core *c, struct asked *a, struct piece *p, const struct event *e, int64_t now_ns)
{
    uint32_t verb = a->request.verb;
    if (verb == AOE_VERB_IDENTIFY) {
        keep(a, e->raw + ATA_HEADER, SECTOR);
        if (!session_identified(c, e->path, e->raw, (struct stamp){0}, now_ns))
            worse(a, AOE_ENDED_REFUSED, 0, 0, 0);
    } else if (verb == AOE_VERB_ASK) {
        keep(a, e->raw, e->length);
    } else if (!session_flushed(c, a->changes, a->losses_told)) {
        worse(a, AOE_ENDED_CACHE_LOST, 0, 0, 0);
    }
    part(c, a, p);
}

static void failed(aoe_core *c, struct asked *a, struct piece *p, const struct event *e, int64_t now_ns)
{
    const struct wire *said = wire_of(e->raw);
    if (wire_is_error(e->raw))
        worse(a, AOE_ENDED_AOE_ERROR, 0, said->error, 0);
    else
        worse(a, AOE_ENDED_ATA_ERROR, said->ata.status, said->ata.error, wire_lba(e->raw));
    part(c, a, p);
    if (p->echo)
        echo_given_up(c, p, now_ns);
}

void progress_answered(aoe_core *c, struct piece *p, const struct event *e, int64_t now_ns)
{
    struct asked *a = p->request;
    if (!a)
        return;
    if (!e->good)
        failed(c, a, p, e, now_ns);
    else if (e->operation->sectors)
        advance(c, a, p, e, now_ns);
    else
        answered_well(c, a, p, e, now_ns);
    if (a->flushes && !a->left && !a->worst) { /* a durable write to a disk that knows only FLUSH_CACHE */
        a->flushes = 0;
        progress_flush(c, a, now_ns);
    }
}
