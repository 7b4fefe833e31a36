/* A planned change of the owner: away from a server that drains, to one that is proved to have the disk.
 * As aoe/initiator/handover.py, which has the reasons. */
#include <assert.h>

#include "session.h"

/* What waits goes on; it is tried again, with more patience. */
static void put_off(aoe_core *c, int64_t now_ns)
{
    int64_t twice_ns = 2 * c->patience_ns, most_ns = c->set.timing.handover_max_ns;
    c->patience_ns = twice_ns < most_ns ? twice_ns : most_ns;
    handover_over(c, now_ns);
    c->leaves_ns = now_ns + c->set.timing.handover_again_ns;
    traffic_release(c, now_ns);
}

static int may_take_over(const aoe_core *c, const struct path *path)
{
    int good = path->state == PATH_USABLE && path->trial.proved && !path->draining;
    return good && !trial_leads_to_owner(c, path);
}

/* With the first path that may take over; one that was not heard lately is looked at before. */
static void begin(aoe_core *c, int64_t now_ns)
{
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct path *path = c->paths[i];
        if (!may_take_over(c, path))
            continue;
        if (traffic_vouched(c, path, now_ns)) {
            c->heir = path;
            c->leaves_ns = now_ns;
            traffic_recall_changes(c, now_ns);
            handover_go_on(c, now_ns);
            return;
        }
        looks_look(c, path, now_ns);
    }
}

/* Time has passed: begin if the owner drains, or put it off. */
void handover_tend(aoe_core *c, int64_t now_ns)
{
    if (!c->owner || !c->owner->draining)
        return;
    if (c->heir && now_ns - c->leaves_ns >= c->patience_ns)
        put_off(c, now_ns);
    else if (!c->heir && now_ns >= c->leaves_ns)
        begin(c, now_ns);
}

static void hand_over(aoe_core *c, int64_t now_ns)
{
    if (c->parted != c->owner->generation) {
        put_off(c, now_ns);
        return;
    }
    c->unflushed = NULL;
    debts_flushed(&c->debts);
    c->patience_ns = c->set.timing.handover_ns;
    board_note(c, c->heir, HAPPENS_CHOSEN, WHY_NONE);
}

/* Something happened while it is under way. */
void handover_go_on(aoe_core *c, int64_t now_ns)
{
    static const struct body flush = {.ata = {.opcode = FLUSH_CACHE_EXT}, .head_length = sizeof flush.ata};
    assert(c->heir && c->owner);
    if (!c->owner->draining || !c->heir->vouched || !may_take_over(c, c->heir)) {
        put_off(c, now_ns);
    } else if (!c->owner->vouched) {
        return; /* it is asked whether it is the same life, for which alone it can speak */
    } else if (c->parted) {
        hand_over(c, now_ns);
    } else if (!c->parting && !traffic_has_changes(c, c->owner)) {
        c->parting = exchange_new(c, c->owner, &flush, COMMAND_ATA, LANE_SYNCS, ATA_HEADER);
        channel_start_now(c, c->owner, c->parting, now_ns);
    }
}

/* The old server has flushed what it was sent, or could not. */
void handover_parted(aoe_core *c, const struct effect *answer, int64_t now_ns)
{
    c->parting = NULL;
    if (answer->good)
        c->parted = answer->exchange->generation;
    else
        put_off(c, now_ns);
}

/* Nothing is handed over any more: it is done, or the owner is lost, or it was put off. */
void handover_over(aoe_core *c, int64_t now_ns)
{
    struct exchange *asked = c->parting;
    c->heir = NULL;
    c->parting = NULL;
    c->parted = 0;
    if (asked)
        channel_abandon(c, c->owner, asked, now_ns);
}
