/* The requests of one kind on a channel: how long each is waited for. As aoe/initiator/rtt.py and lane.py. */
#include <stdlib.h>

#include "channel.h"

void lane_init(struct lane *l, const aoe_timing *timing, int64_t quiesce_ns)
{
    l->quiesce_ns = quiesce_ns;
    l->timing = timing;
    l->least_ns = timing->rto_min_ns;
    l->patience = 1.0;
    link_init(&l->flying);
    link_init(&l->unsettled);
}

static int64_t timeout_ns(const struct lane *l)
{
    int64_t usual = lane_usual_ns(l);
    return usual < l->least_ns ? l->least_ns : usual > l->timing->rto_max_ns ? l->timing->rto_max_ns : usual;
}

static void rtt_sample(struct lane *l, int64_t ns)
{
    if (!l->smoothed_ns) {
        l->smoothed_ns = ns;
        l->deviation_ns = ns >> 1;
        return;
    }
    int64_t error = ns - l->smoothed_ns; /* shifts round down, as // does in Python */
    l->smoothed_ns += error >> 3;
    if (l->smoothed_ns < 1)
        l->smoothed_ns = 1;
    l->deviation_ns += (llabs(error) - l->deviation_ns) >> 2;
}

static int64_t at_least_1(int64_t ns) { return ns > 1 ? ns : 1; }

static void rtt_heard(struct lane *l, int64_t sent_ns, int64_t now_ns)
{
    int64_t since_ns = l->heard_ns > sent_ns ? l->heard_ns : sent_ns, ns = at_least_1(now_ns - sent_ns);
    if (l->smoothed_ns && now_ns - since_ns > timeout_ns(l))
        l->paused_ns = now_ns;
    l->heard_ns = now_ns;
    if (sent_ns >= l->paused_ns)
        l->shown_ns = l->shown_ns ? at_least_1(l->shown_ns + ((ns - l->shown_ns) >> 3)) : ns;
    rtt_sample(l, ns);
}

static int64_t doubled(const struct lane *l, int64_t wait, uint32_t times)
{
    if (wait >= l->timing->rto_max_ns) /* may be days, which leave no room for doublings */
        return l->timing->rto_max_ns;
    wait <<= times < 16 ? times : 16;
    return wait < l->timing->rto_max_ns ? wait : l->timing->rto_max_ns;
}

static int64_t wait_ns(const struct lane *l, const struct exchange *x)
{
    int64_t wait = lane_overtook(l, x) ? (int64_t)((double)lane_usual_ns(l) * l->patience) : timeout_ns(l);
    return doubled(l, wait, x->tries - 1);
}

int lane_late(const struct lane *l, const struct exchange *x, int64_t now_ns)
{
    return now_ns - x->since_ns >= wait_ns(l, x);
}

int lane_may_probe(const struct lane *l, int64_t now_ns)
{
    return !l->probes || now_ns - l->probed_ns >= doubled(l, timeout_ns(l), l->probes);
}

void lane_answered(struct lane *l, const struct exchange *x, int64_t sent_ns, int64_t now_ns)
{
    if (sent_ns >= l->resumed_ns)
        rtt_heard(l, sent_ns, now_ns);
    if (sent_ns > l->newest_ns)
        l->newest_ns = sent_ns;
    l->probes = 0;
    if (sent_ns < x->sent_ns) { /* it was only late */
        l->least_ns = 2 * l->least_ns < l->timing->rto_calm_ns ? 2 * l->least_ns : l->timing->rto_calm_ns;
        if (!x->guessed)
            l->patience = 2 * l->patience < PATIENCE_MAX ? 2 * l->patience : PATIENCE_MAX;
        return;
    }
    if (x->tries > 1 && x->open)
        l->least_ns = l->least_ns / 2 > l->timing->rto_min_ns ? l->least_ns / 2 : l->timing->rto_min_ns;
    l->patience += (1 - l->patience) / 256;
}

/* A large request has passed. */
void lane_passed(struct lane *l, uint32_t sectors, int64_t sent_ns)
{
    if (sectors < l->large && sent_ns - l->large_ns <= l->timing->size_wait_ns)
        return;
    l->large = sectors;
    l->large_ns = sent_ns;
}

/* Whether a request is lost again and again, and nothing as large passed since it was first sent. */
int lane_suspects(const struct lane *l, struct exchange *x)
{
    int again = x->tries >= SIZE_LOSSES || l->probes >= SIZE_LOSSES - 1;
    if (x->sectors <= 1 || !again)
        return 0;
    return l->large < x->sectors || l->large_ns < oldest_copy(x)->sent_ns;
}

/* Whether it is not answered although it is sent again and again. What was sent again while the peer was silent is not,
 * as long as what was sent beside its last copy is answered. */
int lane_stuck(const struct lane *l)
{
    if (!l->flying_count)
        return 0;
    const struct exchange *first = OWNER_OF(l->flying.next, struct exchange, where);
    return l->probes + 1 > STUCK_TRIES || (first->tries > STUCK_TRIES && first->sent_ns > l->newest_ns);
}

/* Whether it is stuck, and its peer was heard after the last of it was sent. */
int lane_ignored(const struct lane *l, int64_t heard_ns)
{
    return lane_stuck(l) && heard_ns > OWNER_OF(l->flying.prev, struct exchange, where)->sent_ns;
}

void lane_stand_still(struct lane *l, int64_t gap_ns, int64_t now_ns)
{
    l->resumed_ns = now_ns;
    l->probed_ns += gap_ns;
    for (struct link *at = l->flying.next; at != &l->flying; at = at->next)
        OWNER_OF(at, struct exchange, where)->since_ns += gap_ns;
}
