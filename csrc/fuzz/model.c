/* What must be true of the engine, told from frames, disk accesses and replies alone. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

enum { EVENTS = 1 << 17 };

/* A sector as a request wrote it; `older` is the event before it on the same sector. */
struct event {
    uint32_t tag, older;
};

/* A stream that registered (rule T9): the latest epoch and tag of what was admitted, which may be forgotten only when
 * nothing was heard for long enough. `arrived_ns`: and when anything at all came in that says it. */
struct initiator {
    uint8_t mac[6];
    uint32_t stream, epoch, first_tag, latest_tag;
    uint64_t heard_ns, arrived_ns, named;
    int export;
};

/* What limits let pass since they are in force, of all or of one client, when the first of it came in, and the bytes
 * of the largest. */
struct share {
    uint64_t first_ns, requests, bytes, most;
};

/* What waits for a place: how many of its own client did when it came, and how many of each went since. */
struct turn {
    uint32_t ahead, went[CLIENTS_MAX + 1];
};

static struct {
    struct record records[RECORDS + 1];
    struct turn turns[RECORDS + 1];
    uint32_t tags, arrivals, events, silent, replies, clogged;
    struct event event[EVENTS];
    uint32_t newest[EXPORTS][FILE_SECTORS], seen[EXPORTS][FILE_SECTORS];
    struct facts facts[EXPORTS][FACTS];
    aoe_port ports[PORTS];
    uint64_t tick, good_sync[EXPORTS][IMAGE_LIVES];
    int64_t settled[EXPORTS];
    int sync_failed[EXPORTS], distrusted[EXPORTS];
    struct share shares[EXPORTS][FACTS][CLIENTS + 1];
    struct initiator initiators[RECORDS];
    uint32_t initiators_count;
} m;

void broken(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

void model_reset(void)
{
    memset(m.records, 0, (m.tags + 1) * sizeof m.records[0]);
    memset(m.newest, 0, sizeof m.newest);
    memset(m.seen, 0, sizeof m.seen);
    memset(m.good_sync, 0, sizeof m.good_sync);
    memset(m.settled, 0, sizeof m.settled);
    memset(m.sync_failed, 0, sizeof m.sync_failed);
    memset(m.distrusted, 0, sizeof m.distrusted);
    memset(m.shares, 0, sizeof m.shares);
    m.tags = m.arrivals = m.events = m.silent = m.replies = m.clogged = 0;
    m.initiators_count = 0;
    m.tick = 1;
}

uint64_t model_clock(void) { return ++m.tick; }

void model_lost(void) { m.silent++; }

void model_clogged(int fits) { m.clogged += (uint32_t)fits; }

void model_port(uint32_t port, const aoe_port *now) { m.ports[port] = *now; }

void model_published(int export, int64_t number, const struct facts *facts)
{
    CHECK(number > 0 && number < FACTS);
    const aoe_limits *last = &m.facts[export][number - 1].limits;
    int goes_on = number > 1 && !memcmp(last, &facts->limits, sizeof *last);
    m.facts[export][number] = *facts;
    m.facts[export][number].limited_since = goes_on ? m.facts[export][number - 1].limited_since : (uint32_t)number;
}

int model_comes(int export)
{
    m.settled[export] = 0;
    memset(m.shares[export], 0, sizeof m.shares[export]);
    return m.distrusted[export];
}

void model_trusts(int export)
{
    m.sync_failed[export] = 0;
    m.distrusted[export] = 0;
}

void model_pattern(uint8_t *sector, uint32_t tag, uint64_t lba)
{
    for (uint64_t i = 0; i < SECTOR / 8; i++) {
        uint64_t word = (uint64_t)tag << 32 | (lba & 0xFFFF) << 16 | i;
        memcpy(sector + 8 * i, &word, 8);
    }
}

/* Requests as they come in */

static int is_among(uint8_t opcode, const char *opcodes) { return opcode && strchr(opcodes, opcode) != NULL; }

static enum kind kind_of(uint8_t opcode)
{
    if (is_among(opcode, "\x20\x24\x25\x29\xC4\xC8"))
        return K_READ;
    if (is_among(opcode, "\x30\x34\x35\x39\x3D\xC5\xCA\xCE"))
        return K_WRITE;
    return is_among(opcode, "\xE7\xEA") ? K_FLUSH : K_UP;
}

/* Sectors of what is no TRIM; a VERIFY of 0 is one of the most there are. */
static uint64_t verified(const struct record *r)
{
    int is_verify = is_among(r->wire.ata.opcode, "\x40\x42");
    return is_verify && !r->count ? (r->wire.ata.opcode == 0x42 ? 65536 : 256) : r->count;
}

static uint64_t lba_of(const uint8_t *frame)
{
    int far = is_among(wire_of(frame)->ata.opcode, "\x24\x25\x29\x34\x35\x39\x3D\xCE\x42");
    return far ? wire_lba(frame) : wire_lba(frame) % (1 << 28);
}

static int export_of(const uint8_t *frame)
{
    for (int i = 0; i < EXPORTS; i++)
        if (wire_shelf(frame) == stores[i].shelf && wire_of(frame)->slot == stores[i].slot)
            return i;
    return -1;
}

static void decode(struct record *r, const uint8_t *frame)
{
    r->export = r->length >= 24 ? export_of(frame) : -1;
    r->kind = K_UP;
    if (r->length < ATA_HEADER || wire_of(frame)->command)
        return;
    r->kind = kind_of(wire_of(frame)->ata.opcode);
    r->lba = lba_of(frame);
    r->count = wire_of(frame)->ata.count;
}

static int is_trim(const struct record *r)
{
    return r->length >= ATA_HEADER && !r->wire.command && r->wire.ata.opcode == DATA_SET_MANAGEMENT;
}

static int carries(const struct record *r) { return r->length >= ATA_HEADER + r->count * (size_t)SECTOR; }

static void add_range(struct record *r, uint64_t lba, uint64_t count)
{
    if (r->trims_count < TRIMS_MAX)
        r->trims[r->trims_count] = (struct extent){lba, count};
    if (!r->trims_count || lba < r->trim_first)
        r->trim_first = lba;
    if (lba + count > r->trim_last)
        r->trim_last = lba + count;
    r->trims_count++;
}

static void find_ranges(struct record *r, const uint8_t *frame)
{
    uint32_t ranges = is_trim(r) && carries(r) ? r->count * WIRE_RANGES : 0;
    for (const struct wire_range *at = wire_ranges(frame), *end = at + ranges; at < end; at++)
        if (wire_little(at->count, 2))
            add_range(r, wire_little(at->lba, LBA_BYTES), wire_little(at->count, 2));
}

static int has_trailer(uint8_t opcode) { return kind_of(opcode) == K_WRITE || is_among(opcode, "\xE7\xEA\xEC\x06"); }

static uint8_t epoch_of(const struct record *r) { return is_trim(r) ? r->wire.ata.lba[0] : r->wire.ata.feature; }

static void find_trailer(struct record *r, const uint8_t *frame)
{
    uint32_t at = ATA_HEADER + (r->kind == K_WRITE || is_trim(r) ? r->count * SECTOR : 0);
    if (r->length < at + STAMP_TRAILER || wire_of(frame)->command || !has_trailer(wire_of(frame)->ata.opcode))
        return;
    r->ours = wire_tag(frame) & USER_TAG && !memcmp(frame + at, "\xd3\x1f\xb6\x4a", SIGNATURE_BYTES);
    r->named = wire_little(frame + at + SIGNATURE_BYTES, INSTANCE_BYTES);
}

/* Register a frame: it gets a tag of its own, and sectors that tell what wrote them. 0 if there were too many. */
uint32_t model_frame(uint8_t *frame, uint32_t length, uint32_t thread, uint32_t port, uint64_t stamp_ns)
{
    uint32_t tag = m.tags + 1;
    if (tag > RECORDS)
        return 0;
    struct record *r = &m.records[tag];
    m.tags = tag;
    if (length >= 24)
        wire_put_tag(frame, (wire_tag(frame) & USER_TAG) | tag);
    *r = (struct record){.length = length, .stamp_ns = stamp_ns, .thread = thread, .port = port};
    memcpy(r->head, frame, length < ATA_HEADER ? length : ATA_HEADER);
    decode(r, frame);
    r->steps = world_steps(thread);
    find_ranges(r, frame);
    for (uint32_t at = ATA_HEADER, i = 0; at + SECTOR <= length && !is_trim(r); at += SECTOR, i++)
        model_pattern(frame + at, tag, r->lba + i);
    find_trailer(r, frame);
    return tag;
}

struct record *model_tagged(uint32_t tag)
{
    CHECK(tag && tag <= m.tags);
    return &m.records[tag];
}

struct record *model_record(const uint8_t *header)
{
    return model_tagged(wire_tag(header) & TAG_MASK);
}

static uint32_t tag_of(const struct record *r) { return (uint32_t)(r - m.records); }

/* Streams */

static uint32_t stream_of(const struct record *r) { return wire_big16(r->wire.ata.stream); }

static int is_of_life(const struct initiator *i, const struct record *r)
{
    return i->export == r->export && i->named == r->named;
}

static struct initiator *initiator_of(const struct record *r)
{
    for (struct initiator *i = m.initiators; i < m.initiators + m.initiators_count; i++)
        if (is_of_life(i, r) && i->stream == stream_of(r) && same_mac(i->mac, r->wire.src))
            return i;
    return NULL;
}

static uint64_t under_way_ns(void) { return NETWORK_LIFETIME_NS + engine->set.frame_age_ns; }

static int earlier(uint32_t epoch, uint32_t other) { return (other - epoch) % 256 - 1 < 127; }

static int has_epoch(const struct record *r)
{
    return r->ours && (r->kind == K_WRITE || r->kind == K_FLUSH || is_trim(r));
}

/* Whether what its initiator sends behind an IDENTIFY is dropped. */
static int is_over(const struct record *r)
{
    const struct initiator *i = initiator_of(r);
    return i && (earlier(epoch_of(r), i->epoch) || tag_of(r) + REPLAY_WINDOW <= i->latest_tag);
}

static int is_stale(const struct record *r)
{
    const struct initiator *i = initiator_of(r);
    if (!has_epoch(r))
        return 0;
    if (!r->names_us || !i || tag_of(r) < i->first_tag)
        return 1;
    return is_over(r);
}

static void hear(struct initiator *i, const struct record *r)
{
    i->heard_ns = i->heard_ns > r->stamp_ns ? i->heard_ns : r->stamp_ns;
}

/* What is admitted counts at once, however long it waits then. Only so is it plain which of two epochs is earlier: one
 * that is 150 ahead of the first is earlier than that, unless there was one between. */
static void see(const struct record *r)
{
    struct initiator *i = initiator_of(r);
    hear(i, r);
    i->epoch = earlier(i->epoch, epoch_of(r)) ? epoch_of(r) : i->epoch;
    i->latest_tag = tag_of(r) > i->latest_tag ? tag_of(r) : i->latest_tag;
}

static void says(const struct record *r)
{
    struct initiator *i = initiator_of(r);
    if (r->ours && i && r->stamp_ns > i->arrived_ns)
        i->arrived_ns = r->stamp_ns;
}

void model_clock_stepped(uint32_t thread, uint64_t now_ns)
{
    for (struct initiator *i = m.initiators; i < m.initiators + m.initiators_count; i++)
        if (thread_owns(&engine->threads[thread], &engine->exports[i->export]))
            i->heard_ns = i->arrived_ns = now_ns;
}

static int asks_for_place(const struct record *r)
{
    int may = r->export >= 0 && wire_version(r->head) == VERSION && m.ports[r->port].sectors;
    return may && r->names_us && r->wire.ata.opcode == 0xEC;
}

/* `heard`: whose place must be kept; else, whose may be. */
static uint32_t places_taken(const struct record *r, int heard)
{
    uint32_t taken = 0;
    for (const struct initiator *i = m.initiators; i < m.initiators + m.initiators_count; i++) {
        uint64_t last_ns = heard ? i->heard_ns : i->arrived_ns;
        taken += is_of_life(i, r) && last_ns + under_way_ns() >= r->stamp_ns;
    }
    return taken;
}

static int has_place(const struct initiator *i)
{
    const struct streams *s = &engine->exports[i->export].streams;
    for (uint32_t n = 0; n < s->count; n++)
        if (s->all[n].number == i->stream && !memcmp(s->all[n].mac, i->mac, 6))
            return 1;
    return 0;
}

/* Whose place another one has got: only one of which nothing can be under way. */
static void forget_displaced(const struct record *r)
{
    for (uint32_t n = m.initiators_count; n--;) {
        const struct initiator *i = &m.initiators[n];
        if (!is_of_life(i, r) || has_place(i))
            continue;
        CHECK(i->heard_ns + under_way_ns() < r->stamp_ns);
        m.initiators[n] = m.initiators[--m.initiators_count];
    }
}

static void registered(const struct record *r)
{
    forget_displaced(r);
    struct initiator *i = initiator_of(r);
    if (i) { /* what is known of it stays */
        hear(i, r);
        return;
    }
    CHECK(places_taken(r, 1) < STREAMS_MAX);
    i = &m.initiators[m.initiators_count++];
    *i = (struct initiator){.stream = stream_of(r), .epoch = epoch_of(r), .export = r->export, .first_tag = tag_of(r)};
    i->arrived_ns = i->heard_ns = r->stamp_ns;
    i->latest_tag = i->first_tag;
    i->named = r->named;
    memcpy(i->mac, r->wire.src, MAC_BYTES);
    CHECK(has_place(i));
}

static int is_young(const struct record *r, const struct thread *t)
{
    return r->stamp_ns <= t->now_ns && t->now_ns - r->stamp_ns <= t->engine->set.frame_age_ns;
}

/* An IDENTIFY goes up: it registers only if it is young and names us, and if so as long as there is a place. One that is
 * too old says which stream it means, if that has one. */
static void check_registered(const struct record *r, const struct thread *t, int outcome)
{
    int may = asks_for_place(r) && is_young(r, t) && r->steps == world_steps(t->index) && !t->suspect;
    CHECK(!outcome || may || (asks_for_place(r) && initiator_of(r)));
    CHECK(!outcome || (outcome == STREAM_OVER) == (asks_for_place(r) && is_over(r)));
    if (outcome && !may)
        return;
    if (!outcome)
        CHECK(!asks_for_place(r) || !is_young(r, t) || t->suspect || places_taken(r, 0) >= STREAMS_MAX);
    else
        registered(r);
}

static int listed(const uint8_t *mac, const uint8_t (*list)[6], uint32_t count)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++)
        found += memcmp(list[i], mac, 6) == 0;
    return found || !count;
}

static int may_change(const struct record *r, const struct facts *f)
{
    uint64_t block = stores[r->export].block / SECTOR;
    if (f->flags & AOE_PASS)
        return 0;
    return r->kind == K_FLUSH || (!(f->flags & AOE_READ_ONLY) && r->lba % block == 0 && r->count % block == 0 &&
                                  r->length >= ATA_HEADER + r->count * (size_t)SECTOR);
}

/* Whether its client may do I/O here. */
static int may_ask(const struct record *r, const struct facts *f, const aoe_port *port)
{
    return wire_version(r->head) == VERSION && port->sectors && listed(r->wire.src, f->macs, f->masked) &&
           listed(r->wire.src, f->macs + f->masked, f->reserved);
}

static int may_serve(const struct record *r, const struct facts *f, const aoe_port *port)
{
    if (r->kind == K_UP || !may_ask(r, f, port))
        return 0;
    if (r->kind != K_FLUSH && (!r->count || r->count > port->sectors || r->lba + r->count > f->sectors))
        return 0;
    return r->kind == K_READ || may_change(r, f);
}

/* What an ordered request keeps from running beside it (rule T1): what cannot be done as it stands is left to
 * Python with nothing beside it. */
static enum scope scope_of(const struct record *r, const struct facts *f, const aoe_port *port)
{
    uint32_t room = (engine->set.frame_max - ATA_HEADER) / SECTOR, most = port->sectors < room ? port->sectors : room;
    int is_verify = is_among(r->wire.ata.opcode, "\x40\x42"), fits = r->count && r->count <= most;
    if (r->kind == K_READ || is_verify)
        return (is_verify || fits) && r->lba + verified(r) <= f->sectors ? READS : EVERYTHING;
    if (r->kind == K_FLUSH) /* the engine knows first that a sync failed */
        return engine->exports[r->export].now->flags & AOE_PASS ? EVERYTHING : FLUSHES;
    if (f->flags & AOE_READ_ONLY || !fits || !carries(r))
        return EVERYTHING;
    if (r->kind == K_WRITE)
        return r->lba + r->count <= f->sectors ? CHANGES : EVERYTHING;
    if (!is_trim(r) || r->wire.ata.feature != 1 || r->trim_last > f->sectors)
        return EVERYTHING;
    return r->trims_count ? CHANGES : FLUSHES;
}

/* What was sent to another host, or has a group for its source, is dropped: it ends no epoch either. */
static int is_sent_here(const struct record *r)
{
    const uint8_t *dst = r->wire.dst;
    return !wire_is_group(r->wire.src) && (same_mac(dst, m.ports[r->port].mac) || same_mac(dst, wire_all()));
}

/* Limits: since they are in force, no more begins than their rate and burst allow, whatever came. */

static struct share *share_of(const struct record *r, uint32_t whose) { return &m.shares[r->export][r->limited][whose]; }

static uint32_t client_of(const struct record *r)
{
    for (uint8_t i = 0; i < CLIENTS; i++)
        if (same_mac(r->wire.src, (uint8_t[]){2, 0, 0, 0, 1, i}))
            return i;
    return CLIENTS;
}

static void asks(const struct record *r, const struct thread *t)
{
    if (!r->limited)
        return;
    if (!share_of(r, client_of(r))->first_ns)
        share_of(r, client_of(r))->first_ns = t->boot_ns;
    if (!share_of(r, CLIENTS)->first_ns)
        share_of(r, CLIENTS)->first_ns = t->boot_ns;
}

static void check_rate(uint64_t rate, uint64_t burst_ns, uint64_t units, uint64_t spent_ns)
{
    unsigned __int128 allowed = (unsigned __int128)rate * (spent_ns + burst_ns + 1);
    CHECK(!rate || (unsigned __int128)units * 1000000000 <= allowed);
}

static void pass(struct share *s, uint64_t iops, uint64_t bandwidth, uint64_t burst_ns, const struct record *r)
{
    uint64_t spent_ns = engine->threads[r->thread].boot_ns - s->first_ns;
    uint64_t size = (uint64_t)r->count * SECTOR;
    s->bytes += size;
    s->most = size > s->most ? size : s->most;
    check_rate(iops, burst_ns, s->requests++, spent_ns);
    check_rate(bandwidth, burst_ns, s->bytes - s->most, spent_ns); /* the last that was paid for may begin first (rule T1) */
}

static void begins(struct record *r)
{
    const aoe_limits *l = &m.facts[r->export][r->view].limits;
    if (!r->limited || r->begun)
        return;
    r->begun = 1;
    pass(share_of(r, CLIENTS), l->iops, l->bandwidth, l->burst_ns, r);
    if (client_of(r) < CLIENTS)
        pass(share_of(r, client_of(r)), l->client_iops, l->client_bandwidth, l->burst_ns, r);
}

static void arrives(const struct thread *t, uint32_t port, const struct arrival *a)
{
    const uint8_t *frame = a->frame;
    for (uint32_t p = 0; p < t->engine->set.ports; p++) /* rule T2 */
        CHECK(p == port || world_stamp_of_next(t->index, p) >= a->stamp_ns);
    if (!a->for_us)
        return;
    if (!wire_is_aoe(frame, a->length) || wire_is_reply(frame)) {
        m.silent++;
        return;
    }
    struct record *r = model_record(frame);
    CHECK(!r->arrival && r->port == port && r->thread == t->index);
    if (!is_sent_here(r))
        return;
    r->arrival = ++m.arrivals;
    if (r->export < 0)
        return;
    const struct view *now = t->engine->exports[r->export].now;
    const struct facts *f = now ? &m.facts[r->export][now->number] : NULL;
    if (!f || f->flags & AOE_GONE || f->elsewhere >> port & 1) { /* its address is free here */
        r->export = -1;
        return;
    }
    r->view = now->number;
    r->may_serve = may_serve(r, f, &m.ports[port]);
    r->scope = scope_of(r, f, &m.ports[port]);
    int refused = r->scope == EVERYTHING; /* as it stands: an error costs nothing */
    r->limited = r->may_serve && r->kind != K_FLUSH && !refused ? f->limited_since : 0;
    asks(r, t);
    r->names_us = r->ours && r->named == f->instance;
    r->stale = is_stale(r);
    says(r);
    if (has_epoch(r) && !r->stale && may_ask(r, f, &m.ports[port]) && is_young(r, t) && !t->suspect)
        see(r);
    r->durable = r->kind == K_WRITE && (f->flags & AOE_DURABLE || is_among(wire_of(frame)->ata.opcode, "\x3D\xCE"));
}

void __real_serve_frame(struct thread *t, uint32_t port, const struct arrival *a);
void __wrap_serve_frame(struct thread *t, uint32_t port, const struct arrival *a)
{
    arrives(t, port, a);
    __real_serve_frame(t, port, a);
}

/* Sectors */

static uint32_t arrival_of(uint32_t event) { return event ? m.records[m.event[event].tag].arrival : 0; }

/* What wrote a sector last, of all that came in no later than `arrival`; 0: nothing did. */
static uint32_t writer(int export, uint64_t sector, uint32_t arrival)
{
    uint32_t event = m.newest[export][sector];
    while (arrival_of(event) > arrival)
        event = m.event[event].older;
    return m.event[event].tag;
}

void model_written(struct record *r, uint64_t lba, uint32_t sectors)
{
    for (uint64_t s = lba; s < lba + sectors; s++) {
        CHECK(s < FILE_SECTORS);
        uint32_t *newest = &m.newest[r->export][s];
        CHECK(arrival_of(*newest) <= r->arrival); /* rule T1 */
        CHECK(m.seen[r->export][s] < r->arrival);
        CHECK(m.events + 1 < EVENTS);
        m.event[++m.events] = (struct event){tag_of(r), *newest};
        *newest = m.events;
    }
}

void model_read(const struct record *r)
{
    for (uint64_t s = r->lba; s < r->lba + r->count; s++) {
        CHECK(s < FILE_SECTORS);
        uint32_t *seen = &m.seen[r->export][s];
        *seen = *seen > r->arrival ? *seen : r->arrival;
    }
}

static void check_read(const struct record *r, const uint8_t *data)
{
    uint8_t expected[SECTOR];
    for (uint32_t i = 0; i < r->count; i++) {
        model_pattern(expected, writer(r->export, r->lba + i, r->arrival), r->lba + i);
        CHECK(!memcmp(data + (size_t)i * SECTOR, expected, SECTOR));
    }
    model_read(r);
}

static void check_written(const struct record *r)
{
    for (uint64_t s = r->lba; s < r->lba + r->count; s++)
        CHECK(writer(r->export, s, r->arrival) == tag_of(r));
}

/* Every sector of a store is as the last request left it. */
static void check_store(int export)
{
    uint8_t found[FILE_SECTORS * SECTOR], expected[SECTOR];
    CHECK(pread(store_fd[export], found, sizeof found, (off_t)stores[export].base) == sizeof found);
    for (uint32_t s = 0; s < FILE_SECTORS; s++) {
        model_pattern(expected, writer(export, s, UINT32_MAX), s);
        CHECK(!memcmp(found + (size_t)s * SECTOR, expected, SECTOR));
    }
}

/* Stable storage (rule T6) */

static int vouched(const struct record *r)
{
    return r->by_python || r->in_memory || (r->done_at && r->done_at < m.good_sync[r->export][r->life]);
}

/* A sync that began at tick `started` ended. A failed one is remembered until the engine has seen it. */
void model_sync(int export, uint32_t life, uint64_t started, int good)
{
    if (!good)
        m.sync_failed[export] = 1;
    else if (started > m.good_sync[export][life])
        m.good_sync[export][life] = started;
}

static void lose(int export)
{
    m.sync_failed[export] = 0;
    m.distrusted[export] = 1;
    for (struct record *r = m.records + 1; r <= m.records + m.tags; r++)
        if (r->export == export && r->kind == K_WRITE && r->done_at && !vouched(r))
            r->lost = 1;
}

/* What is settled stays so. */
static void check_settled(const struct thread *t)
{
    for (uint32_t i = 0; i < EXPORTS; i++) {
        int64_t settled = atomic_load(&t->engine->exports[i].settled);
        CHECK(settled >= m.settled[i]);
        m.settled[i] = settled;
    }
}

static void check_places(const struct thread *t);

int __real_operations_completed(struct thread *t);
int __wrap_operations_completed(struct thread *t)
{
    CHECK(world_boot_ns() - t->boot_ns <= 10000); /* or what it says of times would be wrong */
    int any = __real_operations_completed(t);
    check_settled(t);
    check_places(t);
    for (int i = 0; i < EXPORTS; i++)
        if (m.sync_failed[i])
            lose(i);
    return any;
}

static void check_stable(const struct record *r) { CHECK(vouched(r) && !r->lost); }

static void check_flushed(const struct record *flush)
{
    for (const struct record *r = m.records + 1; r <= m.records + m.tags; r++)
        if (r->export == flush->export && r->kind == K_WRITE && r->arrival < flush->arrival && r->done_at)
            check_stable(r);
}

void model_looked(const struct record *r, const uint8_t *data) { check_read(r, data); }

/* Order (rule T1): whom a request waits for, told from the frames alone. */

enum { COMPARED_MAX = 4 };

/* The n-th range that is compared, in blocks; 0 if there are not so many. */
static int range_at(const struct record *r, uint32_t n, struct extent *range)
{
    uint64_t block = stores[r->export].block / SECTOR, first = r->lba, last = r->lba + verified(r);
    uint32_t listed = r->trims_count <= COMPARED_MAX ? r->trims_count : 1;
    if (n >= (is_trim(r) ? listed : 1))
        return 0;
    if (is_trim(r)) {
        first = r->trims_count > COMPARED_MAX ? r->trim_first : r->trims[n].lba;
        last = r->trims_count > COMPARED_MAX ? r->trim_last : first + r->trims[n].count;
    }
    *range = (struct extent){first / block, (last + block - 1) / block};
    return 1;
}

static int meet(const struct record *a, const struct record *b)
{
    struct extent one, other;
    for (uint32_t i = 0; range_at(a, i, &one); i++)
        for (uint32_t k = 0; range_at(b, k, &other); k++)
            if (one.lba < other.count && other.lba < one.count)
                return 1;
    return 0;
}

static int must_wait(const struct record *later, const struct record *earlier)
{
    if (later->scope == EVERYTHING || earlier->scope == EVERYTHING)
        return 1;
    if (earlier->scope == FLUSHES)
        return 0;
    if (later->scope == FLUSHES)
        return earlier->scope == CHANGES;
    return (later->scope == CHANGES || earlier->scope == CHANGES) && meet(later, earlier);
}

void __real_order_admit(struct order *order, struct op *op);
void __wrap_order_admit(struct order *order, struct op *op)
{
    uint32_t waits = 0;
    for (const struct op *other = order->head; other; other = other->next)
        waits += (uint32_t)must_wait(model_record(op->data - ATA_HEADER), model_record(other->data - ATA_HEADER));
    __real_order_admit(order, op);
    CHECK(op->waits == waits);
    CHECK(op->begin_ns <= engine->threads[world_thread()].boot_ns + engine->set.frame_age_ns / 4);
}

/* Turns: before a request there go those of its own client, and one of each other for each of these and for itself. */

static struct turn *turn_of(const struct op *op) { return &m.turns[tag_of(model_record(op->data - ATA_HEADER))]; }

static uint32_t waiting_of(const struct lines *lines, uint8_t client)
{
    uint32_t count = 0;
    for (const struct op *line = lines->first; line; line = line->turn)
        for (const struct op *op = line; op; op = op->link)
            count += op->client == client;
    return count;
}

static void check_passed(const struct lines *lines, const struct op *by)
{
    for (const struct op *line = lines->first; line; line = line->turn)
        for (const struct op *op = line; op; op = op->link) {
            struct turn *waits = turn_of(op);
            CHECK(++waits->went[by->client] <= waits->ahead + (op->client != by->client));
        }
}

/* What can wait for others lets them go first (aoe/target/background.py), unless a write of it becomes too old. */

static int has_late_write(const struct export *x, const struct thread *t)
{
    for (const struct op *op = x->order.head; op; op = op->next)
        if (op->background && op->kind == K_WRITE && op->stamp_ns < t->now_ns - engine->set.frame_age_ns / 2)
            return 1;
    return 0;
}

static int rests(const struct export *x) { return x->rest.until_ns && !x->snapshot; }

void model_spares(const struct op *op, const struct thread *t)
{
    const struct export *x = op->export;
    CHECK(x->spared <= x->at_disk && x->spared >= op->background);
    CHECK(!op->background || x->spared == 1 || x->spared <= engine->leeway || has_late_write(x, t));
    CHECK(!op->background || !rests(x) || has_late_write(x, t));
}

static int spare_is_late(const struct export *x, const struct thread *t)
{
    const struct lines *lines[] = {&x->spare.now, &x->spare.next};
    for (int i = 0; i < 2; i++)
        for (const struct op *line = lines[i]->first; line; line = line->turn)
            if (line->kind == K_WRITE && line->stamp_ns < t->now_ns - engine->set.frame_age_ns / 2)
                return 1;
    return 0;
}

/* So many of those that wait go before one; then that one does, if none of its kind is at the disk. */
static void check_spared(const struct op *op)
{
    const struct export *x = op->export;
    const struct thread *t = &engine->threads[world_thread()];
    if (op->background)
        CHECK(turns_empty(&x->ready) || (!x->spared && x->passed >= BACKGROUND_PASSED) || has_late_write(x, t));
    else
        CHECK((turns_empty(&x->spare) || x->spared || x->passed < BACKGROUND_PASSED || rests(x)) && !spare_is_late(x, t));
}

void __real_turns_add(struct turns *turns, struct op *op);
void __wrap_turns_add(struct turns *turns, struct op *op)
{
    uint32_t ahead = waiting_of(&turns->now, op->client) + waiting_of(&turns->next, op->client);
    *turn_of(op) = (struct turn){.ahead = ahead};
    __real_turns_add(turns, op);
    CHECK(waiting_of(&turns->now, op->client) + waiting_of(&turns->next, op->client) == ahead + 1);
}

struct op *__real_turns_take(struct turns *turns);
struct op *__wrap_turns_take(struct turns *turns)
{
    struct op *op = __real_turns_take(turns);
    check_spared(op);
    CHECK(turn_of(op)->went[op->client] == turn_of(op)->ahead);
    check_passed(&turns->now, op);
    check_passed(&turns->next, op);
    return op;
}

static int is_resting(const struct thread *t, const struct export *x)
{
    const struct rest *rest = t->resting;
    while (rest && rest != &x->rest)
        rest = rest->next;
    return rest != NULL;
}

/* What waits is not forgotten: something is at the disk, and gives its place on; or what can wait rests, for a while. */
static void check_places(const struct thread *t)
{
    for (uint32_t i = 0; i < EXPORTS; i++) {
        const struct export *x = &t->engine->exports[i];
        if (!thread_owns(t, x))
            continue;
        CHECK(turns_empty(&x->ready) || x->at_disk);
        CHECK(turns_empty(&x->spare) || x->at_disk || x->rest.until_ns);
        CHECK(is_resting(t, x) == (x->rest.until_ns != 0));
        CHECK(x->rest.until_ns <= t->boot_ns + BACKGROUND_REST_MAX_NS);
    }
}

/* What the engine does with a request */

/* Nothing admitted under an older publication is unfinished once that is settled (rule T5). */
static void check_fence(const struct record *r, const struct thread *t)
{
    CHECK(atomic_load(&t->engine->exports[r->export].settled) <= r->view);
}

void model_starts(struct record *r, const struct thread *t, enum action action)
{
    const struct view *now = t->engine->exports[r->export].now;
    CHECK(now != NULL);
    CHECK(r->may_serve && r->outcome == O_NONE);
    begins(r);
    check_fence(r, t);
    if (action == IO_READ)
        return;
    CHECK(!r->stale); /* rule T9 */
    CHECK(!(now->flags & AOE_PASS) && !m.distrusted[r->export]); /* rule T6 */
    if (action == IO_SYNC)
        return;
    CHECK(is_young(r, t)); /* rule T3 */
    CHECK(r->steps == world_steps(t->index));
}

int __real_reply_op(struct thread *t, struct op *op);
int __wrap_reply_op(struct thread *t, struct op *op)
{
    struct record *r = model_record(op->data - ATA_HEADER);
    begins(r);
    CHECK(r->may_serve && r->outcome == O_NONE && r->kind == op->kind);
    check_fence(r, t);
    if (r->kind == K_FLUSH)
        check_flushed(r);
    if (r->durable)
        check_stable(r);
    return __real_reply_op(t, op);
}

int __real_hand_up(struct thread *t, const aoe_up *up, const uint8_t *frame);
int __wrap_hand_up(struct thread *t, const aoe_up *up, const uint8_t *frame)
{
    struct record *r = model_record(frame);
    CHECK(r->outcome == O_NONE && r->arrival);
    CHECK(!(up->ticket && r->stale)); /* rule T9 */
    CHECK(up->port == r->port && up->export_index == (r->export < 0 ? NO_EXPORT : (uint32_t)r->export));
    if (up->ticket)
        check_fence(r, t);
    if (!up->error)
        CHECK(up->stamp_ns == r->stamp_ns);
    if (r->wire.ata.opcode == 0xEC && !up->ticket)
        check_registered(r, t, (int)up->registered);
    CHECK(!up->registered || r->wire.ata.opcode == 0xEC);
    if (up->ticket)
        begins(r);
    r->outcome = O_UP;
    r->by_python = 1;
    int fits = __real_hand_up(t, up, frame);
    python_at_once();
    return fits;
}

/* Bytes of a frame that came up are those that came in; of one that failed in the outlet, what matters is. */
void model_took(const aoe_up *up, const uint8_t *frame)
{
    const struct record *r = model_record(frame);
    CHECK(r->outcome == O_UP && up->length <= r->length);
    if (!up->error || up->ticket) {
        CHECK(!memcmp(frame, r->head, up->length < ATA_HEADER ? up->length : ATA_HEADER));
    } else {
        struct wire asked = r->wire;
        memcpy(asked.dst, frame, MAC_BYTES);
        asked.verfl = VERSION << 4;
        asked.error = asked.ata.feature = 0;
        memset(asked.ata.stream, 0, sizeof asked.ata.stream);
        CHECK(up->length == ATA_HEADER && !memcmp(frame, &asked, sizeof asked));
    }
    uint8_t expected[SECTOR];
    struct record again = {.length = up->length, .count = r->count};
    memcpy(again.head, frame, up->length < ATA_HEADER ? up->length : ATA_HEADER);
    find_ranges(&again, frame);
    CHECK(again.trims_count == r->trims_count && !memcmp(again.trims, r->trims, sizeof r->trims));
    for (uint32_t at = ATA_HEADER, i = 0; at + SECTOR <= up->length && !is_trim(r); at += SECTOR, i++) {
        model_pattern(expected, tag_of(r), r->lba + i);
        CHECK(!memcmp(frame + at, expected, SECTOR));
    }
}

/* The registers are those of success, the address of the disk is the request's, and the LBA, too. */
static void check_header(const struct record *r, const uint8_t *reply)
{
    struct wire expected = r->wire;
    uint8_t last = wire_of(reply)->src[MAC_BYTES - 1]; /* a port's MAC changes there */
    memcpy(expected.dst, r->wire.src, MAC_BYTES);
    memcpy(expected.src, (uint8_t[]){2, 0xA0, 0, 0, (uint8_t)r->port, last}, MAC_BYTES);
    wire_put_big16(expected.type, 0x88A2);
    expected.verfl = 0x18;
    expected.error = 0;
    expected.ata.error = expected.ata.count = 0;
    expected.ata.status = 0x40;
    memset(expected.ata.stream, 0, sizeof expected.ata.stream);
    CHECK(!memcmp(reply, &expected, sizeof expected));
}

void model_reply(uint32_t thread, uint32_t port, const uint8_t *reply, uint32_t length)
{
    CHECK(length >= FRAME_MIN);
    struct record *r = model_record(reply);
    CHECK(r->arrival && r->outcome == O_NONE && r->may_serve && r->port == port && r->thread == thread);
    begins(r);
    r->outcome = O_REPLIED;
    m.replies++;
    check_header(r, reply);
    if (r->kind == K_READ) {
        CHECK(length == ATA_HEADER + r->count * SECTOR);
        check_read(r, reply + ATA_HEADER);
        return;
    }
    CHECK(length == FRAME_MIN);
    for (uint32_t i = ATA_HEADER; i < FRAME_MIN; i++)
        CHECK(reply[i] == 0);
    if (r->kind == K_WRITE)
        check_written(r);
    if (r->durable)
        CHECK(vouched(r));
}

/* The end */

/* Every frame was answered, handed up or counted as dropped. */
static void check_counts(void)
{
    static const int dropped[] = {AOE_MASKED,      AOE_EXPIRED,    AOE_OTHER_ADDRESS, AOE_FOREIGN_DESTINATION,
                                  AOE_GROUP_SOURCE, AOE_OTHER_HOST, AOE_QUEUE_FULL,    AOE_SEND_LOST, AOE_STALE,
                                  AOE_LIMITED};
    uint64_t counters[AOE_COUNTERS];
    aoe_engine_count(engine, counters);
    uint64_t total = m.replies + m.silent + counters[AOE_ENGINE_HANDED_UP];
    for (size_t i = 0; i < sizeof dropped / sizeof dropped[0]; i++)
        total += counters[dropped[i]];
    CHECK(total == m.tags + m.clogged);
}

static uint64_t times(const uint64_t *first)
{
    uint64_t total = 0;
    for (int i = 0; i < LATENCY_BUCKETS; i++)
        total += first[i];
    return total;
}

/* Of an export: what is answered has its time, and of what clients asked for nothing is lost. */
static void check_numbers(uint32_t export)
{
    uint64_t numbers[AOE_EXPORT_NUMBERS], other[AOE_CLIENT_NUMBERS];
    static aoe_client clients[CLIENTS_MAX];
    uint32_t count = aoe_engine_numbers(engine, export, numbers, clients, other);
    uint64_t answered = numbers[AOE_EXPORT_READS] + numbers[AOE_EXPORT_WRITES] + numbers[AOE_EXPORT_FLUSHES];
    uint64_t asked = other[AOE_CLIENT_REQUESTS];
    for (uint32_t i = 0; i < count; i++)
        asked += clients[i].numbers[AOE_CLIENT_REQUESTS];
    CHECK(times(&numbers[AOE_EXPORT_REPLY]) == answered);
    CHECK(asked >= answered);
    CHECK(count <= CLIENTS_MAX);
}

void model_final(void)
{
    check_counts();
    for (uint32_t i = 0; i < engine->set.exports; i++)
        check_numbers(i);
    for (int i = 0; i < EXPORTS; i++)
        check_store(i);
}
