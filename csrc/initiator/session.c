/* One disk over several ways: which there are, which of them carries what, and when to change. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "initiator.h"


static const struct body identify = {
    .ata = {.count = 1, .opcode = IDENTIFY_DEVICE, .lba = {0, 0, 0, 0xA0}}, .head_length = sizeof identify.ata};

static void recall(aoe_core *c, struct way *w, int64_t now_ns);
static void look(aoe_core *c, struct way *w, int64_t now_ns);
static void take_over(aoe_core *c, struct way *w, int64_t now_ns);
static void ask_size(aoe_core *c, struct way *w, int64_t now_ns);
static void release(aoe_core *c, int64_t now_ns);

static void event(aoe_core *c, struct event e)
{
    if (c->events_count == c->events_room) {
        c->events_room = c->events_room ? 2 * c->events_room : 64;
        c->events = must_allocate(c->events, c->events_room * sizeof *c->events);
    }
    c->events[c->events_count++] = e;
}

/* Something has happened to a path: it is seen to in its turn. */
static void note(aoe_core *c, struct way *w, int happens, int reason)
{
    path_effect(c, (struct effect){.what = EFFECT_HAPPENED, .way = w, .happens = happens, .reason = reason});
}

/* Operations */

static void close_operation(aoe_core *c, struct operation *o, int64_t now_ns);

static void conclude(aoe_core *c, struct operation *o, struct way *w, const uint8_t *raw, uint32_t length, int good,
                     int64_t now_ns)
{
    o->open = 0;
    link_remove(&o->open_link);
    event(c, (struct event){EFFECT_ANSWERED, o, w, raw, length, 0, good});
    close_operation(c, o, now_ns);
}

/* Whether this is how a server says that it does not take so much in one request: ours and ggaoed abort the command,
 * vblade calls it a bad argument. */
static int refuses(const struct effect *e)
{
    const struct wire *said = wire_of(e->raw);
    if (e->good)
        return 0;
    if (wire_is_error(e->raw))
        return said->error == ERROR_BAD_ARGUMENT;
    return (said->ata.status & FAILURES) == ERROR && said->ata.error & ABRT;
}

static void refused(aoe_core *c, struct operation *o, struct way *w, const struct effect *e, int64_t now_ns)
{
    uint32_t length = e->length < ATA_HEADER ? e->length : ATA_HEADER;
    if (!o->refusal)
        o->refusal = pool_take(&c->refusals);
    *o->refusal = (struct refusal){.by = w, .length = length};
    memcpy(o->refusal->head, e->raw, length);
    link_append(&w->refused, &o->held_link);
    ask_size(c, w, now_ns);
}

static void answered(aoe_core *c, struct way *w, const struct effect *e, int64_t now_ns)
{
    struct operation *o = e->exchange->operation;
    if (o->command == COMMAND_ATA)
        w->io_ns = now_ns;
    if (o->lane != LANE_READS && w->identified && w->volatile_cache) {
        c->unflushed = w;
        c->changes++;
    }
    if (!o->open)
        return;
    if (o->sectors > 1 && refuses(e))
        refused(c, o, w, e, now_ns);
    else
        conclude(c, o, w, e->raw, e->length, e->good, now_ns);
}

static void settled(aoe_core *c, struct exchange *x)
{
    struct operation *o = x->operation;
    if (o) {
        link_remove(&x->of_operation);
        if (!o->open && link_alone(&o->exchanges))
            event(c, (struct event){.what = EFFECT_SETTLED, .operation = o});
    }
    pool_give(&c->exchanges, x);
}

static void abandon_exchange(aoe_core *c, struct exchange *x, int64_t now_ns)
{
    path_abandon(c, x->way, x, now_ns);
}

/* No answer to it is wanted any more. */
static void close_operation(aoe_core *c, struct operation *o, int64_t now_ns)
{
    struct link *next;
    if (link_alone(&o->exchanges))
        event(c, (struct event){.what = EFFECT_SETTLED, .operation = o});
    for (struct link *l = o->exchanges.next; l != &o->exchanges; l = next) {
        struct exchange *x = OWNER_OF(l, struct exchange, of_operation);
        next = l->next;
        if (x->open)
            abandon_exchange(c, x, now_ns);
    }
}

static void send_by(aoe_core *c, struct operation *o, struct way *w, int64_t now_ns)
{
    struct exchange *x = exchange_new(c, w, &o->body, o->command, o->lane, o->reply_min);
    x->operation = o;
    x->sectors = o->sectors;
    link_append(&o->exchanges, &x->of_operation);
    path_start(c, w, x, now_ns);
}

static struct way *sender_of(const aoe_core *c, uint32_t tag)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (path_knows(c->ways[i], tag))
            return c->ways[i];
    return NULL;
}

/* What was not sent by now has a time of sending that is not true, and with it all that is told from that: it goes out
 * as another copy. Queries are due again anyway. */
static void make_anew(aoe_core *c, int64_t now_ns)
{
    uint32_t count = c->out_count;
    uint32_t *tags = count ? must_allocate(NULL, count * sizeof *tags) : NULL;
    for (uint32_t i = 0; i < count; i++)
        tags[i] = wire_tag(c->out[i].head);
    c->out_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct way *w = sender_of(c, tags[i]);
        if (w)
            path_make_anew(c, w, tags[i], now_ns);
        else
            c->seek_ns = now_ns;
    }
    free(tags);
}

static int vouched(const aoe_core *c, const struct way *w, int64_t now_ns)
{
    return w->vouched && now_ns - w->heard_ns < c->set.timing.silence_ns;
}

static uint32_t load_of(const struct way *w)
{
    return path_outstanding(w) + w->waiting_count;
}

/* The proved way with the fewest requests; of equals, the one after the last that was chosen. */
static struct way *least_loaded(aoe_core *c, int64_t now_ns)
{
    struct way *best = NULL;
    uint32_t at = 0;
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (c->ways[i] == c->last)
            at = i + 1;
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *w = c->ways[(at + i) % c->ways_count];
        if (w->state != WAY_USABLE || !(w->trial.proved || trial_leads_to_owner(c, w)))
            continue;
        if (!vouched(c, w, now_ns))
            look(c, w, now_ns);
        else if (!best || load_of(w) < load_of(best))
            best = w;
    }
    return c->last = best ? best : c->owner;
}

static void hold(aoe_core *c, struct operation *o)
{
    if (link_alone(&o->held_link))
        link_append(&c->held, &o->held_link);
}

/* How many sectors may go with a request there. */
static uint32_t most_of(const struct way *w, uint32_t lane)
{
    return sizes_limit(&w->sizes, lane == LANE_READS ? BACK : THERE);
}

/* No answer is wanted any more. What was sent stays of unknown fate. */
static void abandon(aoe_core *c, struct operation *o, int64_t now_ns)
{
    o->open = 0;
    link_remove(&o->open_link);
    link_remove(&o->held_link);
    close_operation(c, o, now_ns);
}

/* It has to become several. What was sent of it stays of unknown fate. */
static void give_back(aoe_core *c, struct operation *o, const struct way *w, int64_t now_ns)
{
    event(c, (struct event){.what = EFFECT_TOO_LARGE, .operation = o, .sectors = most_of(w, o->lane)});
    abandon(c, o, now_ns);
}

/* What is meant for that way alone, and is too large for it now. */
static void give_back_large(aoe_core *c, const struct way *w, int64_t now_ns)
{
    struct link *next;
    for (struct link *l = c->open.next; l != &c->open; l = next) {
        struct operation *o = OWNER_OF(l, struct operation, open_link);
        next = l->next;
        if (o->only == w && o->sectors > most_of(w, o->lane))
            give_back(c, o, w, now_ns);
    }
}

uint32_t session_frame(const aoe_core *c, uint32_t lane)
{
    uint32_t most = c->ways_count ? 0 : 1;
    if (c->owner)
        return most_of(c->owner, lane);
    for (uint32_t i = 0; i < c->ways_count; i++)
        most = most_of(c->ways[i], lane) > most ? most_of(c->ways[i], lane) : most;
    return most;
}

static void dispatch(aoe_core *c, struct operation *o, int64_t now_ns)
{
    struct way *w = c->owner;
    if (o->only) {
        send_by(c, o, o->only, now_ns);
        return;
    }
    if (w && o->free && c->set.spread)
        w = least_loaded(c, now_ns);
    if (!w) {
        hold(c, o);
    } else if (!vouched(c, w, now_ns)) {
        hold(c, o);
        look(c, w, now_ns);
    } else if (o->sectors > most_of(w, o->lane)) {
        give_back(c, o, w, now_ns);
    } else {
        send_by(c, o, w, now_ns);
    }
}

/* A loss is told to every flush that was under way then. */
int session_flushed(aoe_core *c, uint64_t changes, uint64_t losses_told)
{
    if (changes + 1 >= c->changes) /* the flush itself is one */
        c->unflushed = NULL;
    c->losses_told = c->losses;
    return c->losses == losses_told;
}

/* Finding ways */

static const struct body read_config = {.head_length = 8};

static void query(aoe_core *c, uint32_t port, const uint8_t *mac, uint32_t shelf, uint32_t slot)
{
    c->tag = (c->tag + 1) & TAG_MASK;
    c->asked[c->asked_count++ % ASKED_MAX] = USER_TAG | c->tag;
    send_frame(c, port, mac, c->ports[port].mac, shelf, slot, COMMAND_CONFIG, USER_TAG | c->tag, &read_config);
}

static int leads_to(const struct way *w, uint32_t address)
{
    return ((uint32_t)w->shelf << 8 | w->slot) == address;
}

/* Whether there is a usable way. Behind one that is refused a good server may be hidden. */
static int leads(const aoe_core *c, uint32_t port, uint32_t address)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (c->ways[i]->state == WAY_USABLE && c->ways[i]->port == port && leads_to(c->ways[i], address))
            return 1;
    return 0;
}

/* Whether a way there, on any port, has been checked and found well, or not ours. */
static int looked_at(const aoe_core *c, uint32_t address)
{
    for (uint32_t i = 0; i < c->ways_count; i++) {
        const struct way *w = c->ways[i];
        int known = w->state == WAY_USABLE || life_shown(w->state) == WAY_REFUSED;
        if (known && leads_to(w, address))
            return 1;
    }
    return 0;
}

static void seek(aoe_core *c, int64_t now_ns)
{
    for (uint32_t p = 0; p < c->set.ports; p++)
        for (uint32_t a = 0; a < c->set.addresses; a++)
            if (c->ports[p].up && !leads(c, p, c->addresses[a]))
                query(c, p, wire_all(), c->addresses[a] >> 8, c->addresses[a] & 0xFF);
    c->seek_ns = now_ns + c->seek_wait_ns;
    int64_t most = c->owner ? c->set.timing.query_idle_ns : c->set.timing.query_max_ns;
    c->seek_wait_ns = 2 * c->seek_wait_ns < most ? 2 * c->seek_wait_ns : most;
}

static int64_t quiesce_ns(const aoe_core *c, int64_t age_ns)
{
    return c->set.hold ? NEVER_NS : c->set.timing.network_lifetime_ns + age_ns + c->set.timing.completion_ns;
}

static int64_t rank_of(const aoe_core *c, uint32_t address)
{
    for (uint32_t a = 0; a < c->set.addresses; a++)
        if (c->addresses[a] == address)
            return a;
    return -1;
}

/* How much ways take */

/* One of its ends may take another size now. */
static void fit(aoe_core *c, struct way *w, int64_t now_ns)
{
    uint32_t both = c->ports[w->port].sectors;
    both = w->offers < both ? w->offers : both;
    both = both ? both : 1;
    if (both == w->sectors)
        return;
    w->sectors = both;
    sizes_fit(&w->sizes, both, now_ns);
    c->news++;
}

/* What was sent there, or waits for it, and is too large now, is sent again in parts. */
static void resized(aoe_core *c, struct way *w, int64_t now_ns)
{
    struct sizes_shown now = sizes_shown(&w->sizes);
    if (now.there == w->shown.there && now.back == w->shown.back && now.narrow == w->shown.narrow)
        return;
    w->shown = now;
    c->news++;
    give_back_large(c, w, now_ns);
    recall(c, w, now_ns);
}

static uint32_t offers_of(const uint8_t *raw)
{
    uint8_t sectors = wire_of(raw)->config.sectors;
    return sectors ? sectors : 2;
}

static uint32_t window_of(const aoe_core *c, uint32_t port, const uint8_t *raw)
{
    uint32_t buffers = wire_big16(wire_of(raw)->config.buffers), window = c->ports[port].window;
    window = buffers < window ? buffers : window;
    return window ? window : 1;
}

/* Its server says how much. */
static void takes(aoe_core *c, struct way *w, const uint8_t *raw, int64_t now_ns)
{
    w->offers = offers_of(raw);
    path_limit(w, window_of(c, w->port, raw));
    fit(c, w, now_ns);
    resized(c, w, now_ns);
}

static int config_fits(const uint8_t *raw, uint32_t length)
{
    if (length < CONFIG_HEADER)
        return 0;
    uint32_t text = wire_big16(wire_of(raw)->config.length), ccmd = wire_of(raw)->config.vercmd & 0xF;
    return !ccmd || (text <= CONFIG_STRING_MAX && CONFIG_HEADER + text <= length);
}

static void ask_size(aoe_core *c, struct way *w, int64_t now_ns)
{
    if (w->question)
        return;
    for (struct link *l = w->refused.next; l != &w->refused; l = l->next)
        OWNER_OF(l, struct operation, held_link)->refusal->asked = 1;
    w->question = exchange_new(c, w, &read_config, COMMAND_CONFIG, LANE_READS, CONFIG_HEADER);
    path_start_now(c, w, w->question, now_ns);
}

/* The answer to a query. What was refused before it, though it is not too large, has failed. */
static void told(aoe_core *c, struct way *w, const struct effect *answer, int64_t now_ns)
{
    struct link *next;
    w->question = NULL;
    if (answer->good && config_fits(answer->raw, answer->length))
        takes(c, w, answer->raw, now_ns);
    for (struct link *l = w->refused.next; l != &w->refused; l = next) {
        struct operation *o = OWNER_OF(l, struct operation, held_link);
        next = l->next;
        if (!o->refusal->asked)
            continue;
        link_remove(&o->held_link);
        if (o->sectors > most_of(w, o->lane))
            give_back(c, o, w, now_ns);
        else
            conclude(c, o, w, o->refusal->head, o->refusal->length, 0, now_ns);
    }
    if (!link_alone(&w->refused))
        ask_size(c, w, now_ns);
}

/* How many sectors a probe reads. */
static uint32_t read_by(const aoe_core *c, const struct size_probe *probe)
{
    uint32_t sectors = probe->direction == BACK ? probe->sectors : 1;
    return sectors < c->sectors ? sectors : (uint32_t)c->sectors;
}

static struct body reading(uint8_t count)
{
    struct wire_registers asked = {.flags = AFLAG_EXTENDED, .count = count, .opcode = READ_SECTORS_EXT};
    return (struct body){.ata = asked, .head_length = sizeof asked};
}

static void send_probe(aoe_core *c, struct way *w, struct size_probe probe)
{
    static const uint8_t zeroes[255 * SECTOR + STAMP_TRAILER];
    uint32_t count = read_by(c, &probe), filler = 0;
    uint64_t lba = w->sizes.lba < c->sectors - count ? w->sizes.lba : c->sectors - count;
    if (probe.direction == THERE)
        filler = probe.sectors * SECTOR + (w->stamp.stream ? STAMP_TRAILER : 0);
    struct body body = reading((uint8_t)count);
    wire_put_little(body.ata.lba, LBA_BYTES, lba);
    body.data = zeroes;
    body.data_length = filler;
    probe.tag = path_new_tag(w);
    sizes_sent(&w->sizes, probe);
    send_frame(c, w->port, w->mac, w->own, w->shelf, w->slot, COMMAND_ATA, probe.tag, &body);
}

/* Also an error says that frames get there, and if it is told at once, nothing of others. */
static void probe_reply(aoe_core *c, struct way *w, struct size_probe *probe, const uint8_t *raw, uint32_t length,
                        int64_t now_ns)
{
    uint32_t least = ATA_HEADER + SECTOR * read_by(c, probe);
    if (reply_judge(raw, length, COMMAND_ATA, least) == REPLY_UNFIT) {
        c->counters[AOE_UNFIT_REPLY]++;
        return;
    }
    w->heard_ns = now_ns;
    sizes_answered(&w->sizes, probe);
    resized(c, w, now_ns);
}

/* See how large frames may be there. */
static void measure(aoe_core *c, struct way *w, int64_t now_ns)
{
    struct size_probe probes[DIRECTIONS + 1];
    uint32_t lost = w->suspect, lane = w->suspect_lane;
    w->suspect = 0;
    if (lost && lost <= most_of(w, lane)) {
        sizes_doubt(&w->sizes, lane == LANE_READS ? BACK : THERE, w->suspect_lba, now_ns);
        ask_size(c, w, now_ns);
    }
    if (sizes_again(&w->sizes, c->ports[w->port].sectors, now_ns))
        ask_size(c, w, now_ns);
    uint32_t count = sizes_turn(&w->sizes, probes, now_ns);
    for (uint32_t i = 0; i < count; i++)
        send_probe(c, w, probes[i]);
    resized(c, w, now_ns);
}

static void join(aoe_core *c, uint32_t port, const uint8_t *raw, int64_t now_ns)
{
    struct way *w = must_allocate(NULL, sizeof *w);
    memset(w, 0, sizeof *w);
    w->number = ++c->ways_made;
    w->port = port;
    w->offers = offers_of(raw);
    link_init(&w->refused);
    sizes_init(&w->sizes, &c->set.timing);
    fit(c, w, now_ns);
    w->shelf = wire_shelf(raw);
    w->slot = wire_of(raw)->slot;
    w->rank = (uint32_t)rank_of(c, (uint32_t)w->shelf << 8 | w->slot);
    memcpy(w->mac, wire_of(raw)->src, MAC_BYTES);
    memcpy(w->own, c->ports[port].mac, MAC_BYTES);
    path_init(c, w, window_of(c, port, raw), c->first_tag + c->ways_made * TAG_STEP, quiesce_ns(c, c->set.timing.foreign_age_ns));
    uint32_t at = 0;
    while (at < c->ways_count && (c->ways[at]->rank < w->rank || (c->ways[at]->rank == w->rank && c->ways[at]->port <= port)))
        at++;
    memmove(&c->ways[at + 1], &c->ways[at], (c->ways_count - at) * sizeof *c->ways);
    c->ways[at] = w;
    c->ways_count++;
    c->news++;
    look(c, w, now_ns);
}

/* Whether it is looked at from time to time, as it may come back. */
static int is_lost(const struct way *w) { return w->state == WAY_DOWN || life_shown(w->state) == WAY_REFUSED; }

/* Whether it makes room: what was never usable, when it is lost, or at any time for a server that answered well; what
 * was usable for such a server only, when no copy is of unknown fate there. */
static int replaceable(const struct way *w, int by_good)
{
    int over = is_lost(w) && !path_uncertain(w);
    if (w->state == WAY_USABLE || load_of(w) != (w->check != NULL))
        return 0;
    return w->usable_ns ? by_good && over : by_good || over;
}

/* Whether another one makes room before it does: it was never usable, was silent for longer, is there for longer. */
static int goes_first(const struct way *w, const struct way *other)
{
    int known = w->usable_ns > 0, other_known = other->usable_ns > 0;
    if (known != other_known)
        return other_known;
    return w->heard_ns != other->heard_ns ? w->heard_ns < other->heard_ns : w->number < other->number;
}

/* A way that nothing was asked of but what it leads to makes room. */
static void forget(aoe_core *c, uint32_t at)
{
    struct way *w = c->ways[at];
    assert(c->effects_count == 0 && "nothing of it is to be seen to");
    path_settle_all(c, w);
    if (w->check)
        path_end(c, w, w->check);
    free(w);
    c->ways_count--;
    memmove(&c->ways[at], &c->ways[at + 1], (c->ways_count - at) * sizeof *c->ways);
    c->last = NULL;
}

/* What is asked of those that there is no place for. */
static void ask_stranger(aoe_core *c, uint32_t port, const uint8_t *raw, int64_t now_ns)
{
    const struct wire *said = wire_of(raw);
    uint32_t tag = strangers_tag(&c->strangers, port, raw);
    c->counters[AOE_TOO_MANY_WAYS]++;
    if (strangers_may_ask(&c->strangers, c->set.timing.pulse_ns, now_ns))
        send_frame(c, port, said->src, c->ports[port].mac, wire_shelf(raw), said->slot, COMMAND_ATA, tag, &identify);
}

/* Whether a server gets a place; if there is none, it is asked what it is. */
static int has_room(aoe_core *c, uint32_t port, const uint8_t *raw, int64_t now_ns)
{
    uint32_t at = WAYS_MAX;
    if (c->ways_count < WAYS_MAX)
        return 1;
    int welcome = strangers_welcome(&c->strangers, port, raw);
    for (uint32_t i = 0; i < c->ways_count; i++) {
        const struct way *w = c->ways[i];
        if (replaceable(w, welcome) && w != c->unflushed && (at == WAYS_MAX || goes_first(w, c->ways[at])))
            at = i;
    }
    if (at == WAYS_MAX)
        ask_stranger(c, port, raw, now_ns);
    else
        forget(c, at);
    return at < WAYS_MAX;
}

/* A server without a place says what it is. */
static void stranger_reply(aoe_core *c, uint32_t port, const uint8_t *raw, uint32_t length)
{
    const uint8_t *identity = raw + ATA_HEADER;
    uint32_t address = wire_address(raw);
    int told = reply_judge(raw, length, COMMAND_ATA, ATA_HEADER + SECTOR) == REPLY_GOOD;
    if (!told || rank_of(c, address) < 0 || !c->ports[port].up) {
        c->counters[AOE_UNFIT_REPLY]++;
        return;
    }
    if ((c->has_facts && c->chosen && !facts_same_serial(identity, c->facts)) || facts_unfit(identity))
        return;
    strangers_invite(&c->strangers, port, raw);
    query(c, port, wire_of(raw)->src, wire_shelf(raw), wire_of(raw)->slot);
}

static void config_reply(aoe_core *c, uint32_t port, struct way *w, const uint8_t *raw, uint32_t length, int asked,
                         int64_t now_ns)
{
    uint32_t address = wire_address(raw);
    if (!config_fits(raw, length) || rank_of(c, address) < 0 || !c->ports[port].up) {
        c->counters[AOE_UNFIT_REPLY]++;
        return;
    }
    if (!w) {
        if (has_room(c, port, raw, now_ns))
            join(c, port, raw, now_ns);
        return;
    }
    if (asked)
        path_heard(w, now_ns);
    else /* an advertisement: the server may have started again */
        w->vouched = 0;
    takes(c, w, raw, now_ns);
    note(c, w, asked ? HAPPENS_ANSWERS : HAPPENS_TELLS, WHY_NONE);
}

static uint32_t address_of(const struct way *w) { return (uint32_t)w->shelf << 8 | w->slot; }

static struct way *way_of(const aoe_core *c, uint32_t port, const uint8_t *raw)
{
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *w = c->ways[i];
        if (w->port == port && address_of(w) == wire_address(raw) && same_mac(w->mac, wire_of(raw)->src))
            return w;
    }
    return NULL;
}

static int was_asked(const aoe_core *c, uint32_t tag)
{
    uint32_t n = c->asked_count < ASKED_MAX ? c->asked_count : ASKED_MAX;
    while (n--)
        if (c->asked[n] == tag)
            return 1;
    return 0;
}

/* Judging ways */

static void check(aoe_core *c, struct way *w, const struct body *body, int64_t now_ns)
{
    w->check_body = *body;
    w->check = exchange_new(c, w, &w->check_body, COMMAND_ATA, LANE_READS, ATA_HEADER + SECTOR);
    path_start_now(c, w, w->check, now_ns);
}

static int may_claim(const struct way *w, int64_t now_ns)
{
    return w->heeds && w->sectors >= STAMPED_SECTORS_MIN && now_ns >= w->claim_after_ns;
}

/* What IDENTIFY asks the server to know: the stream in use, or one where there is none and may be. */
static struct stamp claim(struct way *w, int64_t now_ns)
{
    if (w->stamp.stream || !w->ours || !may_claim(w, now_ns))
        return w->stamp;
    return path_new_stream(w, w->instance);
}

/* Ask a way what it leads to. */
static void look(aoe_core *c, struct way *w, int64_t now_ns)
{
    struct body body = identify;
    int refused = life_shown(w->state) == WAY_REFUSED && now_ns < w->check_after_ns;
    if (w->check || refused || !c->ports[w->port].up)
        return;
    w->claim = claim(w, now_ns);
    if (w->claim.stream) {
        stamp_registers(&body.ata, &w->claim);
        stamp_trailer(body.head + body.head_length, &w->claim);
        body.head_length += STAMP_TRAILER;
    }
    check(c, w, &body, now_ns);
}

/* IDENTIFY says nothing against it. */
static void fits(aoe_core *c, struct way *w)
{
    if (w->trial.condemned == WHY_OTHER_DATA)
        note(c, w, HAPPENS_DIFFERENT, w->trial.condemned);
    else if (w->trial.condemned)
        note(c, w, HAPPENS_UNSEEN, w->trial.condemned);
    else
        note(c, w, trial_is_unsure(c, w) ? HAPPENS_UNSURE : HAPPENS_FIT, WHY_NONE);
}

static void put_to_use(aoe_core *c, struct way *w, int64_t now_ns)
{
    if (!c->owner && c->chosen && trial_may_inherit(c, w))
        take_over(c, w, now_ns);
    else
        release(c, now_ns);
}

/* Others are compared with one that is the owner from now on. */
static void compare_all(aoe_core *c)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (c->ways[i]->state == WAY_USABLE && trial_is_unsure(c, c->ways[i]))
            note(c, c->ways[i], HAPPENS_DOUBTED, WHY_NONE);
}

static int other_server_usable(const aoe_core *c, const struct way *w)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (c->ways[i]->state == WAY_USABLE && memcmp(c->ways[i]->mac, w->mac, 6))
            return 1;
    return 0;
}

/* Whether a TRIM there leaves anything, where the disk was said to leave zeroes. What a server cannot do at all it
 * refuses, and it does not count as done. */
static int breaks_promise(const aoe_core *c, const uint8_t *identity)
{
    return c->has_facts && c->chosen && zeroes_of(c->facts) && trim_blocks_of(identity) && !zeroes_of(identity);
}

/* Whether it is known what the disk is; before the choice only while another way that is usable says so, or a
 * server that answered first and was gone would keep the others out. */
static int is_fixed(const aoe_core *c, const struct way *w)
{
    int others = 0;
    for (uint32_t i = 0; i < c->ways_count; i++)
        others |= c->ways[i] != w && c->ways[i]->state == WAY_USABLE;
    return c->has_facts && (c->chosen || others);
}

/* Why a way does not lead to the disk, or cannot be used beside the others. */
static int mismatch(const aoe_core *c, const struct way *w, const uint8_t *identity)
{
    int fixed = is_fixed(c, w), believed = !c->owner || c->owner == w;
    uint64_t sectors = sectors_of(identity);
    if (fixed && !facts_same_serial(identity, c->facts))
        return WHY_OTHER_DISK;
    if (trial_has_other_store(c, w))
        return WHY_OTHER_STORE;
    if (w->volatile_cache && other_server_usable(c, w))
        return WHY_VOLATILE;
    if (fixed && sectors != c->sectors && !(believed && sectors > c->sectors))
        return WHY_OTHER_SIZE; /* while a disk grows, its servers notice at different times */
    return breaks_promise(c, identity) ? WHY_NO_ZEROES : WHY_NONE;
}

/* The disk is what a way says that it is, less what was not promised before. */
static void believe(aoe_core *c, const struct way *w, const uint8_t *identity)
{
    uint8_t before[SECTOR];
    int fixed = is_fixed(c, w), anew = !fixed || sectors_of(identity) != c->sectors;
    memcpy(before, c->facts, sizeof before);
    if (anew)
        memcpy(c->facts, identity, SECTOR);
    if (fixed)
        facts_lessen(c->facts, anew ? before : identity);
    c->sectors = sectors_of(c->facts);
    c->news += !c->has_facts || memcmp(before, c->facts, sizeof before);
    c->has_facts = 1;
}

/* From now on; what the server drops as it does not know the last one is sent again at once. */
static void use_stream(aoe_core *c, struct way *w, struct stamp stamp, int64_t now_ns)
{
    uint16_t last = w->stamp.stream;
    if (last == stamp.stream)
        return;
    w->stamp = stamp;
    if (last)
        path_send_changes_again(c, w, now_ns);
}

/* Whether the way can be used as it is. A server that may know our stream is told of it first: only a question that
 * names its present life counts there (order rule T9). */
static int registered(aoe_core *c, struct way *w, int heeds, struct stamp claim, int64_t now_ns)
{
    if (claim.stream && w->ours && claim.instance == w->instance) {
        if (!heeds)
            w->claim_after_ns = now_ns + c->set.timing.stream_again_ns;
        use_stream(c, w, heeds ? claim : (struct stamp){0}, now_ns);
        return 1;
    }
    w->heeds = heeds;
    if (w->stamp.stream && w->ours && w->stamp.instance == w->instance)
        return 1;
    use_stream(c, w, (struct stamp){0}, now_ns);
    if (!may_claim(w, now_ns))
        return 1;
    look(c, w, now_ns);
    return 0;
}

/* Changes are not answered: the server has forgotten our stream, or another host forged its end. What is sent until
 * it knows another one carries none. */
static void claim_another(aoe_core *c, struct way *w, int64_t now_ns)
{
    if (now_ns < w->claim_after_ns)
        return;
    w->renewed++;
    c->news++;
    w->vouched = 0;
    use_stream(c, w, (struct stamp){0}, now_ns);
    look(c, w, now_ns);
    w->claim_after_ns = now_ns + c->set.timing.recheck_ns;
}

/* What a way says of its server; whether that has begun another life. */
static int learn(aoe_core *c, struct way *w, const uint8_t *identity)
{
    const struct vendor *vendor = vendor_of(identity);
    int ours = !memcmp(vendor->signature, VENDOR_SIGNATURE, sizeof vendor->signature) &&
               wire_little(vendor->layout, sizeof vendor->layout) == VENDOR_LAYOUT;
    uint64_t instance = ours ? wire_little(vendor->instance, sizeof vendor->instance) : 0;
    int known = w->identified, born = !known || w->ours != ours || w->instance != instance;
    if (known && born) {
        w->generation++;
        c->losses += c->unflushed == w;
    }
    w->identified = 1;
    w->ours = ours;
    w->instance = instance;
    w->store_kind = ours ? (uint32_t)wire_little(vendor->store_kind, sizeof vendor->store_kind) : 0;
    memcpy(w->store, vendor->store, sizeof w->store);
    w->volatile_cache = (word_of(identity, 85) & VOLATILE_CACHE) != 0;
    if (born)
        trial_meet(c, w);
    return born;
}

/* It may be the disk, and can be used. */
static void fitted(aoe_core *c, struct way *w, const uint8_t *identity, struct stamp claim, int64_t now_ns)
{
    const struct vendor *vendor = vendor_of(identity);
    int64_t told_ns = (int64_t)wire_little(vendor->age_ms, sizeof vendor->age_ms) * 1000000;
    struct body sector = reading(1);
    int heeds = w->ours && wire_little(vendor->features, sizeof vendor->features) & VENDOR_STREAMS;
    believe(c, w, identity);
    w->lanes[LANE_CHANGES].quiesce_ns = quiesce_ns(c, w->ours ? told_ns : c->set.timing.foreign_age_ns);
    w->drains = w->ours;
    if (!registered(c, w, heeds, claim, now_ns))
        return;
    if (w->slow)
        check(c, w, &sector, now_ns);
    else
        fits(c, w);
}

/* The owner has started again: whether another one is it from now on. */
static int is_replaced(aoe_core *c, struct way *w)
{
    if (w->trial.proved) /* another way there has seen to it */
        return 0;
    if (trial_is_replaced(c, w))
        return 1;
    compare_all(c);
    return 0;
}

static int identified(aoe_core *c, struct way *w, const uint8_t *raw, struct stamp claim, int64_t now_ns)
{
    const uint8_t *identity = raw + ATA_HEADER;
    int why = facts_unfit(identity);
    if (why) {
        note(c, w, HAPPENS_ANOTHER, why);
        return 0;
    }
    int born = learn(c, w, identity);
    why = mismatch(c, w, identity);
    if (why == WHY_OTHER_DISK || why == WHY_OTHER_STORE || why == WHY_VOLATILE) {
        note(c, w, HAPPENS_ANOTHER, why);
        return 0;
    }
    if (why)
        note(c, w, HAPPENS_UNFIT, why);
    else if (born && w == c->owner && is_replaced(c, w))
        note(c, w, HAPPENS_REPLACED, WHY_NONE);
    else
        fitted(c, w, identity, claim, now_ns);
    return 1;
}

static void checked(aoe_core *c, struct way *w, const struct effect *answer, int64_t now_ns)
{
    w->check = NULL;
    if (answer->exchange->body->ata.opcode != IDENTIFY_DEVICE) {
        w->slow = 0;
        fits(c, w);
    } else if (!answer->good) {
        note(c, w, HAPPENS_UNFIT, WHY_IDENTIFY_FAILS);
    } else {
        identified(c, w, answer->raw, w->claim, now_ns);
    }
}

/* Choose the first owner: when every address has a way, or those that have none take too long. */
static void settle_in(aoe_core *c, int64_t now_ns)
{
    struct way *first = NULL;
    int all_looked_at = 1;
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *w = c->ways[i];
        if (w->state == WAY_USABLE && !first)
            first = w;
    }
    if (!first)
        return;
    for (uint32_t a = 0; a < c->set.addresses; a++)
        all_looked_at &= looked_at(c, c->addresses[a]);
    if (now_ns - c->usable_ns >= (all_looked_at ? c->set.timing.settle_in_ns : c->set.timing.query_max_ns)) {
        c->chosen = 1;
        first->trial.proved = 1;
        trial_share(c, first);
        note(c, first, HAPPENS_CHOSEN, WHY_NONE);
    }
}

static void take_over(aoe_core *c, struct way *w, int64_t now_ns)
{
    if (c->unflushed && c->unflushed != w)
        c->losses++;
    if (!w->trial.proved)
        trial_refer_to(c, w);
    c->owner = w;
    w->io_ns = now_ns;
    c->news++;
    compare_all(c);
    release(c, now_ns);
}

static void release(aoe_core *c, int64_t now_ns)
{
    struct link held;
    if (link_alone(&c->held))
        return;
    held = c->held;
    held.next->prev = held.prev->next = &held;
    link_init(&c->held);
    while (!link_alone(&held)) {
        struct operation *o = OWNER_OF(held.next, struct operation, held_link);
        link_remove(&o->held_link);
        dispatch(c, o, now_ns);
    }
}

/* What is open on a way and could go elsewhere, in the order of the operations: all of it, or what is too large. */
static struct exchange **under_way(aoe_core *c, const struct way *w, int only_large, size_t *count)
{
    struct exchange **there = NULL;
    size_t room = 0;
    for (struct link *l = c->open.next; l != &c->open; l = l->next) {
        struct operation *o = OWNER_OF(l, struct operation, open_link);
        for (struct link *m = o->exchanges.next; m != &o->exchanges && !o->only; m = m->next) {
            struct exchange *x = OWNER_OF(m, struct exchange, of_operation);
            if (x->way != w || !x->open || (only_large && x->sectors <= most_of(w, x->lane)))
                continue;
            if (*count == room)
                there = must_allocate(there, (room = room ? 2 * room : 64) * sizeof(struct exchange *));
            there[(*count)++] = x;
        }
    }
    return there;
}

/* They wait for a way again. What was sent stays of unknown fate. */
static void take_back(aoe_core *c, struct exchange **exchanges, size_t count, int64_t now_ns)
{
    uint8_t *waited = count ? must_allocate(NULL, count) : NULL;
    for (size_t i = 0; i < count; i++) {
        hold(c, exchanges[i]->operation);
        waited[i] = !exchanges[i]->tries;
    }
    for (int first = 1; first >= 0; first--) /* what waits before what was sent, or it would be sent at once */
        for (size_t i = 0; i < count; i++)
            if (waited[i] == first)
                abandon_exchange(c, exchanges[i], now_ns);
    free(waited);
    free(exchanges);
}

/* What was sent there, or waits for it, and is too large now, is sent again in parts. */
static void recall(aoe_core *c, struct way *w, int64_t now_ns)
{
    size_t count = 0;
    struct exchange **large = under_way(c, w, 1, &count);
    if (!count)
        return;
    take_back(c, large, count, now_ns);
    release(c, now_ns);
}

/* What rows of the table do */

static void give_up(aoe_core *c, struct way *w, int64_t now_ns)
{
    w->vouched = 0;
    struct exchange *looks[] = {w->check, w->question};
    w->check = w->question = NULL;
    if (w == c->owner) {
        c->owner = NULL;
        c->lost_ns = now_ns;
    }
    size_t count = 0;
    struct exchange **there = under_way(c, w, 0, &count);
    take_back(c, there, count, now_ns);
    while (!link_alone(&w->refused)) {
        struct operation *o = OWNER_OF(w->refused.next, struct operation, held_link);
        link_remove(&o->held_link);
        if (!o->only)
            hold(c, o);
    }
    for (int i = 0; i < 2; i++)
        if (looks[i])
            abandon_exchange(c, looks[i], now_ns);
}

static void turn(aoe_core *c, int64_t now_ns)
{
    if (c->owner) {
        release(c, now_ns);
        return;
    }
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (now_ns >= c->ways[i]->check_after_ns)
            look(c, c->ways[i], now_ns);
}

static void vouch(aoe_core *c, struct way *w)
{
    c->news += !w->vouched;
    w->vouched = 1;
}

/* How soon one that is refused is looked at again. */
static int64_t refused_ns(const aoe_core *c, const struct way *w)
{
    return c->owner && c->owner != w ? c->set.timing.query_idle_ns : c->set.timing.recheck_ns;
}

static void carry_out(aoe_core *c, struct way *w, int deed, int64_t now_ns)
{
    switch (deed) {
    case DO_GIVE_UP: give_up(c, w, now_ns); break;
    case DO_TURN: turn(c, now_ns); break;
    case DO_VOUCH: vouch(c, w); break;
    case DO_LOOK: look(c, w, now_ns); break;
    case DO_RESIZE: sizes_restart(&w->sizes, now_ns); break;
    case DO_MEASURE: measure(c, w, now_ns); break;
    case DO_USE: put_to_use(c, w, now_ns); break;
    case DO_OWN: take_over(c, w, now_ns); break;
    case DO_AGAIN_SOON: w->check_after_ns = now_ns + c->set.timing.recheck_ns; break;
    case DO_AGAIN_SLOW: w->check_after_ns = now_ns + c->set.timing.slow_ns; break;
    case DO_AGAIN_REFUSED: w->check_after_ns = now_ns + refused_ns(c, w); break;
    default: w->check_after_ns = now_ns + c->set.timing.condemned_ns;
    }
}

static void become(aoe_core *c, struct way *w, int state, int reason, int64_t now_ns)
{
    if (w->state == state && w->reason == reason)
        return;
    if (state == WAY_USABLE) {
        w->usable_ns = now_ns;
        if (!c->usable_ns)
            c->usable_ns = now_ns;
    }
    w->state = state;
    w->reason = reason;
    c->news++;
}

/* As the table of a path's life has it. */
static void happened(aoe_core *c, const struct effect *e, int64_t now_ns)
{
    struct way *w = e->way;
    const struct life_row *row = &life_table[w->state][e->happens];
    assert(row->is_there && "this happens to a path in such a state");
    if (!row->stays)
        become(c, w, row->to, e->reason, now_ns);
    for (const uint8_t *deed = row->deeds; *deed; deed++)
        carry_out(c, w, *deed, now_ns);
}

static void replied(aoe_core *c, const struct effect *e, int64_t now_ns)
{
    struct way *w = e->exchange->way;
    if (e->exchange == w->check)
        checked(c, w, e, now_ns);
    else if (e->exchange == w->question)
        told(c, w, e, now_ns);
    else if (e->exchange->operation)
        answered(c, w, e, now_ns);
}

/* See to one after the other, to its end; nothing is left to be done now. */
static void run(aoe_core *c, int64_t now_ns)
{
    while (c->effects_first < c->effects_count) {
        struct effect e = c->effects[c->effects_first++];
        if (e.what == EFFECT_ANSWERED)
            replied(c, &e, now_ns);
        else if (e.what == EFFECT_SETTLED)
            settled(c, e.exchange);
        else
            happened(c, &e, now_ns);
    }
    c->effects_first = c->effects_count = 0;
}

/* Is it alive? Only where there is another one to turn to. */
static void judge(aoe_core *c, struct way *w, int64_t now_ns)
{
    int others = 0;
    for (uint32_t i = 0; i < c->ways_count; i++)
        others |= c->ways[i] != w && life_shown(c->ways[i]->state) != WAY_REFUSED;
    if (!others)
        return;
    int64_t quiet_ns = path_quiet_ns(w, now_ns), since = w->io_ns > w->asked_ns ? w->io_ns : w->asked_ns;
    if (quiet_ns >= c->set.timing.probe_ns && now_ns - w->probed_ns >= c->set.timing.probe_ns) {
        w->probed_ns = now_ns;
        query(c, w->port, w->mac, w->shelf, w->slot);
    }
    if (quiet_ns >= c->set.timing.dead_ns) {
        note(c, w, HAPPENS_SILENT, WHY_SILENT);
    } else if (path_outstanding(w) && now_ns - since >= c->set.timing.slow_ns) {
        w->slow = 1;
        note(c, w, HAPPENS_SLOW, WHY_SLOW);
    }
}

/* Look for what has been quiet for too long. */
static void watch(aoe_core *c, struct way *w, int64_t now_ns)
{
    int waits = w->state == WAY_CHECKING || w->state == WAY_COMPARED;
    if (w->state == WAY_USABLE || way_samples(w))
        measure(c, w, now_ns);
    if (w->state == WAY_USABLE)
        judge(c, w, now_ns);
    else if (waits && path_quiet_ns(w, now_ns) >= c->set.timing.dead_ns)
        note(c, w, HAPPENS_SILENT, WHY_SILENT);
}

/* Look at what was not looked at for long. */
static void tend(aoe_core *c, struct way *w, int64_t now_ns)
{
    if (w->check)
        return;
    if (w->sectors < STAMPED_SECTORS_MIN)
        use_stream(c, w, (struct stamp){0}, now_ns);
    if (w->state == WAY_USABLE && w->stamp.stream && path_stuck(w))
        claim_another(c, w, now_ns);
    int due = is_lost(w) && now_ns >= w->check_after_ns;
    int idle = w->state == WAY_USABLE && now_ns - w->heard_ns >= c->set.timing.standby_ns;
    int unknown = w->state == WAY_USABLE && !w->stamp.stream && may_claim(w, now_ns);
    if (due || idle || unknown)
        look(c, w, now_ns);
}

/* The proved ones do not answer, either. */
static void inherit(aoe_core *c, int64_t now_ns)
{
    struct way *heir = trial_heir(c);
    if (heir && now_ns - c->lost_ns >= c->set.timing.probe_ns)
        note(c, heir, HAPPENS_CHOSEN, WHY_NONE);
}

static void go_back(aoe_core *c, int64_t now_ns)
{
    for (uint32_t i = 0; i < c->ways_count && c->ways[i] != c->owner; i++) {
        struct way *w = c->ways[i];
        if (w->state == WAY_USABLE && w->trial.proved && now_ns - w->usable_ns >= c->set.failback_ns) {
            note(c, w, HAPPENS_CHOSEN, WHY_NONE);
            return;
        }
    }
}

/* The border to the core */

void session_received(aoe_core *c, uint32_t port, const uint8_t *raw, uint32_t length, int64_t now_ns)
{
    if (!wire_is_aoe(raw, length) || !wire_is_reply(raw))
        return; /* others ask, too */
    uint32_t tag = wire_tag(raw), command = wire_of(raw)->command;
    struct way *w = way_of(c, port, raw);
    if (w && path_knows(w, tag)) {
        path_received(c, w, tag, raw, length, now_ns);
    } else if (w && sizes_asked(&w->sizes, tag)) {
        probe_reply(c, w, sizes_asked(&w->sizes, tag), raw, length, now_ns);
    } else if (command == COMMAND_CONFIG && !wire_is_error(raw) && (!(tag & USER_TAG) || was_asked(c, tag))) {
        config_reply(c, port, w, raw, length, (tag & USER_TAG) != 0, now_ns);
    } else if (!w && strangers_tag(&c->strangers, port, raw) == tag) {
        stranger_reply(c, port, raw, length);
    } else {
        c->counters[AOE_UNKNOWN_TAG]++;
    }
    run(c, now_ns);
}

/* A port over which no sector fits is down. */
void session_set_port(aoe_core *c, uint32_t number, const aoe_core_port *port, int64_t now_ns)
{
    int up = port->up && port->sectors, came_up = up && !c->ports[number].up;
    int renamed = memcmp(port->mac, c->ports[number].mac, 6) != 0;
    c->ports[number] = *port;
    c->ports[number].up = (uint32_t)up;
    for (uint32_t i = 0; i < c->ways_count; i++) { /* first: losing one way sends on others */
        struct way *w = c->ways[i];
        if (w->port != number)
            continue;
        memcpy(w->own, port->mac, 6);
        fit(c, w, now_ns);
        if (renamed) { /* to the server that is another host: what was sent before settles by time */
            w->stamp = (struct stamp){0};
            w->claim_after_ns = now_ns;
        }
        if (renamed || !up)
            w->vouched = 0;
    }
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *w = c->ways[i];
        if (w->port != number)
            continue;
        if (!up) {
            note(c, w, HAPPENS_UNPLUGGED, WHY_LINK_DOWN);
            continue;
        }
        resized(c, w, now_ns);
        if (came_up || renamed)
            look(c, w, now_ns);
    }
    if (came_up) {
        c->seek_wait_ns = c->set.timing.query_first_ns;
        seek(c, now_ns);
    }
    run(c, now_ns);
}

void session_start(aoe_core *c, struct operation *o, int64_t now_ns)
{
    link_append(&c->open, &o->open_link);
    dispatch(c, o, now_ns);
    run(c, now_ns);
}

void session_abandon(aoe_core *c, struct operation *o, int64_t now_ns)
{
    abandon(c, o, now_ns);
    run(c, now_ns);
}

int session_identified(aoe_core *c, struct way *w, const uint8_t *raw, struct stamp claim, int64_t now_ns)
{
    int it_does = identified(c, w, raw, claim, now_ns);
    run(c, now_ns);
    return it_does;
}

void session_look(aoe_core *c, struct way *w, int64_t now_ns)
{
    look(c, w, now_ns);
    run(c, now_ns);
}

/* We did not run for so long, which was no server's silence. Only what waits for a sign of life is put off: fates
 * (I2), and for how long a way is vouched for (I6), go by true time. */
void session_stand_still(aoe_core *c, int64_t gap_ns, int64_t now_ns)
{
    c->usable_ns += c->usable_ns ? gap_ns : 0;
    c->lost_ns += gap_ns;
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *w = c->ways[i];
        path_stand_still(w, gap_ns, now_ns);
        w->io_ns += gap_ns;
        w->probed_ns += gap_ns;
        sizes_stand_still(&w->sizes, gap_ns);
        w->usable_ns += w->usable_ns ? gap_ns : 0;
    }
    make_anew(c, now_ns);
    run(c, now_ns);
}

void session_sampled(aoe_core *c, struct way *w, int64_t now_ns)
{
    w->trial.sampled = 1;
    w->trial.condemned = WHY_NONE;
    trial_share(c, w);
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *other = c->ways[i];
        if (way_samples(other) && trial_same_server(other, w))
            note(c, other, HAPPENS_EQUAL, WHY_NONE);
    }
    run(c, now_ns);
}

void session_silent(aoe_core *c, struct way *w, int64_t now_ns)
{
    note(c, w, HAPPENS_SILENT, WHY_SILENT);
    run(c, now_ns);
}

void session_condemn(aoe_core *c, struct way *w, int reason, uint64_t lba, int64_t now_ns)
{
    w->trial.condemned = reason;
    w->trial.lba = lba;
    trial_share(c, w);
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (trial_same_server(c->ways[i], w))
            note(c, c->ways[i], HAPPENS_CONDEMNED, reason);
    run(c, now_ns);
}

/* It has the disk of the owner, which thereby is proved, too. */
void session_prove(aoe_core *c, struct way *w, int64_t now_ns)
{
    struct way *both[2] = {c->owner, w};
    c->news++;
    for (int i = 0; i < 2; i++) {
        both[i]->trial.proved = 1;
        both[i]->trial.condemned = WHY_NONE;
        both[i]->trial.misses = 0;
        trial_share(c, both[i]);
    }
    for (uint32_t i = 0; i < c->ways_count; i++) {
        if (life_shown(c->ways[i]->state) != WAY_REFUSED || !trial_same_server(c->ways[i], w))
            continue;
        c->ways[i]->check_after_ns = now_ns;
        look(c, c->ways[i], now_ns);
    }
    run(c, now_ns);
}

void session_tick(aoe_core *c, int64_t now_ns)
{
    for (uint32_t i = 0; i < c->ways_count; i++)
        path_tick(c, c->ways[i], now_ns);
    run(c, now_ns);
    for (uint32_t i = 0; i < c->ways_count; i++) {
        watch(c, c->ways[i], now_ns);
        run(c, now_ns);
        tend(c, c->ways[i], now_ns);
        run(c, now_ns);
    }
    if (now_ns >= c->seek_ns)
        seek(c, now_ns);
    if (!c->chosen)
        settle_in(c, now_ns);
    else if (!c->owner)
        inherit(c, now_ns);
    else if (c->set.failback_ns >= 0)
        go_back(c, now_ns);
    run(c, now_ns);
}

int64_t session_pulse(const aoe_core *c)
{
    if (!c->chosen)
        return c->set.timing.rto_min_ns;
    for (uint32_t i = 0; i < c->ways_count; i++)
        if (c->ways[i]->state != WAY_DOWN && load_of(c->ways[i]))
            return c->set.timing.rto_min_ns;
    return c->set.timing.pulse_ns;
}

int session_switch(aoe_core *c, struct way *w, int64_t now_ns)
{
    int usable = w->state == WAY_USABLE || w->state == WAY_COMPARED;
    if (!usable || !c->chosen || trial_is_barred(c, w))
        return 0;
    if (w != c->owner) {
        note(c, w, HAPPENS_CHOSEN, WHY_NONE);
        run(c, now_ns);
    }
    return 1;
}

void session_fenced(aoe_core *c, struct way *w, int64_t now_ns)
{
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *other = c->ways[i];
        if (memcmp(other->mac, w->mac, 6) || other->shelf != w->shelf || other->slot != w->slot)
            continue;
        path_settle_all(c, other);
    }
    run(c, now_ns);
}
