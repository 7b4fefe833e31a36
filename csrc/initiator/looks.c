/* Questions to the server of a way: IDENTIFY, with a stream of ours (order rule T9); how much it takes.
 * As aoe/initiator/looks.py. */
#include "session.h"

void looks_ask_size(aoe_core *c, struct way *w, int64_t now_ns)
{
    if (w->question)
        return;
    for (struct link *l = w->refused.next; l != &w->refused; l = l->next)
        OWNER_OF(l, struct operation, held_link)->refusal->asked = 1;
    w->question = exchange_new(c, w, &board_read_config, COMMAND_CONFIG, LANE_READS, CONFIG_HEADER);
    path_start_now(c, w, w->question, now_ns);
}

void looks_check(aoe_core *c, struct way *w, const struct body *body, int64_t now_ns)
{
    w->check_body = *body;
    w->check = exchange_new(c, w, &w->check_body, COMMAND_ATA, LANE_READS, ATA_HEADER + SECTOR);
    path_start_now(c, w, w->check, now_ns);
}

int looks_may_claim(const struct way *w, int64_t now_ns)
{
    return w->heeds && w->sectors >= STAMPED_SECTORS_MIN && now_ns >= w->claim_after_ns;
}

/* What IDENTIFY asks the server to know: the stream in use, or one where there is none and may be. */
static struct stamp claim(struct way *w, int64_t now_ns)
{
    if (w->stamp.stream || !w->ours || !looks_may_claim(w, now_ns))
        return w->stamp;
    return path_new_stream(w, w->instance);
}

/* Ask a way what it leads to. */
void looks_look(aoe_core *c, struct way *w, int64_t now_ns)
{
    struct body body = board_identify;
    int refused = life_shown(w->state) == WAY_REFUSED && now_ns < w->check_after_ns;
    if (w->check || refused || !c->ports[w->port].up)
        return;
    w->claim = claim(w, now_ns);
    if (w->claim.stream) {
        stamp_registers(&body.ata, &w->claim);
        stamp_trailer(body.head + body.head_length, &w->claim);
        body.head_length += STAMP_TRAILER;
    }
    looks_check(c, w, &body, now_ns);
}

/* From now on; what the server drops as it does not know the last one is sent again at once. */
void looks_use_stream(aoe_core *c, struct way *w, struct stamp stamp, int64_t now_ns)
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
int looks_registered(aoe_core *c, struct way *w, int heeds, struct stamp claim, int64_t now_ns)
{
    if (claim.stream && w->ours && claim.instance == w->instance) {
        if (!heeds)
            w->claim_after_ns = now_ns + c->set.timing.stream_again_ns;
        looks_use_stream(c, w, heeds ? claim : (struct stamp){0}, now_ns);
        return 1;
    }
    w->heeds = heeds;
    if (w->stamp.stream && w->ours && w->stamp.instance == w->instance)
        return 1;
    looks_use_stream(c, w, (struct stamp){0}, now_ns);
    if (!looks_may_claim(w, now_ns))
        return 1;
    looks_look(c, w, now_ns);
    return 0;
}

/* Changes are not answered: the server has forgotten our stream, or another host forged its end. What is sent until
 * it knows another one carries none. */
void looks_claim_another(aoe_core *c, struct way *w, int64_t now_ns)
{
    if (now_ns < w->claim_after_ns)
        return;
    w->renewed++;
    c->news++;
    w->vouched = 0;
    looks_use_stream(c, w, (struct stamp){0}, now_ns);
    looks_look(c, w, now_ns);
    w->claim_after_ns = now_ns + c->set.timing.recheck_ns;
}
