/* The rooms of a session: session.c is its face, and takes what is to be seen to one after the other. */
#ifndef AOE_SESSION_H
#define AOE_SESSION_H

#include "channel.h"

/* session.c: which path carries what. All append to core->events. */
void session_set_port(aoe_core *c, uint32_t number, const aoe_core_port *port, int64_t now_ns);
void session_start(aoe_core *c, struct operation *o, int64_t now_ns);
void session_abandon(aoe_core *c, struct operation *o, int64_t now_ns);
void session_received(aoe_core *c, uint32_t port, const uint8_t *raw, uint32_t length, int64_t now_ns);
int session_switch(aoe_core *c, struct path *path, int64_t now_ns);
void session_fenced(aoe_core *c, struct path *path, int64_t now_ns);
void session_tick(aoe_core *c, int64_t now_ns);
void session_stand_still(aoe_core *c, int64_t gap_ns, int64_t now_ns);
int64_t session_pulse(const aoe_core *c);
/* How many sectors the owner takes in one request, or any path while there is no owner. */
uint32_t session_frame(const aoe_core *c, uint32_t lane);
int session_flushed(aoe_core *c, uint64_t changes, uint64_t losses_told);
/* `registering`: what was asked with it. Whether the path leads to the disk. */
int session_identified(aoe_core *c, struct path *path, const uint8_t *raw, struct stamp registering, int64_t now_ns);

void session_look(aoe_core *c, struct path *path, int64_t now_ns); /* ask it what it leads to */
/* What the proof found out of the server of a path. */
void session_sampled(aoe_core *c, struct path *path, int64_t now_ns);
void session_silent(aoe_core *c, struct path *path, int64_t now_ns);
void session_condemn(aoe_core *c, struct path *path, int reason, uint64_t lba, int64_t now_ns);
void session_prove(aoe_core *c, struct path *path, int64_t now_ns);

/* trial.c: what is known of servers' disks, and what follows from it */
int trial_same_server(const struct path *path, const struct path *other);
int trial_leads_to_owner(const aoe_core *c, const struct path *path);
void trial_share(aoe_core *c, const struct path *path);
void trial_meet(const aoe_core *c, struct path *path);
void trial_refer_to(aoe_core *c, const struct path *path);
void trial_prove_copy(aoe_core *c, struct path *path);
int trial_has_other_store(const aoe_core *c, const struct path *path);
int trial_is_unsure(const aoe_core *c, const struct path *path);
int trial_is_company(const aoe_core *c, const struct path *path, const struct path *other);
int trial_is_barred(const aoe_core *c, const struct path *path);
int trial_may_inherit(const aoe_core *c, const struct path *path);
struct path *trial_heir(const aoe_core *c);
/* The owner has started again: whether another one is it from now on. */
int trial_is_replaced(aoe_core *c, struct path *path);
void trial_compare_all(aoe_core *c); /* others with one that is the owner from now on */

static inline uint32_t path_load(const struct path *path)
{
    return channel_outstanding(path) + path->waiting_count;
}

/* How many sectors may go with a request there. */
static inline uint32_t path_most(const struct path *path, uint32_t lane)
{
    return sizes_limit(&path->sizes, lane == LANE_READS ? BACK : THERE);
}

/* Whether it is looked at from time to time, as it may come back. */
static inline int path_is_lost(const struct path *path)
{
    return path->state == PATH_DOWN || life_shown(path->state) == PATH_REFUSED;
}

/* board.c */
extern const struct body board_read_config, board_identify;
struct event *board_event(aoe_core *c); /* a place for one more, as with an effect */
void board_note(aoe_core *c, struct path *path, int happens, int reason);
void board_query(aoe_core *c, uint32_t port, const uint8_t *mac, uint32_t shelf, uint32_t slot);
int64_t board_quiesce_ns(const aoe_core *c, int64_t age_ns);
int64_t board_bound_ns(const aoe_core *c, int64_t age_ns); /* the same where it is waited for, whatever the policy */
struct body board_reading(uint8_t count);
struct path *path_numbered(const aoe_core *c, uint32_t number); /* NULL: there is none any more */

/* looks.c: questions to the server of a path: IDENTIFY, with a stream of ours (order rule T9); how much it takes */
void looks_ask_size(aoe_core *c, struct path *path, int64_t now_ns);
void looks_check(aoe_core *c, struct path *path, const struct body *body, int64_t now_ns);
int looks_may_register(const struct path *path, int64_t now_ns);
void looks_look(aoe_core *c, struct path *path, int64_t now_ns);
uint8_t looks_word(const aoe_core *c, const struct path *path); /* what a server that drains is told: AWAY and so on */
void looks_use_stream(aoe_core *c, struct path *path, struct stamp stamp, int64_t now_ns);
int looks_registered(aoe_core *c, struct path *path, uint64_t features, struct stamp registering, int64_t now_ns);
void looks_unanswered(aoe_core *c, struct path *path, int64_t now_ns);

/* traffic.c: which path carries an operation, and what becomes of it */
void traffic_conclude(aoe_core *c, struct operation *o, struct path *path, const uint8_t *raw, uint32_t length,
                      int good,
                     int64_t now_ns);
void traffic_answered(aoe_core *c, struct path *path, const struct effect *e, int64_t now_ns);
void traffic_settled(aoe_core *c, struct exchange *x);
void traffic_abandon_exchange(aoe_core *c, struct exchange *x, int64_t now_ns);
void traffic_hold(aoe_core *c, struct operation *o);
void traffic_abandon(aoe_core *c, struct operation *o, int64_t now_ns);
void traffic_give_back(aoe_core *c, struct operation *o, const struct path *path, int64_t now_ns);
void traffic_give_back_large(aoe_core *c, const struct path *path, int64_t now_ns);
void traffic_dispatch(aoe_core *c, struct operation *o, int64_t now_ns);
void traffic_release(aoe_core *c, int64_t now_ns);
/* What is open there and could go elsewhere waits for a path again. */
void traffic_take_back_all(aoe_core *c, const struct path *path, int64_t now_ns);
void traffic_recall(aoe_core *c, struct path *path, int64_t now_ns);

int traffic_vouched(const aoe_core *c, const struct path *path, int64_t now_ns);
int traffic_has_changes(const aoe_core *c, const struct path *path); /* or flushes, that could go elsewhere */
void traffic_recall_changes(aoe_core *c, int64_t now_ns); /* that the owner was not sent yet */

/* handover.c: a planned change of the owner, away from a server that drains */
void handover_tend(aoe_core *c, int64_t now_ns);
void handover_go_on(aoe_core *c, int64_t now_ns);
void handover_parted(aoe_core *c, const struct effect *answer, int64_t now_ns);
void handover_over(aoe_core *c, int64_t now_ns);

/* health.c: how a path is: how large its frames may be, whether it is alive, and whether it was looked at */
void health_fit(aoe_core *c, struct path *path, int64_t now_ns);
void health_resized(aoe_core *c, struct path *path, int64_t now_ns);
uint32_t health_offers_of(const uint8_t *raw);
uint32_t health_window_of(const aoe_core *c, uint32_t port, const uint8_t *raw);
void health_takes(aoe_core *c, struct path *path, const uint8_t *raw, int64_t now_ns);
int health_config_fits(const uint8_t *raw, uint32_t length);
void health_told(aoe_core *c, struct path *path, const struct effect *answer, int64_t now_ns);
void health_probe_reply(aoe_core *c, struct path *path, struct size_probe *probe, const uint8_t *raw, uint32_t length,
                        int64_t now_ns);
void health_measure(aoe_core *c, struct path *path, int64_t now_ns);
void health_watch(aoe_core *c, struct path *path, int64_t now_ns);
void health_tend(aoe_core *c, struct path *path, int64_t now_ns);

/* discovery.c: finding paths: config queries for every address on every port, and the servers that answer */
int discovery_looked_at(const aoe_core *c, uint32_t address);
void discovery_seek(aoe_core *c, int64_t now_ns);
void discovery_stranger_reply(aoe_core *c, uint32_t port, const uint8_t *raw, uint32_t length);
void discovery_config_reply(aoe_core *c, uint32_t port, struct path *path, const uint8_t *raw, uint32_t length,
                            int asked,
                         int64_t now_ns);
struct path *discovery_path_of(const aoe_core *c, uint32_t port, const uint8_t *raw);
int discovery_tells_of_itself(const aoe_core *c, const uint8_t *raw);

/* verdict.c: what IDENTIFY says of a path: whether it leads to the disk, and may be used */
int verdict_identified(aoe_core *c, struct path *path, const uint8_t *raw, struct stamp registering, int64_t now_ns);
void verdict_checked(aoe_core *c, struct path *path, const struct effect *answer, int64_t now_ns);

/* lifecycle.c: what happens to paths, as life.c has it, and which of them is the owner */
void lifecycle_settle_in(aoe_core *c, int64_t now_ns);
void lifecycle_happened(aoe_core *c, const struct effect *e, int64_t now_ns);
void lifecycle_inherit(aoe_core *c, int64_t now_ns);
void lifecycle_go_back(aoe_core *c, int64_t now_ns);

#endif
