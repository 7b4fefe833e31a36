/* What must be true of the initiator, told from its frames, its results, and which copies it still knows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_core.h"

enum { TAG_SLOTS = 1 << 16, RETRIES = 32 };
enum cause { BY_CALLER, BY_TICK, BY_FRAME, BY_FENCE };

/* A stream that the server of a path said it knows (rule T9). */
struct known {
    uint32_t path, stream;
    uint8_t instance[8];
};

/* What frames of a path were seen to carry, in sectors. */
struct passed {
    uint32_t path, there, back;
};

static struct {
    struct sent sent[SENT_MAX];
    uint32_t count, seen; /* `seen` of what is out now */
    uint32_t left;        /* how many have left, or never will */
    uint16_t slots[TAG_SLOTS]; /* number + 1, by tag */
    uint32_t unsettled[SENT_MAX], unsettled_count;
    aoe_core_port ports[PORTS_MAX];
    int64_t now_ns;
    uint64_t news;
    enum cause cause;
    const struct path *fenced;
    struct known known[SENT_MAX];
    uint32_t known_count;
    const struct sent *answers; /* what the frame that came in is the reply to, and not an error */
    int is_good;
    int alone; /* it said that what names another life of its server than this instance is over (T8 to T10) */
    int trims; /* and that all this is true of a TRIM */
    uint8_t instance[8];
    uint8_t from[6]; /* whose frame came in */
    int tainted; /* a reply may have brought bytes that are not the disk's */
    aoe_path before[PATHS_MAX]; /* as it was when we last looked */
    uint32_t before_count;
    struct passed passed[SENT_MAX];
    uint32_t passed_count;
    uint32_t drains[SENT_MAX], drains_count; /* paths whose servers said so */
    uint32_t trimming[SENT_MAX], trimming_count; /* and that a TRIM is asked for its stream */
} m;

void broken(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: not so: %s\n", file, line, what);
    abort();
}

uint8_t model_disk(uint64_t lba, uint32_t at) { return (uint8_t)(lba * 37 + at * 5 + at / 256); }

uint8_t model_pattern(uint64_t user, uint64_t at) { return (uint8_t)(user * 101 + at * 3 + at / 512 + 7); }

/* Tags */

static uint16_t *slot_of(uint32_t tag)
{
    uint32_t at = tag * 0x9E3779B1u >> 16;
    while (m.slots[at] && m.sent[m.slots[at] - 1].tag != tag)
        at = (at + 1) % TAG_SLOTS;
    return &m.slots[at];
}

static struct sent *by_tag(const uint8_t *frame)
{
    uint16_t number = *slot_of(wire_tag(frame));
    return number ? &m.sent[number - 1] : NULL;
}

void model_reset(int64_t now_ns)
{
    memset(m.slots, 0, sizeof m.slots);
    m.count = m.seen = m.left = m.unsettled_count = 0;
    m.tainted = 0;
    m.known_count = m.passed_count = m.drains_count = m.trimming_count = 0;
    m.news = m.before_count = 0;
    m.cause = BY_CALLER;
    m.now_ns = now_ns;
    memset(m.ports, 0, sizeof m.ports);
}

struct sent *model_sent(uint32_t number) { return &m.sent[number]; }

uint32_t model_sent_count(void) { return m.count; }

/* What is about to happen */

void model_port(uint32_t port, const aoe_core_port *now) { m.ports[port] = *now; }

/* What has not left before a gap never leaves, and has no fate: what is out then has other tags. */
static void forget_unsent(void)
{
    uint32_t kept = 0;
    for (uint32_t i = m.left; i < m.count; i++)
        m.sent[i].unsent = 1;
    for (uint32_t i = 0; i < m.unsettled_count; i++)
        if (!m.sent[m.unsettled[i]].unsent)
            m.unsettled[kept++] = m.unsettled[i];
    m.unsettled_count = kept;
    m.left = m.count;
    m.seen = 0;
}

void model_ticks(int64_t now_ns)
{
    if (now_ns - m.now_ns >= core->set.timing.gap_ns)
        forget_unsent();
    m.cause = BY_TICK;
    m.now_ns = now_ns;
}

void model_fences(const struct path *w)
{
    m.cause = BY_FENCE;
    m.fenced = w;
}

struct path *path_at(uint32_t number)
{
    for (uint32_t i = 0; i < core->paths_count; i++)
        if (core->paths[i]->number == number)
            return core->paths[i];
    return NULL;
}

static int knows(const struct sent *s)
{
    const struct path *w = path_at(s->path);
    return w && channel_knows(w, s->tag);
}

static int same_server(const struct path *w, const uint8_t *mac, uint32_t address)
{
    return same_mac(w->mac, mac) && ((uint32_t)w->shelf << 8 | w->slot) == address;
}

static struct wanted *wanted_by(uint64_t user)
{
    for (uint32_t i = 0; i < REQUESTS; i++)
        if (wanted[i].request && wanted[i].user == user)
            return &wanted[i];
    return NULL;
}

static void note_written(const struct sent *s)
{
    struct wanted *w = wanted_by(s->user);
    for (uint64_t lba = s->first; w && w->verb != AOE_VERB_TRIM && lba < s->last; lba++)
        w->written[lba - w->offset / 512] = 1;
}

/* What a server of ours answers to IDENTIFY; NULL: it is none, or answers something else. */
static const struct vendor *vendor_in(const struct sent *s, const uint8_t *frame, uint32_t length)
{
    const struct vendor *vendor = vendor_of(frame + ATA_HEADER);
    if (s->wire.ata.opcode != IDENTIFY_DEVICE || length < ATA_HEADER + 512)
        return NULL;
    return memcmp(vendor->signature, "AoEt", 4) || wire_little(vendor->layout, 2) != 1 ? NULL : vendor;
}

/* Nothing that names another life of the server than this one can do anything any more. */
static void note_alone(const struct vendor *vendor)
{
    m.alone = wire_little(vendor->features, 2) & 8;
    m.trims = wire_little(vendor->features, 2) & 16;
    memcpy(m.instance, vendor->instance, sizeof m.instance);
}

/* An IDENTIFY that names the server's life is answered, and the bit is in the reply: its stream is known. */
static void note_known(const struct sent *s, const struct vendor *vendor)
{
    if (!s->stream || m.known_count == SENT_MAX || memcmp(vendor->instance, s->instance, 8) ||
        !(wire_little(vendor->features, 2) & 2))
        return;
    struct known *k = &m.known[m.known_count++];
    *k = (struct known){.path = s->path, .stream = s->stream};
    memcpy(k->instance, s->instance, 8);
}

static void note_drains(const struct sent *s, const struct vendor *vendor)
{
    if (wire_little(vendor->features, 2) & 4 && m.drains_count < SENT_MAX)
        m.drains[m.drains_count++] = s->path;
}

static void note_trims(const struct sent *s)
{
    if (m.trims && m.trimming_count < SENT_MAX)
        m.trimming[m.trimming_count++] = s->path;
}

static const struct passed *passed_by(uint32_t path)
{
    for (uint32_t i = 0; i < m.passed_count; i++)
        if (m.passed[i].path == path)
            return &m.passed[i];
    m.passed[m.passed_count] = (struct passed){path, SECTORS_SURE, SECTORS_SURE};
    return &m.passed[m.passed_count++];
}

static void note_passed(const struct sent *s, const uint8_t *frame, uint32_t length)
{
    int is_error = wire_is_error(frame) || (length >= ATA_HEADER && wire_failed(frame));
    if (!is_error && length < ATA_HEADER + s->wire.ata.count * 512u)
        return;
    struct passed *passed = (struct passed *)(uintptr_t)passed_by(s->path);
    passed->there = s->there > passed->there ? s->there : passed->there;
    passed->back = s->back > passed->back ? s->back : passed->back;
}

void model_receives(uint32_t port, const uint8_t *frame, uint32_t length, const struct sent *reply_to)
{
    m.cause = BY_FRAME;
    m.answers = NULL;
    m.alone = 0;
    if (length >= 12)
        memcpy(m.from, wire_of(frame)->src, sizeof m.from);
    struct sent *s = length >= 24 ? by_tag(frame) : NULL;
    int probes = s && (s->there || s->back); /* it may be answered though it was not sent: nothing hangs on that */
    if (!s || (s->unsent && !probes) || !wire_is_reply(frame) || wire_of(frame)->command != s->wire.command)
        return;
    m.tainted |= s != reply_to;
    const struct path *w = path_at(s->path);
    if (!w || s->port != port || !same_server(w, wire_of(frame)->src, wire_address(frame)))
        return;
    m.answers = s;
    m.is_good = !wire_is_error(frame);
    if (s->wire.command == COMMAND_ATA)
        m.is_good = m.is_good && length >= ATA_HEADER && !wire_failed(frame);
    if (m.is_good && s->changes)
        note_written(s);
    const struct vendor *vendor = m.is_good && s->wire.command == COMMAND_ATA ? vendor_in(s, frame, length) : NULL;
    if (vendor) {
        note_alone(vendor);
        note_known(s, vendor);
        note_drains(s, vendor);
        note_trims(s);
    }
    if (probes)
        note_passed(s, frame, length);
}

/* Copies whose fate is not known (I2) */

static uint32_t later_copies(const struct sent *s)
{
    uint32_t count = 0;
    for (const struct sent *other = s + 1; other < &m.sent[m.count]; other++)
        count += other->path == s->path && other->changes && !other->unsent && other->first == s->first &&
            other->last == s->last;
    return count;
}

static int is_trim(const struct sent *s) { return s->wire.ata.opcode == DATA_SET_MANAGEMENT; }

static uint8_t epoch_of(const struct sent *s) { return is_trim(s) ? s->wire.ata.lba[0] : s->wire.ata.feature; }

static int is_of_earlier_epoch(const struct sent *s, const struct sent *flush)
{
    uint8_t behind = (uint8_t)(epoch_of(flush) - epoch_of(s));
    return flush->stream && s->stream == flush->stream && behind > 0 && behind < 128;
}

/* A FLUSH came back behind which a copy can do nothing. */
static int drained(const struct sent *s)
{
    const struct sent *flush = m.answers;
    int is_flush = flush->wire.command == COMMAND_ATA && flush->wire.ata.opcode == FLUSH_CACHE_EXT;
    return m.is_good && is_flush && flush->path == s->path &&
           (is_of_earlier_epoch(s, flush) || s->at_ns + core->set.timing.network_lifetime_ns <= flush->at_ns);
}

/* Its server has said that what names an earlier life of it is over. */
static int is_of_earlier_life(const struct sent *s)
{
    return m.alone && (m.trims || !is_trim(s)) && m.answers->path == s->path && s->stream &&
           memcmp(s->instance, m.instance, sizeof m.instance);
}

/* `unseen`: how many frames have just gone out, which may be later copies. */
static int may_be_settled(const struct sent *s, uint32_t unseen)
{
    const struct path *w = path_at(s->path);
    int64_t age_ns = m.now_ns - s->at_ns;
    if (!w) /* it was forgotten too soon */
        return 0;
    if (later_copies(s) + unseen >= RETRIES)
        return 1;
    switch (m.cause) {
    case BY_TICK:
        return age_ns >= w->lanes[LANE_CHANGES].quiesce_ns && age_ns >= core->set.timing.network_lifetime_ns + core->set.timing.completion_ns &&
               !core->set.hold;
    case BY_FRAME: return m.answers == s || (m.answers && (drained(s) || is_of_earlier_life(s)));
    case BY_FENCE: return !memcmp(m.fenced->mac, w->mac, 6);
    default: return 0;
    }
}

static void settle(uint32_t unseen)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m.unsettled_count; i++) {
        const struct sent *s = &m.sent[m.unsettled[i]];
        if (knows(s))
            m.unsettled[kept++] = m.unsettled[i];
        else
            CHECK(may_be_settled(s, unseen));
    }
    m.unsettled_count = kept;
}

/* Parts of one change may overlap, as long as they have the same for each sector. */
static int agree(const struct sent *s, const struct sent *other)
{
    if (s->user != other->user || s->wire.ata.opcode != other->wire.ata.opcode)
        return 0;
    for (uint64_t lba = s->first; !is_trim(s) && lba < s->last; lba++)
        if (lba >= other->first && lba < other->last &&
            s->sector_hash[lba - s->first] != other->sector_hash[lba - other->first])
            return 0;
    return 1;
}

static void check_alone(const struct sent *s)
{
    for (uint32_t i = 0; i < m.unsettled_count; i++) {
        const struct sent *other = &m.sent[m.unsettled[i]];
        CHECK(s->first >= other->last || other->first >= s->last || agree(s, other));
    }
}

/* Frames */

static uint32_t hash(uint32_t so_far, const uint8_t *bytes, uint32_t length)
{
    while (length--)
        so_far = (so_far ^ *bytes++) * 16777619u;
    return so_far;
}

static const struct path *path_to(const struct sent *s)
{
    for (uint32_t i = 0; i < core->paths_count; i++)
        if (core->paths[i]->port == s->port && same_server(core->paths[i], s->wire.dst, wire_address(s->head)))
            return core->paths[i];
    return NULL;
}

/* What a frame belongs to, by the core's own books; NULL: to a check of its path. */
static const struct operation *operation_of(const struct sent *s)
{
    const struct copy *copy = path_at(s->path)->tags[s->tag % TAG_BUCKETS];
    while (copy->tag != s->tag)
        copy = copy->next;
    return copy->exchange->operation;
}

/* Whose change it says that it is. */
static const struct wanted *owner_of(struct sent *s)
{
    s->user = operation_of(s)->piece->request->request.user;
    return wanted_by(s->user);
}

static int overlap(const struct range_lock *lock, const struct sent *s)
{
    return s->first < lock->last && lock->first < s->last;
}

/* What is compared between servers is closed. */
static void check_not_compared(const struct sent *s)
{
    const struct proof *f = &core->proof;
    CHECK(!f->echo.piece || f->echo.stage == 1 || !overlap(&f->echo.piece->lock, s));
    for (const struct link *l = f->flying.next; l != &f->flying; l = l->next)
        CHECK(!overlap(&OWNER_OF(l, struct sample, where)->lock, s));
}

/* A read that the proof began, of a range that it holds. */
static int is_compared(const struct sent *s)
{
    const struct operation *o = operation_of(s);
    if (!o || !o->only || o->piece)
        return 0;
    const struct look *look = o->look;
    const struct range_lock *lock = !look ? NULL : look->sample ? &look->sample->lock : &core->proof.echo.piece->lock;
    CHECK(!look || (lock->entered && s->first == lock->first && s->last <= lock->last));
    return 1;
}

const uint8_t *model_echo(const struct sent *s)
{
    const struct operation *o = knows(s) ? operation_of(s) : NULL;
    const struct echo *echo = &core->proof.echo;
    return o && o->look == &echo->look && echo->stage == 2 ? echo->data : NULL;
}

/* Whether a request has sectors from here to there, and is at work. */
static int covers(const struct wanted *w, uint64_t first, uint64_t last)
{
    uint64_t end = w->offset + w->length;
    return w->request && !w->ended && w->fits && first >= w->offset / 512 && last <= end / 512 + (end % 512 != 0);
}

/* The bytes are the request's, and the disk's around them. */
static int is_data_of(const struct wanted *w, uint64_t lba, const uint8_t *data, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++) {
        uint64_t at = lba * 512 + i;
        int asked = at >= w->offset && at - w->offset < w->length;
        if (asked ? data[i] != model_pattern(w->user, at - w->offset)
                  : !m.tainted && data[i] != model_disk(at / 512, at % 512))
            return 0;
    }
    return 1;
}

static void check_write(struct sent *s, const uint8_t *data, uint32_t length)
{
    CHECK(s->wire.ata.flags == 0x41 && length == s->wire.ata.count * 512u); /* the feature is the epoch, if any */
    const struct wanted *w = owner_of(s);
    CHECK(w && covers(w, s->first, s->last) && is_data_of(w, s->first, data, length));
    CHECK(w->verb == AOE_VERB_WRITE_FUA || (w->verb == AOE_VERB_WRITE && s->wire.ata.opcode == WRITE_SECTORS_EXT));
    for (uint32_t i = 0; i < s->wire.ata.count; i++)
        s->sector_hash[i] = hash(0, data + i * 512u, 512);
}

static uint64_t number_of(const uint8_t *bytes, int length)
{
    uint64_t value = 0;
    while (length--)
        value = value << 8 | bytes[length];
    return value;
}

/* Its ranges follow each other, inside of what a TRIM was asked for. */
static void check_trim(struct sent *s, const uint8_t *data, uint32_t length)
{
    CHECK(s->wire.ata.flags == 0x41 && s->wire.ata.feature == 1 && wire_lba(s->head) == (s->stream ? epoch_of(s) : 0));
    CHECK(length == s->wire.ata.count * 512u);
    const struct wire_range *range = (const struct wire_range *)data;
    s->first = s->last = number_of(range->lba, LBA_BYTES);
    for (uint32_t i = 0; i < length / sizeof *range; i++) {
        uint64_t count = number_of(range[i].count, 2);
        CHECK(!count || number_of(range[i].lba, LBA_BYTES) == s->last);
        s->last += count;
    }
    CHECK(s->last > s->first);
    const struct wanted *w = owner_of(s);
    CHECK(w && covers(w, s->first, s->last) && w->verb == AOE_VERB_TRIM);
}

static void check_read(const struct sent *s)
{
    int found = path_at(s->path)->slow && s->first == 0 && s->last == 1; /* a check of the path */
    for (uint32_t i = 0; i < REQUESTS; i++)
        found |= covers(&wanted[i], s->first, s->last) && wanted[i].verb <= AOE_VERB_WRITE_FUA;
    CHECK(found || is_compared(s));
}

/* What has waited leaves before it is known that a path takes less now. */
static uint32_t takes(uint32_t number)
{
    uint32_t sectors = path_at(number)->sectors;
    for (uint32_t i = 0; i < m.before_count; i++)
        if (m.before[i].number == number && m.before[i].sectors > sectors)
            sectors = m.before[i].sectors;
    return sectors;
}

/* The bits of the Device register that were always set. */
/* What an IDENTIFY says beside the registers of old; with a stream also whether what we ask for can wait. */
static uint64_t said_in(const struct sent *s)
{
    uint64_t background = s->stream && core->set.background ? 0x100 : 0;
    return wire_lba(s->head) - background - 0xA0000000u;
}

static int is_old(const struct sent *s) { return said_in(s) == 0; }

/* A server that said that it drains is told that we have left it, or that we would. */
static int is_leaving(const struct sent *s)
{
    if (said_in(s) != 1 && said_in(s) != 2)
        return 0;
    for (uint32_t i = 0; i < m.drains_count; i++)
        if (m.drains[i] == s->path)
            return s->stream != 0;
    return m.drains_count == SENT_MAX;
}

/* The old owner was sent the FLUSH that vouches for all its changes before another one is the owner. */
static int is_parting(const struct path *w)
{
    struct exchange *x = core->parting;
    return x && x->path == w && x->copies_count && *slot_of(oldest_copy(x)->tag);
}

static void check_ata(struct sent *s, const uint8_t *data, uint32_t length)
{
    uint32_t opcode = s->wire.ata.opcode, count = s->wire.ata.count, sectors = takes(s->path);
    s->first = wire_lba(s->head);
    s->last = s->first + s->wire.ata.count;
    switch (opcode) {
    case READ_SECTORS_EXT:
        CHECK(count && count <= sectors && count <= passed_by(s->path)->back && !length);
        check_read(s);
        return;
    case WRITE_SECTORS_EXT:
    case WRITE_DMA_FUA_EXT: check_write(s, data, length); break;
    case DATA_SET_MANAGEMENT: check_trim(s, data, length); break;
    case IDENTIFY_DEVICE: CHECK(s->wire.ata.count == 1 && (is_old(s) || is_leaving(s)) && !length); return;
    default: CHECK((opcode == FLUSH_CACHE || opcode == FLUSH_CACHE_EXT) && !length && !s->wire.ata.count); return;
    }
    CHECK(count && count <= sectors && count <= passed_by(s->path)->there);
    CHECK(!is_parting(path_at(s->path)));
    s->changes = 1;
    check_alone(s);
    check_not_compared(s);
    m.unsettled[m.unsettled_count++] = m.count;
}

/* A server that gets no place is asked what it is. Its tag is made of its name, so it may come again. */
static void check_stranger(const struct sent *s)
{
    const struct sent *before = by_tag(s->head);
    CHECK(core->paths_count == PATHS_MAX && s->tag >> 31 && s->length == FRAME_MIN);
    CHECK(s->wire.ata.flags == 0 && s->wire.ata.count == 1 && s->wire.ata.opcode == IDENTIFY_DEVICE && is_old(s));
    CHECK(!before || (!memcmp(before->head, s->head, 6) && before->port == s->port));
}

/* The trailer of order rule T9, if any: where the frame's data end, and only with what the rule is about. */
static void find_stream(struct sent *s, const aoe_out *out)
{
    const uint8_t *at = out->data_length ? out->tail : out->head + ATA_HEADER;
    CHECK(!out->tail_length || (out->tail_length == 12 && out->data_length));
    if (s->wire.command != COMMAND_ATA || (out->data_length && !out->tail_length) || memcmp(at, "\xd3\x1f\xb6\x4a", 4))
        return;
    s->stream = wire_big16(s->wire.ata.stream);
    memcpy(s->instance, at + SIGNATURE_BYTES, INSTANCE_BYTES);
    CHECK(s->stream && s->tag >> 31);
    uint8_t opcode = s->wire.ata.opcode;
    CHECK(opcode == IDENTIFY_DEVICE || opcode == FLUSH_CACHE || opcode == FLUSH_CACHE_EXT ||
          opcode == WRITE_SECTORS_EXT || opcode == WRITE_DMA_FUA_EXT || opcode == DATA_SET_MANAGEMENT);
}

static int is_known(const struct sent *s)
{
    for (uint32_t i = m.known_count; i--;) {
        const struct known *k = &m.known[i];
        if (k->path == s->path && k->stream == s->stream && !memcmp(k->instance, s->instance, 8))
            return 1;
    }
    return m.known_count == SENT_MAX;
}

/* A server of an earlier version would take a TRIM for anyone's: none is stamped there. */
static int trims_there(const struct sent *s)
{
    for (uint32_t i = m.trimming_count; i--;)
        if (m.trimming[i] == s->path)
            return 1;
    return m.trimming_count == SENT_MAX;
}

static int is_zero(const uint8_t *bytes, uint32_t length)
{
    while (length--)
        if (*bytes++)
            return 0;
    return 1;
}

/* How large frames may be is asked by reads alone, of sectors that there are. */
static void check_probe(struct sent *s, const aoe_out *out)
{
    uint32_t filler = out->data_length, count = s->wire.ata.count;
    s->first = wire_lba(s->head);
    CHECK(s->wire.command == COMMAND_ATA && s->wire.ata.opcode == READ_SECTORS_EXT);
    CHECK(s->wire.ata.flags == 0x40 && !s->wire.ata.feature);
    CHECK(count && s->first + count <= core->sectors && is_zero(out->data, filler) && !out->tail_length);
    CHECK(filler / 512 <= takes(s->path) && count <= takes(s->path));
    s->there = filler / 512;
    s->back = filler ? 0 : count == core->sectors ? UINT8_MAX : count; /* more cannot be read */
}

/* What is asked so that any copy of it is harmless, a message as well. */
static int is_harmless(const struct sent *s)
{
    return s->wire.command != COMMAND_ATA || s->wire.ata.opcode == READ_SECTORS_EXT || s->wire.ata.opcode == IDENTIFY_DEVICE;
}

/* Whether they ask the same, but for the tag. */
static int ask_the_same(const aoe_out *one, const aoe_out *other)
{
    return one->port == other->port && one->head_length == other->head_length && one->data == other->data &&
           one->data_length == other->data_length && !memcmp(one->head, other->head, offsetof(struct wire, tag)) &&
           !memcmp(one->head + AOE_HEADER, other->head + AOE_HEADER, one->head_length - AOE_HEADER);
}

static int is_sent_anew(const aoe_out *out)
{
    aoe_out *all;
    uint32_t count = aoe_core_out(core, &all);
    for (const aoe_out *later = out + 1; later < all + count; later++)
        if (ask_the_same(out, later))
            return 1;
    return 0;
}

/* It had room as a server answered what it is, and that is another life of it: nothing that was sent to the last one
 * can do anything any more, and it was sent anew. */
static int is_for_last_life(const struct sent *s, const aoe_out *out)
{
    const struct sent *asked = m.cause == BY_FRAME && m.is_good ? m.answers : NULL;
    if (!asked || asked->path != s->path || asked->wire.command != COMMAND_ATA || asked->wire.ata.opcode != IDENTIFY_DEVICE)
        return 0;
    if (is_harmless(s))
        return is_sent_anew(out);
    int asked_for_it = m.alone && (m.trims || !is_trim(s));
    return asked_for_it && s->stream && memcmp(s->instance, m.instance, sizeof m.instance);
}

/* What the next life is told says that such a frame may be under way: by its stream, or, where there was no place for
 * that, that there is something at that server, or at any. */
static int is_noted_by(const aoe_debt *debt, const struct sent *s)
{
    static const uint8_t none[MAC_BYTES];
    int lasts = m.now_ns < debt->until_ns && debt->quiesce_ns > 0;
    if (same_mac(debt->own, none))
        return lasts && (same_mac(debt->mac, none) || same_mac(debt->mac, s->wire.dst));
    int there = same_mac(debt->mac, s->wire.dst) && same_mac(debt->own, s->wire.src) && debt->port == s->port;
    int of_it = debt->stream == s->stream && (!s->stream || wire_little(s->instance, INSTANCE_BYTES) == debt->instance);
    int in_it = !s->stream || (uint8_t)(debt->epoch - epoch_of(s)) < 128; /* what is out with it may be later */
    return lasts && there && of_it && in_it && ((debt->tag - s->tag) & TAG_MASK) < 2 * DEBT_TAGS;
}

static void check_noted(const struct sent *s)
{
    aoe_debt debts[DEBTS_MAX];
    int flushes = s->stream && s->wire.command == COMMAND_ATA && s->wire.ata.opcode != IDENTIFY_DEVICE;
    if (!s->changes && !flushes)
        return;
    CHECK(!aoe_core_left(core));
    for (uint32_t i = aoe_core_debts(core, debts); i--;)
        if (is_noted_by(&debts[i], s))
            return;
    CHECK(!"it is noted before it leaves");
}

/* A FLUSH for an earlier life: in its stream, of the next epoch, with a tag beyond all that it used by the window. */
static int is_question_of_left(const struct sent *s, const aoe_out *out)
{
    const aoe_debt *left = core->set.debt;
    if (!core->set.debts || s->wire.command != COMMAND_ATA || s->wire.ata.opcode != FLUSH_CACHE_EXT)
        return 0;
    int of_it = wire_big16(s->wire.ata.stream) == left->stream && same_mac(s->wire.dst, left->mac);
    if (!of_it || !left->stream || !same_mac(s->wire.src, left->own))
        return 0;
    uint32_t ahead = (s->tag - left->tag) & TAG_MASK;
    CHECK(s->wire.ata.feature == (uint8_t)(left->epoch + 1) && ahead >= REPLAY_WINDOW && ahead < 2 * REPLAY_WINDOW);
    CHECK(wire_little(out->head + ATA_HEADER + SIGNATURE_BYTES, INSTANCE_BYTES) == left->instance);
    return 1;
}

static void check_frame(struct sent *s, const aoe_out *out)
{
    const uint8_t *f = out->head;
    CHECK(out->port < core->set.ports);
    CHECK(out->head_length >= 24 && out->head_length <= sizeof out->head && s->length >= FRAME_MIN);
    CHECK(wire_big16(wire_of(f)->type) == ETHERTYPE && wire_of(f)->verfl == VERSION << 4 && wire_of(f)->error == 0);
    CHECK(same_mac(wire_of(f)->src, m.ports[s->port].mac));
    const struct path *w = path_to(s);
    if (is_question_of_left(s, out)) {
        CHECK(!aoe_core_chosen(core) && aoe_core_left(core));
        return;
    }
    if (!w && wire_of(f)->command == COMMAND_ATA) {
        check_stranger(s);
        return;
    }
    CHECK(s->tag >> 31 && !*slot_of(s->tag));
    s->path = w ? w->number : 0;
    find_stream(s, out);
    CHECK(!s->stream || s->wire.ata.opcode == IDENTIFY_DEVICE || is_known(s));
    CHECK(!s->stream || !is_trim(s) || trims_there(s));
    if (knows(s)) {
        if (wire_of(f)->command == COMMAND_ATA)
            check_ata(s, out->data, out->data_length);
        check_noted(s);
        return;
    }
    if (w && sizes_asked((struct sizes *)&w->sizes, s->tag)) {
        check_probe(s, out);
        return;
    }
    if (w && is_for_last_life(s, out))
        return;
    static const uint8_t nothing[FRAME_MIN - AOE_HEADER];
    CHECK(s->wire.command == COMMAND_CONFIG && s->length == FRAME_MIN);
    CHECK(!memcmp(f + AOE_HEADER, nothing, sizeof nothing));
    CHECK(s->path || same_mac(f, wire_all()) || (m.cause == BY_FRAME && same_mac(f, m.from))); /* an invited one */
    s->path = 0;
}

static void see(const aoe_out *out)
{
    if (m.count == SENT_MAX)
        return;
    struct sent *s = &m.sent[m.count];
    *s = (struct sent){.port = out->port, .length = out->head_length + out->data_length + out->tail_length, .at_ns = m.now_ns};
    memcpy(s->head, out->head, sizeof s->head);
    s->tag = wire_tag(out->head);
    s->bytes_hash = hash(hash(0, out->head, out->head_length), out->data, out->data_length);
    if (out->data_length)
        s->bytes_hash = hash(0, out->data, out->data_length);
    check_frame(s, out);
    *slot_of(s->tag) = (uint16_t)(++m.count);
}

/* The disk is never what no disk can be. */
static void check_identity(void)
{
    uint8_t identity[512], sum = 0;
    if (!aoe_core_identity(core, identity))
        return;
    int far = (word_of(identity, 83) & 0x0400) != 0;
    uint64_t sectors = far ? number_of(&identity[2 * 100], 8) : number_of(&identity[2 * 60], 4);
    for (uint32_t i = 0; i < sizeof identity; i++)
        sum = (uint8_t)(sum + identity[i]);
    CHECK((word_of(identity, 255) & 0xFF) != 0xA5 || !sum);
    CHECK(word_of(identity, 49) & 0x0200);
    CHECK(sectors && (far ? sectors <= 1ull << 48 : sectors < 1ull << 28));
}

static void check_paths(void)
{
    aoe_path paths[PATHS_MAX];
    uint32_t count = aoe_core_paths(core, paths, PATHS_MAX), owners = 0;
    CHECK(count <= PATHS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        owners += paths[i].owner;
        CHECK(paths[i].state <= PATH_REFUSED && paths[i].reason < WHYS && paths[i].port < core->set.ports);
        CHECK(!paths[i].owner || paths[i].state == PATH_USABLE);
        CHECK(!paths[i].owner || aoe_core_chosen(core));
    }
    CHECK(owners <= 1);
    memcpy(m.before, paths, count * sizeof *paths);
    m.before_count = count;
    CHECK(aoe_core_news(core) >= m.news);
    m.news = aoe_core_news(core);
    uint64_t counters[AOE_CORE_COUNTERS];
    aoe_core_count(core, counters);
    CHECK(counters[AOE_RETRANSMITS] <= m.count || m.count == SENT_MAX);
    CHECK(aoe_core_pulse(core) > 0);
}

void model_look(void)
{
    aoe_out *out;
    uint32_t count = aoe_core_out(core, &out);
    settle(count - m.seen);
    while (m.seen < count)
        see(&out[m.seen++]);
    check_paths();
    check_identity();
    CHECK(core->spent || link_alone(&core->ready)); /* what may go has gone */
    m.cause = BY_CALLER;
}

void model_sends(void)
{
    aoe_out *out;
    uint32_t count = aoe_core_out(core, &out);
    CHECK(count == m.seen);
    for (uint32_t i = 0; m.count < SENT_MAX && i < count; i++)
        if (out[i].data_length)
            CHECK(m.sent[m.count - count + i].bytes_hash == hash(0, out[i].data, out[i].data_length));
    m.seen = 0;
    m.left = m.count;
}

/* Results */

static void check_data(const struct wanted *w)
{
    const aoe_request *r = w->request;
    CHECK(r->data_length == w->length && (!w->data || r->data == w->data));
    for (uint64_t i = 0; i < w->length && !m.tainted; i++)
        CHECK(r->data[i] == model_disk((w->offset + i) / 512, (w->offset + i) % 512));
}

static void check_written(const struct wanted *w)
{
    uint64_t sectors = (w->offset + w->length + 511) / 512 - w->offset / 512;
    for (uint64_t i = 0; w->length && i < sectors; i++)
        CHECK(w->written[i]);
}

void model_ended(struct wanted *w)
{
    const aoe_request *r = w->request;
    CHECK(!w->ended && r->user == w->user && r->verb == w->verb && r->offset == w->offset && r->length == w->length);
    CHECK(r->outcome <= AOE_ENDED_REFUSED);
    CHECK(w->fits || r->outcome == AOE_ENDED_OUT_OF_RANGE);
    w->ended = 1;
    if (r->outcome != AOE_ENDED_OK)
        CHECK(r->data_length == 0);
    else if (w->verb == AOE_VERB_READ)
        check_data(w);
    else if (w->verb == AOE_VERB_WRITE || w->verb == AOE_VERB_WRITE_FUA)
        check_written(w);
    else if (w->verb == AOE_VERB_IDENTIFY)
        CHECK(r->data_length == 512);
    else if (w->verb == AOE_VERB_ASK)
        CHECK(r->data_length >= w->length && r->data_length >= 24);
}

/* A range that is never found: those that overlap it do not wait for each other. */
void __real_ranges_enter(struct ranges *r, struct range_lock *lock);
void __wrap_ranges_enter(struct ranges *r, struct range_lock *lock)
{
    static uint64_t elsewhere = 1ull << 60;
    uint64_t first = lock->first, last = lock->last;
    if (planted(PLANT_OPEN_RANGE)) {
        lock->first = elsewhere++;
        lock->last = elsewhere;
    }
    __real_ranges_enter(r, lock);
    lock->first = first;
    lock->last = last;
}
