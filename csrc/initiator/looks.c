/* Questions to the server of a path: IDENTIFY, with a stream of ours (order rule T9); how much it takes.
 * As aoe/initiator/looks.py. */
#include "session.h"

void looks_ask_size(aoe_core *c, struct path *path, int64_t now_ns)
{
    if (path->question)
        return;
    for (struct link *l = path->refused.next; l != &path->refused; l = l->next)
        OWNER_OF(l, struct operation, held_link)->refusal->asked = 1;
    path->question = exchange_new(c, path, &board_read_config, COMMAND_CONFIG, LANE_READS, CONFIG_HEADER);
    channel_start_now(c, path, path->question, now_ns);
}

void looks_check(aoe_core *c, struct path *path, const struct body *body, int64_t now_ns)
{
    path->check_body = *body;
    path->check = exchange_new(c, path, &path->check_body, COMMAND_ATA, LANE_READS, ATA_HEADER + SECTOR);
    channel_start_now(c, path, path->check, now_ns);
}

int looks_may_register(const struct path *path, int64_t now_ns)
{
    return path->heeds && path->sectors >= STAMPED_SECTORS_MIN && now_ns >= path->register_after_ns;
}

/* Whether it is a stream for the present life of the server. */
static int is_of(const struct stamp *stamp, const struct path *path)
{
    return stamp->stream && path->ours && stamp->instance == path->instance;
}

static int is_same(const struct stamp *one, const struct stamp *other)
{
    return one->stream == other->stream && one->epoch == other->epoch && one->instance == other->instance;
}

/* What IDENTIFY asks the server to know: the stream in use, or one where there is none and may be. */
static struct stamp to_register(const aoe_core *c, struct path *path, int64_t now_ns)
{
    if (!path->ours || is_of(&path->stamp, path) || !looks_may_register(path, now_ns))
        return path->stamp;
    return channel_new_stream(c, path, path->instance);
}

/* Whether it would be gone to if a write had shown that it has the disk. */
static int lacks_a_proof(const aoe_core *c, const struct path *path)
{
    int fit = path->state == PATH_USABLE && !path->trial.proved && !path->draining;
    return fit && !trial_leads_to_owner(c, path);
}

uint8_t looks_word(const aoe_core *c, const struct path *path)
{
    if (!path->draining)
        return 0;
    if (!trial_leads_to_owner(c, path))
        return AWAY;
    for (uint32_t i = 0; i < c->paths_count; i++)
        if (lacks_a_proof(c, c->paths[i]))
            return UNPROVED;
    return 0;
}

/* Ask a path what it leads to. */
void looks_look(aoe_core *c, struct path *path, int64_t now_ns)
{
    struct body body = board_identify;
    int refused = life_shown(path->state) == PATH_REFUSED && now_ns < path->check_after_ns;
    if (path->check || refused || !c->ports[path->port].up)
        return;
    path->registering = to_register(c, path, now_ns);
    path->looked_ns = now_ns;
    path->told = looks_word(c, path);
    if (path->registering.stream) {
        body.ata.lba[0] = path->told;
        body.ata.lba[1] = c->set.background ? BACKGROUND >> 8 : 0;
        stamp_registers(&body.ata, &path->registering);
        stamp_trailer(body.head + body.head_length, &path->registering);
        body.head_length += STAMP_TRAILER;
    }
    looks_check(c, path, &body, now_ns);
}

/* From now on; what the server drops as it does not know the last one is sent again at once. */
void looks_use_stream(aoe_core *c, struct path *path, struct stamp stamp, int64_t now_ns)
{
    uint16_t last = path->stamp.stream;
    if (last == stamp.stream)
        return;
    path->stamp = stamp;
    if (last && !path->reborn)
        channel_send_changes_again(c, path, now_ns);
}

/* Whether a question that registered nothing may have been too old for it (order rule T3), as it waited while the server
 * started: then it is asked once more before it counts as full. */
static int was_late(struct path *path, int heeds, int64_t now_ns)
{
    path->late = !heeds && !path->late && now_ns - path->looked_ns >= path->age_ns;
    return path->late;
}

/* Whether the path can be used as it is. A server that may know our stream is told of it first: only a question that
 * names its present life counts there (order rule T9). One that has begun another life is asked anew then. */
int looks_registered(aoe_core *c, struct path *path, uint64_t features, struct stamp registering, int64_t now_ns)
{
    struct stamp stamp = path->stamp;
    int heeds = (features & VENDOR_STREAMS) != 0;
    if (is_of(&registering, path)) {
        if (was_late(path, heeds, now_ns)) {
            looks_look(c, path, now_ns);
            return 0;
        }
        path->heeded = features & VENDOR_HEEDED || !is_same(&registering, &stamp); /* a FLUSH may have overtaken it */
        if (!heeds)
            path->register_after_ns = now_ns + c->set.timing.stream_again_ns;
        stamp = heeds ? registering : (struct stamp){0};
    } else {
        path->heeds = heeds;
        if (!is_of(&stamp, path)) {
            if (looks_may_register(path, now_ns)) {
                looks_look(c, path, now_ns);
                return 0;
            }
            stamp = (struct stamp){0};
        }
    }
    looks_use_stream(c, path, stamp, now_ns);
    if (path->reborn) {
        path->reborn = 0;
        channel_begin_anew(c, path, now_ns);
    }
    return 1;
}

/* The server has forgotten our stream, or another host forged its end. What is sent until it knows another one carries
 * none. */
static void register_another(aoe_core *c, struct path *path, int64_t now_ns)
{
    path->renewed++;
    path->mute = MUTE_NOT;
    c->news++;
    path->vouched = 0;
    looks_use_stream(c, path, (struct stamp){0}, now_ns);
    looks_look(c, path, now_ns);
    path->register_after_ns = now_ns + c->set.timing.recheck_ns;
}

/* Changes are not answered, however often they are sent. A server that answers nothing is asked what it is: it may start
 * again. Once it speaks, they are sent again at once: what waited there meanwhile may have been too old (order rule T3).
 * One that goes on to answer all else is asked whether it heeds our stream. Where it does, its disk takes long, or it did
 * not until it was asked: they are sent again, too. */
void looks_unanswered(aoe_core *c, struct path *path, int64_t now_ns)
{
    if (!channel_ignores(path)) {
        path->mute = path->mute ? path->mute : MUTE_SILENT;
        looks_look(c, path, now_ns);
    } else if (now_ns < path->register_after_ns) {
        return;
    } else if (path->mute == MUTE_SILENT || (path->mute == MUTE_ASKED && path->heeded)) {
        path->mute = MUTE_ASKED_AGAIN;
        path->register_after_ns = now_ns + c->set.timing.recheck_ns;
        channel_send_changes_again(c, path, now_ns);
    } else if (path->mute == MUTE_ASKED) {
        register_another(c, path, now_ns);
    } else {
        path->mute = MUTE_ASKED;
        path->heeded = 0;
        looks_look(c, path, now_ns);
    }
}
