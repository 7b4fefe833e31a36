/* Byte ranges become requests of one frame and back: split, put in order, patched at odd ends. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "session.h"


static void go(aoe_core *c, struct piece *p, int64_t now_ns);
static void run(aoe_core *c, int64_t now_ns);

/* What the disk can do */

static uint32_t flush_opcode(const aoe_core *c)
{
    uint32_t supported = word_of(c->facts, 83);
    return supported & 0x2000 ? FLUSH_CACHE_EXT : supported & 0x1000 ? FLUSH_CACHE : 0;
}

/* Memory that what is out may refer to */

static void discard(aoe_core *c, void *buffer)
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

static struct piece *claim_new(aoe_core *c, uint64_t first, uint64_t last)
{
    struct piece *p = pool_take(&c->pieces);
    p->first = first;
    p->last = last;
    link_init(&p->of_request);
    link_init(&p->all);
    link_init(&p->wide);
    link_init(&p->nodes[0].link);
    link_init(&p->nodes[1].link);
    c->pending++;
    return p;
}

static struct piece *piece_new(aoe_core *c, struct asked *a, uint64_t first, uint64_t last, uint32_t count)
{
    struct piece *p = claim_new(c, first, last);
    p->count = count;
    p->request = a;
    link_append(&a->pieces, &p->of_request);
    a->left++;
    return p;
}

/* Only when nothing refers to it any more: no request, no range, no operation. */
static void piece_end(aoe_core *c, struct piece *p)
{
    assert(c->pending && !p->claims && !p->operation);
    c->pending--;
    link_remove(&p->all);
    discard(c, p->data);
    free(p->followers);
    pool_give(&c->pieces, p);
}

/* Requests */

static void end(aoe_core *c, struct asked *a, uint32_t outcome)
{
    if (outcome != AOE_ENDED_OK) {
        a->request.outcome = outcome;
        a->request.data_length = 0;
    }
    assert(!a->ended);
    a->ended = 1;
    link_append(&c->done, &a->done);
}

/* One piece of a request has its answer; true where the request has ended. */
static int part(aoe_core *c, struct asked *a, struct piece *p)
{
    assert(a->left && p->request == a && !a->ended);
    link_remove(&p->of_request);
    p->request = NULL;
    if (--a->left || (a->flushes && !a->worst))
        return 0;
    end(c, a, a->request.outcome);
    return 1;
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

/* Operations of pieces */

struct operation *operation_for(aoe_core *c, struct way *only, uint32_t reply_min)
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

static struct operation *operation_new(aoe_core *c, struct piece *p, uint32_t lane, uint32_t reply_min)
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

static void registers(struct body *b, uint32_t flags, uint32_t feature, uint32_t count, uint32_t opcode, uint64_t lba)
{
    b->ata = (struct wire_registers){
        .flags = (uint8_t)flags, .feature = (uint8_t)feature, .count = (uint8_t)count, .opcode = (uint8_t)opcode};
    wire_put_little(b->ata.lba, LBA_BYTES, lba);
    b->head_length = sizeof b->ata;
}

static void reading(struct operation *o, const struct piece *p)
{
    registers(&o->body, AFLAG_EXTENDED, 0, o->sectors, READ_SECTORS_EXT, p->first + p->at);
    o->reply_min += o->sectors * SECTOR;
}

/* What is written by the next sectors of it. */
static const uint8_t *bytes_of(const struct piece *p)
{
    const aoe_request *r = &p->request->request;
    const uint8_t *data = p->data ? p->data : r->data + (p->first * SECTOR - r->offset);
    return data + (size_t)p->at * SECTOR;
}

static void writing(struct operation *o, const struct piece *p)
{
    const struct asked *a = p->request;
    int fua = a->request.verb == AOE_VERB_WRITE_FUA && !a->flushes;
    uint32_t flags = AFLAG_EXTENDED | AFLAG_WRITE, opcode = fua ? WRITE_DMA_FUA_EXT : WRITE_SECTORS_EXT;
    if (a->request.verb == AOE_VERB_TRIM)
        registers(&o->body, flags, DSM_TRIM, o->sectors, DATA_SET_MANAGEMENT, 0);
    else
        registers(&o->body, flags, 0, o->sectors, opcode, p->first + p->at);
    o->body.data = bytes_of(p);
    o->body.data_length = o->sectors * SECTOR;
}

/* Ask for what comes next of it, at most so many sectors. */
static void carry_on(aoe_core *c, struct piece *p, uint32_t most, int64_t now_ns)
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

/* Whether the request covers only a part of its sectors. */
static int patches(const struct piece *p)
{
    const aoe_request *r = &p->request->request;
    if (r->verb == AOE_VERB_TRIM)
        return 0;
    return p->first * SECTOR < r->offset || p->last * SECTOR > r->offset + r->length;
}

/* What `sectors` from a piece's `at` on and its request have in common. */
struct common {
    uint64_t start, skip, size; /* in the request, in the sectors, bytes */
};

static struct common common_bytes(const struct piece *p, uint32_t sectors)
{
    const aoe_request *r = &p->request->request;
    uint64_t at = (p->first + p->at) * SECTOR, size;
    struct common both = {at > r->offset ? at - r->offset : 0, r->offset > at ? r->offset - at : 0, 0};
    size = (uint64_t)sectors * SECTOR - both.skip;
    both.size = size < r->length - both.start ? size : r->length - both.start;
    return both;
}

/* What was read: the caller's, or what is to be patched. */
static void keep_read(struct piece *p, const uint8_t *data, uint32_t sectors)
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
static void patch(struct piece *p)
{
    p->lane = LANE_CHANGES;
    p->at = 0;
    struct common both = common_bytes(p, p->count);
    memcpy(p->data + both.skip, p->request->request.data + both.start, both.size);
}

/* The range is given up; those behind may go. One that no caller waits for leaves at once, too: a queue, as there
 * may be many behind each other. */
static __attribute__((noinline)) void leave(aoe_core *c, struct piece *first, int64_t now_ns)
{
    struct link queue;
    link_init(&queue);
    link_append(&queue, &first->of_request);
    while (!link_alone(&queue)) {
        struct piece *p = OWNER_OF(queue.next, struct piece, of_request);
        link_remove(&p->of_request);
        ranges_leave(&c->ranges, p);
        for (uint32_t i = 0; i < p->followers_count; i++) {
            struct piece *follower = p->followers[i];
            if (follower->waits)
                continue;
            if (follower->request)
                go(c, follower, now_ns);
            else
                link_append(&queue, &follower->of_request);
        }
        piece_end(c, p);
    }
}

/* Whether a write waits until a server that is to be proved has shown its range. */
static int is_looked_for(aoe_core *c, struct piece *p, int64_t now_ns)
{
    return c->proof.wanted && p->request->request.verb != AOE_VERB_TRIM && proof_takes(c, p, bytes_of(p), now_ns);
}

/* Its range is its own now. */
static void go(aoe_core *c, struct piece *p, int64_t now_ns)
{
    p->lane = patches(p) ? LANE_READS : LANE_CHANGES;
    if (p->lane == LANE_READS || !is_looked_for(c, p, now_ns))
        carry_on(c, p, p->count, now_ns);
}

/* What became of operations */

/* So much more of a piece was read or changed. */
static void advance(aoe_core *c, struct asked *a, struct piece *p, const struct event *e, int64_t now_ns)
{
    uint32_t sectors = e->operation->sectors;
    assert(sectors && p->at + sectors <= p->count);
    if (p->lane == LANE_READS)
        keep_read(p, e->raw + ATA_HEADER, sectors);
    p->at += sectors;
    if (p->at == p->count && p->lane == LANE_READS && a->request.verb != AOE_VERB_READ) {
        patch(p);
        if (is_looked_for(c, p, now_ns))
            return;
    }
    if (p->at < p->count) {
        carry_on(c, p, session_frame(c, p->lane), now_ns);
        return;
    }
    part(c, a, p);
    if (p->echo)
        proof_acknowledged(c, p, e->way, now_ns);
}

static void keep(struct asked *a, const uint8_t *bytes, uint32_t length)
{
    a->request.data = must_allocate(NULL, length);
    a->request.data_length = length;
    a->own_data = 1;
    memcpy(a->request.data, bytes, length);
}

/* Prepare a flush; where the disk has no cache to flush, it is done. */
static void flush(aoe_core *c, struct asked *a, int64_t now_ns)
{
    struct piece *p = piece_new(c, a, 0, 1, 1);
    a->changes = c->changes;
    a->losses_told = c->losses_told;
    if (!flush_opcode(c)) {
        part(c, a, p);
        piece_end(c, p);
        return;
    }
    struct operation *o = operation_new(c, p, LANE_SYNCS, ATA_HEADER);
    registers(&o->body, 0, 0, 0, flush_opcode(c), 0);
    session_start(c, o, now_ns);
}

/* What was one message. */
static void answered_well(aoe_core *c, struct asked *a, struct piece *p, const struct event *e, int64_t now_ns)
{
    uint32_t verb = a->request.verb;
    if (verb == AOE_VERB_IDENTIFY) {
        keep(a, e->raw + ATA_HEADER, SECTOR);
        if (!session_identified(c, e->way, e->raw, (struct stamp){0}, now_ns))
            worse(a, AOE_ENDED_REFUSED, 0, 0, 0);
    } else if (verb == AOE_VERB_ASK) {
        keep(a, e->raw, e->length);
    } else if (!session_flushed(c, a->changes, a->losses_told)) {
        worse(a, AOE_ENDED_CACHE_LOST, 0, 0, 0);
    }
    part(c, a, p);
}

static void failed(aoe_core *c, struct asked *a, struct piece *p, int64_t now_ns)
{
    part(c, a, p);
    if (p->echo)
        proof_given_up(c, p, now_ns);
}

static void answered(aoe_core *c, struct piece *p, const struct event *e, int64_t now_ns)
{
    struct asked *a = p->request;
    const struct wire *said = wire_of(e->raw);
    if (!a)
        return;
    if (!e->good) {
        if (wire_is_error(e->raw))
            worse(a, AOE_ENDED_AOE_ERROR, 0, said->error, 0);
        else
            worse(a, AOE_ENDED_ATA_ERROR, said->ata.status, said->ata.error, wire_lba(e->raw));
        failed(c, a, p, now_ns);
    } else if (e->operation->sectors) {
        advance(c, a, p, e, now_ns);
    } else {
        answered_well(c, a, p, e, now_ns);
    }
    if (a->flushes && !a->left && !a->worst) { /* a durable write to a disk that knows only FLUSH_CACHE */
        a->flushes = 0;
        flush(c, a, now_ns);
    }
}

static void settled(aoe_core *c, struct operation *o, int64_t now_ns)
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
    if (!p || p->operation || p->older || p->echo)
        return;
    if (p->claims)
        leave(c, p, now_ns);
    else
        piece_end(c, p);
}

static void conclude(aoe_core *c, int64_t now_ns)
{
    while (c->events_first < c->events_count) {
        struct event e = c->events[c->events_first++];
        if (e.what == EFFECT_SETTLED)
            settled(c, e.operation, now_ns);
        else if (e.operation->look)
            proof_became(c, e.operation->look, &e, now_ns);
        else if (e.what == EFFECT_TOO_LARGE && e.operation->piece)
            carry_on(c, e.operation->piece, e.sectors, now_ns);
        else if (e.operation->piece)
            answered(c, e.operation->piece, &e, now_ns);
    }
    c->events_first = c->events_count = 0;
}

/* Nothing is left to be done now. */
static void run(aoe_core *c, int64_t now_ns)
{
    conclude(c, now_ns);
    if (!c->proof.works && c->proof.news == c->news)
        return;
    proof_step(c, now_ns);
    conclude(c, now_ns);
}

/* For the proof */

struct piece *core_close(aoe_core *c, uint64_t first, uint64_t last)
{
    struct piece *claim = claim_new(c, first, last);
    ranges_enter(&c->ranges, claim);
    return claim;
}

void core_open(aoe_core *c, struct piece *claim, int64_t now_ns)
{
    leave(c, claim, now_ns);
}

void core_rest(aoe_core *c, struct piece *p, int64_t now_ns)
{
    if (!p->operation && !p->older && p->claims)
        leave(c, p, now_ns);
}

void core_write(aoe_core *c, struct piece *p, int64_t now_ns)
{
    if (p->request)
        carry_on(c, p, p->count, now_ns);
    else
        core_rest(c, p, now_ns);
}

/* Splitting */

static void transfer(aoe_core *c, struct asked *a, int64_t now_ns)
{
    const aoe_request *r = &a->request;
    uint64_t lba = r->offset / SECTOR, last = (r->offset + r->length + SECTOR - 1) / SECTOR;
    uint32_t frame = session_frame(c, r->verb == AOE_VERB_READ ? LANE_READS : LANE_CHANGES);
    for (uint64_t next; r->length && lba < last; lba = next) {
        next = lba + frame < last ? lba + frame : last;
        struct piece *p = piece_new(c, a, lba, next, (uint32_t)(next - lba));
        if (r->verb == AOE_VERB_READ) {
            p->free = !ranges_touched(&c->ranges, lba, next);
            carry_on(c, p, p->count, now_ns);
            continue;
        }
        ranges_enter(&c->ranges, p);
        if (!p->waits)
            go(c, p, now_ns);
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
        struct piece *p = piece_new(c, a, lba, next, used);
        p->data = data;
        ranges_enter(&c->ranges, p);
        if (!p->waits)
            go(c, p, now_ns);
    }
}

struct way *way_numbered(const aoe_core *c, uint32_t number)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (c->ways[i]->number == number)
            return c->ways[i];
    return NULL;
}

static void ask(aoe_core *c, struct asked *a, struct way *w, int64_t now_ns)
{
    aoe_request *r = &a->request;
    struct piece *p = piece_new(c, a, 0, 1, 1);
    struct operation *o;
    if (r->verb == AOE_VERB_ASK) {
        o = operation_new(c, p, LANE_READS, (uint32_t)r->length);
        p->data = must_allocate(NULL, r->data_length);
        if (r->data_length)
            memcpy(p->data, r->data, r->data_length);
        link_append(&c->messages, &p->all);
        o->body = (struct body){.data = p->data, .data_length = (uint32_t)r->data_length};
        o->command = (uint8_t)r->offset;
        o->only = w;
    } else {
        o = operation_new(c, p, LANE_READS, ATA_HEADER + SECTOR);
        registers(&o->body, 0, 0, 1, IDENTIFY_DEVICE, 0xA0ull << 24);
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

static uint32_t refused(aoe_core *c, const aoe_request *r, const struct way *w)
{
    if (r->verb == AOE_VERB_ASK)
        return w ? AOE_ENDED_OK : AOE_ENDED_OUT_OF_RANGE;
    uint64_t size = c->sectors * SECTOR;
    if (!c->has_facts || !c->chosen || r->offset > size || r->length > size - r->offset)
        return AOE_ENDED_OUT_OF_RANGE;
    if (r->verb == AOE_VERB_TRIM && !trim_blocks_of(c->facts))
        return AOE_ENDED_UNSUPPORTED;
    if (c->pending >= REQUESTS_MAX)
        return AOE_ENDED_TOO_MANY;
    return is_room_for(c, r) ? AOE_ENDED_OK : AOE_ENDED_NO_MEMORY;
}

static void begin(aoe_core *c, struct asked *a, struct way *w, int64_t now_ns)
{
    aoe_request *r = &a->request;
    switch (r->verb) {
    case AOE_VERB_ASK:
    case AOE_VERB_IDENTIFY:
        ask(c, a, w, now_ns);
        return;
    case AOE_VERB_FLUSH:
        flush(c, a, now_ns);
        return;
    case AOE_VERB_TRIM:
        trim(c, a, now_ns);
        break;
    case AOE_VERB_READ:
        a->own_data = !r->data && r->length;
        if (a->own_data && !(r->data = malloc(r->length))) {
            end(c, a, AOE_ENDED_NO_MEMORY);
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
        end(c, a, AOE_ENDED_OK);
}

/* The border */

aoe_core *aoe_core_open(const aoe_core_settings *settings)
{
    assert(settings->timing.rto_min_ns > 0 && settings->timing.pulse_ns < settings->timing.gap_ns);
    aoe_core *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->addresses = calloc(settings->addresses + 1, sizeof *c->addresses);
    c->ports = calloc(settings->ports + 1, sizeof *c->ports);
    if (!c->addresses || !c->ports) {
        free(c->addresses);
        free(c->ports);
        free(c);
        return NULL;
    }
    c->set = *settings;
    memcpy(c->addresses, settings->address, settings->addresses * sizeof *c->addresses);
    c->set.address = c->addresses;
    c->tag = c->first_tag = c->strangers.seed = settings->first_tag & TAG_MASK;
    c->seek_wait_ns = c->set.timing.query_first_ns;
    link_init(&c->open);
    link_init(&c->held);
    link_init(&c->done);
    link_init(&c->requests);
    link_init(&c->messages);
    ranges_init(&c->ranges);
    pool_init(&c->copies, sizeof(struct copy));
    pool_init(&c->exchanges, sizeof(struct exchange));
    pool_init(&c->operations, sizeof(struct operation));
    pool_init(&c->pieces, sizeof(struct piece));
    pool_init(&c->refusals, sizeof(struct refusal));
    proof_init(&c->proof);
    return c;
}

void aoe_core_free(aoe_core *c, aoe_request *request)
{
    struct asked *a = (struct asked *)request;
    link_remove(&a->every);
    if (a->own_data)
        discard(c, a->request.data);
    free(a);
}

static void end_pieces(struct link *all)
{
    for (struct link *l = all->next; l != all; l = l->next) {
        struct piece *p = OWNER_OF(l, struct piece, all);
        free(p->data);
        free(p->followers);
    }
}

void aoe_core_close(aoe_core *c)
{
    proof_close(&c->proof);
    aoe_core_sent(c);
    end_pieces(&c->ranges.all);
    end_pieces(&c->messages);
    while (!link_alone(&c->requests))
        aoe_core_free(c, &OWNER_OF(c->requests.next, struct asked, every)->request);
    for (uint32_t i = 0; i < c->ways_count; i++)
        free(c->ways[i]);
    pool_end(&c->copies);
    pool_end(&c->exchanges);
    pool_end(&c->operations);
    pool_end(&c->pieces);
    pool_end(&c->refusals);
    free(c->effects);
    free(c->events);
    free(c->out);
    free(c->garbage);
    free(c->addresses);
    free(c->ports);
    free(c);
}

/* Nothing is known of what was under way: nothing is sent any more, and every request ends. */
static void spend(aoe_core *c)
{
    c->spent = 1;
    c->out_count = 0;
    for (struct link *l = c->requests.next; l != &c->requests; l = l->next) {
        struct asked *a = OWNER_OF(l, struct asked, every);
        if (!a->ended)
            end(c, a, AOE_ENDED_NO_MEMORY);
    }
}

/* What may need memory, and ends the core where there is none. */
#define GUARDED(c, work)                                                                                               \
    do {                                                                                                               \
        jmp_buf here;                                                                                                  \
        jmp_buf *before = memory_escape(&here);                                                                        \
        if (setjmp(here))                                                                                              \
            spend(c);                                                                                                  \
        else if ((c)->spent)                                                                                           \
            spend(c);                                                                                                  \
        else                                                                                                           \
            work;                                                                                                      \
        memory_escape(before);                                                                                         \
    } while (0)

static void see_time(aoe_core *c, int64_t now_ns)
{
    int64_t gap_ns = c->seen_ns ? now_ns - c->seen_ns : 0;
    c->seen_ns = now_ns > c->seen_ns ? now_ns : c->seen_ns;
    if (gap_ns >= c->set.timing.gap_ns) {
        c->stood_ns += gap_ns;
        proof_stand_still(&c->proof, gap_ns);
        session_stand_still(c, gap_ns, now_ns);
        run(c, now_ns);
    }
}

int64_t aoe_core_own_time(aoe_core *c, int64_t now_ns)
{
    GUARDED(c, see_time(c, now_ns));
    return now_ns - c->stood_ns;
}

static void set_port(aoe_core *c, uint32_t port, const aoe_core_port *now, int64_t now_ns)
{
    see_time(c, now_ns);
    session_set_port(c, port, now, now_ns);
    run(c, now_ns);
}

void aoe_core_set_port(aoe_core *c, uint32_t port, const aoe_core_port *now, int64_t now_ns)
{
    GUARDED(c, set_port(c, port, now, now_ns));
}

static void receive(aoe_core *c, uint32_t port, const uint8_t *frame, uint32_t length, int64_t now_ns)
{
    see_time(c, now_ns);
    session_received(c, port, frame, length, now_ns);
    run(c, now_ns);
}

void aoe_core_receive(aoe_core *c, uint32_t port, const uint8_t *frame, uint32_t length, int64_t now_ns)
{
    GUARDED(c, receive(c, port, frame, length, now_ns));
}

static void tick(aoe_core *c, int64_t now_ns)
{
    see_time(c, now_ns);
    session_tick(c, now_ns);
    run(c, now_ns);
}

void aoe_core_tick(aoe_core *c, int64_t now_ns)
{
    GUARDED(c, tick(c, now_ns));
}

static void start(aoe_core *c, struct asked *a, uint32_t way, int64_t now_ns)
{
    see_time(c, now_ns);
    struct way *w = way_numbered(c, way);
    uint32_t why_not = refused(c, &a->request, w);
    if (why_not)
        end(c, a, why_not);
    else
        begin(c, a, w, now_ns);
    run(c, now_ns);
}

aoe_request *aoe_core_start(aoe_core *c, uint32_t verb, uint64_t offset, uint64_t length, uint8_t *data,
                            uint64_t data_length, uint32_t way, uint64_t user, int64_t now_ns)
{
    struct asked *a = malloc(sizeof *a);
    if (!a)
        return NULL;
    *a = (struct asked){.request = {user, offset, length, data, data_length, 0, verb, AOE_ENDED_OK, 0, 0}};
    link_init(&a->pieces);
    link_init(&a->done);
    link_append(&c->requests, &a->every);
    GUARDED(c, start(c, a, way, now_ns));
    return &a->request;
}

/* Whether it would be sent as soon as there is room. */
static int is_waiting(const struct operation *o)
{
    int waits = 0;
    for (const struct link *l = o->exchanges.next; l != &o->exchanges; l = l->next)
        waits |= OWNER_OF(l, struct exchange, of_operation)->waits;
    return waits;
}

static void abandon(aoe_core *c, struct asked *a, int64_t now_ns)
{
    see_time(c, now_ns);
    for (int waits = 1; waits >= 0; waits--) { /* what waits first, or it would be sent now */
        struct link *next;
        for (struct link *l = a->pieces.next; l != &a->pieces; l = next) {
            struct piece *p = OWNER_OF(l, struct piece, of_request);
            next = l->next;
            if (waits && !(p->operation && is_waiting(p->operation)))
                continue;
            link_remove(&p->of_request);
            p->request = NULL;
            if (p->operation)
                session_abandon(c, p->operation, now_ns);
            if (p->echo)
                proof_given_up(c, p, now_ns);
        }
    }
    run(c, now_ns);
}

void aoe_core_abandon(aoe_core *c, aoe_request *request, int64_t now_ns)
{
    struct asked *a = (struct asked *)request;
    GUARDED(c, abandon(c, a, now_ns));
    link_remove(&a->done);
    aoe_core_free(c, request);
}

aoe_request *aoe_core_done(aoe_core *c)
{
    if (link_alone(&c->done))
        return NULL;
    struct asked *a = OWNER_OF(c->done.next, struct asked, done);
    link_remove(&a->done);
    return &a->request;
}

uint32_t aoe_core_out(aoe_core *c, aoe_out **out)
{
    *out = c->out;
    return c->out_count;
}

void aoe_core_sent(aoe_core *c)
{
    c->out_count = 0;
    while (c->garbage_count)
        free(c->garbage[--c->garbage_count]);
}

static void change_owner(aoe_core *c, uint32_t way, int64_t now_ns, volatile int *done)
{
    see_time(c, now_ns);
    struct way *w = way_numbered(c, way);
    *done = w && session_switch(c, w, now_ns);
    run(c, now_ns);
}

int aoe_core_switch(aoe_core *c, uint32_t way, int64_t now_ns)
{
    volatile int done = 0;
    GUARDED(c, change_owner(c, way, now_ns, &done));
    return done && !c->spent;
}

static void fenced(aoe_core *c, uint32_t way, int64_t now_ns)
{
    see_time(c, now_ns);
    struct way *w = way_numbered(c, way);
    if (w)
        session_fenced(c, w, now_ns);
    run(c, now_ns);
}

void aoe_core_fenced(aoe_core *c, uint32_t way, int64_t now_ns)
{
    GUARDED(c, fenced(c, way, now_ns));
}

int64_t aoe_core_pulse(const aoe_core *c)
{
    return session_pulse(c);
}

uint64_t aoe_core_news(const aoe_core *c)
{
    return c->news;
}

int aoe_core_chosen(const aoe_core *c)
{
    return c->chosen;
}

int aoe_core_comparing(const aoe_core *c)
{
    int comparing = 0;
    for (uint32_t i = 0; i < c->ways_count; i++)
        comparing |= way_samples(c->ways[i]);
    return comparing;
}

int aoe_core_identity(const aoe_core *c, uint8_t *data)
{
    if (c->has_facts)
        memcpy(data, c->facts, SECTOR);
    return c->has_facts;
}

int aoe_core_disk(const aoe_core *c, aoe_disk *disk)
{
    *disk = (aoe_disk){
        .size = c->sectors * SECTOR,
        .physical_block = facts_physical_block(c->facts),
        .trims = trim_blocks_of(c->facts) > 0,
        .zeroes = (uint32_t)zeroes_of(c->facts),
    };
    return c->has_facts;
}

uint32_t aoe_core_ways(const aoe_core *c, aoe_way *ways, uint32_t room)
{
    for (uint32_t i = 0; i < c->ways_count && i < room; i++) {
        const struct way *w = c->ways[i];
        struct sizes_shown shown = sizes_shown(&w->sizes);
        ways[i] = (aoe_way){
            .number = w->number,
            .port = w->port,
            .state = (uint32_t)life_shown(w->state),
            .reason = (uint32_t)w->reason,
            .owner = w == c->owner,
            .sectors = shown.there < shown.back ? shown.there : shown.back,
            .sectors_max = w->sectors,
            .narrow = (uint32_t)shown.narrow,
            .unsettled = w->lanes[LANE_CHANGES].unsettled_count,
            .renewed = w->renewed,
            .shelf = w->shelf,
            .slot = w->slot,
            .rtt_ns = w->lanes[LANE_READS].smoothed_ns,
            .proved = w->trial.proved || !c->chosen,
            .lba = w->trial.lba,
        };
        memcpy(ways[i].mac, w->mac, 6);
    }
    return c->ways_count;
}

void aoe_core_count(const aoe_core *c, uint64_t *counters)
{
    memcpy(counters, c->counters, sizeof c->counters);
}
