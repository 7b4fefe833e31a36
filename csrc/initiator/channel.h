/* The rooms of a path's channel: channel.c is its face. All append to core->effects and to core->out. */
#ifndef AOE_CHANNEL_H
#define AOE_CHANNEL_H

#include "initiator.h"

/* out.c */
/* A place for one more. It is written there: to copy it at once would wait until it has left the processor. */
struct effect *channel_effect(aoe_core *c);
/* The frame, whose head may still be changed, and which may be signed. */
aoe_out *send_frame(aoe_core *c, uint32_t port, const uint8_t *mac, const uint8_t *own, uint32_t shelf, uint32_t slot,
                    uint32_t command, uint32_t tag, const struct body *body);

/* Of which stream it is: in the registers, and the trailer behind registers and data. */
void stamp_registers(struct wire_registers *registers, const struct stamp *stamp);
void stamp_trailer(uint8_t *at, const struct stamp *stamp);

/* window.c: how many requests may be outstanding */
void window_init(struct window *w, uint32_t most);
void window_limit(struct window *w, uint32_t most);
void window_answered(struct window *w);
void window_halve(struct window *w);
void window_lost(struct window *w, int64_t now_ns, int64_t round_ns);

static inline uint32_t window_size(const struct window *w) { return (uint32_t)w->size; }

/* lane.c: how long requests of one kind are waited for */
void lane_init(struct lane *l, const aoe_timing *timing, int64_t quiesce_ns);
int lane_late(const struct lane *l, const struct exchange *x, int64_t now_ns);
int lane_may_probe(const struct lane *l, int64_t now_ns);
void lane_answered(struct lane *l, const struct exchange *x, int64_t sent_ns, int64_t now_ns);
void lane_passed(struct lane *l, uint32_t sectors, int64_t sent_ns);
int lane_suspects(const struct lane *l, struct exchange *x);
int lane_stuck(const struct lane *l);
int lane_ignored(const struct lane *l, int64_t heard_ns);
void lane_stand_still(struct lane *l, int64_t gap_ns, int64_t now_ns);

static inline int64_t lane_usual_ns(const struct lane *l)
{
    return l->smoothed_ns ? l->smoothed_ns + 4 * l->deviation_ns : l->timing->rto_first_ns;
}

/* Something was answered that was sent later: the sign of a loss. */
static inline int lane_overtook(const struct lane *l, const struct exchange *x) { return x->sent_ns < l->newest_ns; }

/* exchange.c: a request on a path, and its copies */
struct exchange *exchange_new(aoe_core *c, struct path *path, const struct body *body, uint32_t command, uint32_t lane,
                              uint32_t reply_min);
/* Whether a frame can be the reply to a request: an error, or so long at least; and whether that was done. */
enum verdict_on_reply reply_judge(const uint8_t *raw, uint32_t length, uint32_t command, uint32_t least);
void exchange_transmit(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns);
void exchange_resend(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns);
void exchange_send_anew(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns);
void exchange_close(aoe_core *c, struct path *path, struct exchange *x);
void exchange_forget(aoe_core *c, struct path *path, struct exchange *x);
void exchange_forget_copies(aoe_core *c, struct path *path, struct exchange *x);
/* Whether no copy can do anything any more, once the peer is another process, and where that alone carries out what
 * names a life of it (order rules T8 to T10). */
int exchange_is_over(const struct path *path, const struct exchange *x);
void copy_drop(aoe_core *c, struct path *path, struct copy *copy);

static inline struct copy **copy_slot(struct path *path, uint32_t tag)
{
    struct copy **slot = &path->tags[tag % TAG_BUCKETS];
    while (*slot && (*slot)->tag != tag)
        slot = &(*slot)->next;
    return slot;
}

static inline struct copy *oldest_copy(struct exchange *x)
{
    assert(x->copies_count);
    return OWNER_OF(x->copies.next, struct copy, of_exchange);
}

/* channel.c: what speaks AoE with one server */
void channel_init(aoe_core *c, struct path *path, uint32_t window, uint32_t first_tag, int64_t quiesce_ns);
void channel_start(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns);
void channel_start_now(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns);
void channel_send_changes_again(aoe_core *c, struct path *path, int64_t now_ns);
/* The peer is another process, which knows nothing of what the one before was asked: ask it. */
void channel_begin_anew(aoe_core *c, struct path *path, int64_t now_ns);
void channel_abandon(aoe_core *c, struct path *path, struct exchange *x, int64_t now_ns);
void channel_received(aoe_core *c, struct path *path, uint32_t tag, const uint8_t *raw, uint32_t length,
                      int64_t now_ns);
void channel_tick(aoe_core *c, struct path *path, int64_t now_ns);
void channel_settle_all(aoe_core *c, struct path *path);
/* Whether there are copies of unknown fate whose answer is not waited for. */
int channel_uncertain(const struct path *path);
/* The path is given up with all that was sent there and is open: this. */
void channel_end(aoe_core *c, struct path *path, struct exchange *last);
int64_t channel_quiet_ns(const struct path *path, int64_t now_ns);
struct stamp channel_new_stream(const aoe_core *c, struct path *path, uint64_t instance);
void channel_heard(struct path *path, int64_t now_ns);
/* We did not run for so long. What may be late is given that time; copies are as old as they are. */
void channel_stand_still(struct path *path, int64_t gap_ns, int64_t now_ns);
/* A copy was never sent, and is too old for it now: another one takes its place. */
void channel_make_anew(aoe_core *c, struct path *path, uint32_t tag, int64_t now_ns);
int channel_stuck(const struct path *path);
int channel_ignores(const struct path *path);

static inline int channel_knows(const struct path *path, uint32_t tag)
{
    return *copy_slot((struct path *)path, tag) != NULL;
}

static inline uint32_t channel_outstanding(const struct path *path)
{
    return path->lanes[0].flying_count + path->lanes[1].flying_count + path->lanes[2].flying_count;
}

/* One that no other transmission has. */
static inline uint32_t channel_new_tag(struct path *path)
{
    path->tag = (path->tag + 1) & TAG_MASK;
    return USER_TAG | path->tag;
}

#endif
