/* How a path is: how large its frames may be, whether it is alive, and whether it was looked at.
 * As aoe/initiator/health.py. */
#include "session.h"

/* One of its ends may take another size now. */
void health_fit(aoe_core *c, struct path *path, int64_t now_ns)
{
    uint32_t both = c->ports[path->port].sectors;
    both = path->offers < both ? path->offers : both;
    both = both ? both : 1;
    if (both == path->sectors)
        return;
    path->sectors = both;
    sizes_fit(&path->sizes, both, now_ns);
    c->news++;
}

/* What was sent there, or waits for it, and is too large now, is sent again in parts. */
void health_resized(aoe_core *c, struct path *path, int64_t now_ns)
{
    struct sizes_shown now = sizes_shown(&path->sizes);
    if (now.there == path->shown.there && now.back == path->shown.back && now.narrow == path->shown.narrow)
        return;
    path->shown = now;
    c->news++;
    traffic_give_back_large(c, path, now_ns);
    traffic_recall(c, path, now_ns);
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
void health_takes(aoe_core *c, struct path *path, const uint8_t *raw, int64_t now_ns)
{
    path->offers = health_offers_of(raw);
    window_limit(&path->window, health_window_of(c, path->port, raw));
    health_fit(c, path, now_ns);
    health_resized(c, path, now_ns);
}

int health_config_fits(const uint8_t *raw, uint32_t length)
{
    if (length < CONFIG_HEADER)
        return 0;
    uint32_t text = wire_big16(wire_of(raw)->config.length), ccmd = wire_of(raw)->config.vercmd & 0xF;
    return !ccmd || (text <= CONFIG_STRING_MAX && CONFIG_HEADER + text <= length);
}

/* The answer to a query. What was refused before it, though it is not too large, has failed. */
void health_told(aoe_core *c, struct path *path, const struct effect *answer, int64_t now_ns)
{
    struct link *next;
    path->question = NULL;
    if (answer->good && health_config_fits(answer->raw, answer->length))
        health_takes(c, path, answer->raw, now_ns);
    for (struct link *l = path->refused.next; l != &path->refused; l = next) {
        struct operation *o = OWNER_OF(l, struct operation, held_link);
        next = l->next;
        if (!o->refusal->asked)
            continue;
        link_remove(&o->held_link);
        if (o->sectors > path_most(path, o->lane))
            traffic_give_back(c, o, path, now_ns);
        else
            traffic_conclude(c, o, path, o->refusal->head, o->refusal->length, 0, now_ns);
    }
    if (!link_alone(&path->refused))
        looks_ask_size(c, path, now_ns);
}

/* How many sectors a probe reads. */
static uint32_t read_by(const aoe_core *c, const struct size_probe *probe)
{
    uint32_t sectors = probe->direction == BACK ? probe->sectors : 1;
    return sectors < c->sectors ? sectors : (uint32_t)c->sectors;
}

static void send_probe(aoe_core *c, struct path *path, struct size_probe probe)
{
    static const uint8_t zeroes[255 * SECTOR + STAMP_TRAILER];
    uint32_t count = read_by(c, &probe), filler = 0;
    uint64_t lba = path->sizes.lba < c->sectors - count ? path->sizes.lba : c->sectors - count;
    if (probe.direction == THERE)
        filler = probe.sectors * SECTOR + (path->stamp.stream ? STAMP_TRAILER : 0);
    struct body body = board_reading((uint8_t)count);
    wire_put_little(body.ata.lba, LBA_BYTES, lba);
    body.data = zeroes;
    body.data_length = filler;
    probe.tag = channel_new_tag(path);
    sizes_sent(&path->sizes, probe);
    send_frame(c, path->port, path->mac, path->own, path->shelf, path->slot, COMMAND_ATA, probe.tag, &body);
}

/* Also an error says that frames get there, and if it is told at once, nothing of others. */
void health_probe_reply(aoe_core *c, struct path *path, struct size_probe *probe, const uint8_t *raw, uint32_t length,
                        int64_t now_ns)
{
    uint32_t least = ATA_HEADER + SECTOR * read_by(c, probe);
    if (reply_judge(raw, length, COMMAND_ATA, least) == REPLY_UNFIT) {
        c->counters[AOE_UNFIT_REPLY]++;
        return;
    }
    path->heard_ns = now_ns;
    sizes_answered(&path->sizes, probe);
    health_resized(c, path, now_ns);
}

/* See how large frames may be there. */
void health_measure(aoe_core *c, struct path *path, int64_t now_ns)
{
    struct size_probe probes[DIRECTIONS + 1];
    uint32_t lost = path->suspect, lane = path->suspect_lane;
    path->suspect = 0;
    if (lost && lost <= path_most(path, lane)) {
        sizes_doubt(&path->sizes, lane == LANE_READS ? BACK : THERE, path->suspect_lba, now_ns);
        looks_ask_size(c, path, now_ns);
    }
    if (sizes_again(&path->sizes, c->ports[path->port].sectors, now_ns))
        looks_ask_size(c, path, now_ns);
    uint32_t count = sizes_turn(&path->sizes, probes, now_ns);
    for (uint32_t i = 0; i < count; i++)
        send_probe(c, path, probes[i]);
    health_resized(c, path, now_ns);
}

/* Is it alive? Only where there is another one to turn to. */
static void judge(aoe_core *c, struct path *path, int64_t now_ns)
{
    int others = 0;
    for (uint32_t i = 0; i < c->paths_count; i++)
        others |= c->paths[i] != path && life_shown(c->paths[i]->state) != PATH_REFUSED;
    if (!others)
        return;
    int64_t quiet_ns = channel_quiet_ns(path, now_ns), since = path->io_ns > path->asked_ns ? path->io_ns
        : path->asked_ns;
    if (quiet_ns >= c->set.timing.probe_ns && now_ns - path->probed_ns >= c->set.timing.probe_ns) {
        path->probed_ns = now_ns;
        board_query(c, path->port, path->mac, path->shelf, path->slot);
    }
    if (quiet_ns >= c->set.timing.dead_ns) {
        board_note(c, path, HAPPENS_SILENT, WHY_SILENT);
    } else if (channel_outstanding(path) && now_ns - since >= c->set.timing.slow_ns) {
        path->slow = 1;
        board_note(c, path, HAPPENS_SLOW, WHY_SLOW);
    }
}

/* Look for what has been quiet for too long. */
void health_watch(aoe_core *c, struct path *path, int64_t now_ns)
{
    int waits = path->state == PATH_CHECKING || path->state == PATH_COMPARED;
    if (path->state == PATH_USABLE || path_samples(path))
        health_measure(c, path, now_ns);
    if (path->state == PATH_USABLE)
        judge(c, path, now_ns);
    else if (waits && channel_quiet_ns(path, now_ns) >= c->set.timing.dead_ns)
        board_note(c, path, HAPPENS_SILENT, WHY_SILENT);
}

/* Look at what was not looked at for long. */
void health_tend(aoe_core *c, struct path *path, int64_t now_ns)
{
    if (path->check)
        return;
    if (path->sectors < STAMPED_SECTORS_MIN)
        looks_use_stream(c, path, (struct stamp){0}, now_ns);
    if (!channel_stuck(path))
        path->mute = MUTE_NOT;
    else if (path->state == PATH_USABLE && path->stamp.stream)
        looks_unanswered(c, path, now_ns);
    int due = path_is_lost(path) && now_ns >= path->check_after_ns;
    int idle = path->state == PATH_USABLE && now_ns - path->heard_ns >= c->set.timing.standby_ns;
    int unknown = path->state == PATH_USABLE && !path->stamp.stream && looks_may_register(path, now_ns);
    int untold = path->state == PATH_USABLE && looks_word(c, path) != path->told;
    if (due || idle || unknown || untold)
        looks_look(c, path, now_ns);
}
