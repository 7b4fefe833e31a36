/* How a way is: how large its frames may be, whether it is alive, and whether it was looked at.
 * As aoe/initiator/health.py. */
#include "session.h"

/* One of its ends may take another size now. */
void health_fit(aoe_core *c, struct way *w, int64_t now_ns)
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
void health_resized(aoe_core *c, struct way *w, int64_t now_ns)
{
    struct sizes_shown now = sizes_shown(&w->sizes);
    if (now.there == w->shown.there && now.back == w->shown.back && now.narrow == w->shown.narrow)
        return;
    w->shown = now;
    c->news++;
    traffic_give_back_large(c, w, now_ns);
    traffic_recall(c, w, now_ns);
}

uint32_t health_offers_of(const uint8_t *raw)
{
    uint8_t sectors = wire_of(raw)->config.sectors;
    return sectors ? sectors : 2;
}

uint32_t health_window_of(const aoe_core *c, uint32_t port, const uint8_t *raw)
{
    uint32_t buffers = wire_big16(wire_of(raw)->config.buffers), window = c->ports[port].window;
    window = buffers < window ? buffers : window;
    return window ? window : 1;
}

/* Its server says how much. */
void health_takes(aoe_core *c, struct way *w, const uint8_t *raw, int64_t now_ns)
{
    w->offers = health_offers_of(raw);
    window_limit(&w->window, health_window_of(c, w->port, raw));
    health_fit(c, w, now_ns);
    health_resized(c, w, now_ns);
}

int health_config_fits(const uint8_t *raw, uint32_t length)
{
    if (length < CONFIG_HEADER)
        return 0;
    uint32_t text = wire_big16(wire_of(raw)->config.length), ccmd = wire_of(raw)->config.vercmd & 0xF;
    return !ccmd || (text <= CONFIG_STRING_MAX && CONFIG_HEADER + text <= length);
}

/* The answer to a query. What was refused before it, though it is not too large, has failed. */
void health_told(aoe_core *c, struct way *w, const struct effect *answer, int64_t now_ns)
{
    struct link *next;
    w->question = NULL;
    if (answer->good && health_config_fits(answer->raw, answer->length))
        health_takes(c, w, answer->raw, now_ns);
    for (struct link *l = w->refused.next; l != &w->refused; l = next) {
        struct operation *o = OWNER_OF(l, struct operation, held_link);
        next = l->next;
        if (!o->refusal->asked)
            continue;
        link_remove(&o->held_link);
        if (o->sectors > way_most(w, o->lane))
            traffic_give_back(c, o, w, now_ns);
        else
            traffic_conclude(c, o, w, o->refusal->head, o->refusal->length, 0, now_ns);
    }
    if (!link_alone(&w->refused))
        looks_ask_size(c, w, now_ns);
}

/* How many sectors a probe reads. */
static uint32_t read_by(const aoe_core *c, const struct size_probe *probe)
{
    uint32_t sectors = probe->direction == BACK ? probe->sectors : 1;
    return sectors < c->sectors ? sectors : (uint32_t)c->sectors;
}

static void send_probe(aoe_core *c, struct way *w, struct size_probe probe)
{
    static const uint8_t zeroes[255 * SECTOR + STAMP_TRAILER];
    uint32_t count = read_by(c, &probe), filler = 0;
    uint64_t lba = w->sizes.lba < c->sectors - count ? w->sizes.lba : c->sectors - count;
    if (probe.direction == THERE)
        filler = probe.sectors * SECTOR + (w->stamp.stream ? STAMP_TRAILER : 0);
    struct body body = board_reading((uint8_t)count);
    wire_put_little(body.ata.lba, LBA_BYTES, lba);
    body.data = zeroes;
    body.data_length = filler;
    probe.tag = path_new_tag(w);
    sizes_sent(&w->sizes, probe);
    send_frame(c, w->port, w->mac, w->own, w->shelf, w->slot, COMMAND_ATA, probe.tag, &body);
}

/* Also an error says that frames get there, and if it is told at once, nothing of others. */
void health_probe_reply(aoe_core *c, struct way *w, struct size_probe *probe, const uint8_t *raw, uint32_t length,
                        int64_t now_ns)
{
    uint32_t least = ATA_HEADER + SECTOR * read_by(c, probe);
    if (reply_judge(raw, length, COMMAND_ATA, least) == REPLY_UNFIT) {
        c->counters[AOE_UNFIT_REPLY]++;
        return;
    }
    w->heard_ns = now_ns;
    sizes_answered(&w->sizes, probe);
    health_resized(c, w, now_ns);
}

/* See how large frames may be there. */
void health_measure(aoe_core *c, struct way *w, int64_t now_ns)
{
    struct size_probe probes[DIRECTIONS + 1];
    uint32_t lost = w->suspect, lane = w->suspect_lane;
    w->suspect = 0;
    if (lost && lost <= way_most(w, lane)) {
        sizes_doubt(&w->sizes, lane == LANE_READS ? BACK : THERE, w->suspect_lba, now_ns);
        looks_ask_size(c, w, now_ns);
    }
    if (sizes_again(&w->sizes, c->ports[w->port].sectors, now_ns))
        looks_ask_size(c, w, now_ns);
    uint32_t count = sizes_turn(&w->sizes, probes, now_ns);
    for (uint32_t i = 0; i < count; i++)
        send_probe(c, w, probes[i]);
    health_resized(c, w, now_ns);
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
        board_query(c, w->port, w->mac, w->shelf, w->slot);
    }
    if (quiet_ns >= c->set.timing.dead_ns) {
        board_note(c, w, HAPPENS_SILENT, WHY_SILENT);
    } else if (path_outstanding(w) && now_ns - since >= c->set.timing.slow_ns) {
        w->slow = 1;
        board_note(c, w, HAPPENS_SLOW, WHY_SLOW);
    }
}

/* Look for what has been quiet for too long. */
void health_watch(aoe_core *c, struct way *w, int64_t now_ns)
{
    int waits = w->state == WAY_CHECKING || w->state == WAY_COMPARED;
    if (w->state == WAY_USABLE || way_samples(w))
        health_measure(c, w, now_ns);
    if (w->state == WAY_USABLE)
        judge(c, w, now_ns);
    else if (waits && path_quiet_ns(w, now_ns) >= c->set.timing.dead_ns)
        board_note(c, w, HAPPENS_SILENT, WHY_SILENT);
}

/* Look at what was not looked at for long. */
void health_tend(aoe_core *c, struct way *w, int64_t now_ns)
{
    if (w->check)
        return;
    if (w->sectors < STAMPED_SECTORS_MIN)
        looks_use_stream(c, w, (struct stamp){0}, now_ns);
    if (w->state == WAY_USABLE && w->stamp.stream && path_stuck(w))
        looks_claim_another(c, w, now_ns);
    int due = way_is_lost(w) && now_ns >= w->check_after_ns;
    int idle = w->state == WAY_USABLE && now_ns - w->heard_ns >= c->set.timing.standby_ns;
    int unknown = w->state == WAY_USABLE && !w->stamp.stream && looks_may_claim(w, now_ns);
    if (due || idle || unknown)
        looks_look(c, w, now_ns);
}
