/* The rooms above the session: requests, their pieces, and the proof. core.c is their face, and takes what has become
 * of operations one after the other. */
#ifndef AOE_CORE_H
#define AOE_CORE_H

#include "session.h"

/* pieces.c: what a piece asks for, and which ranges are held */
struct operation *operation_for(aoe_core *c, struct path *only, uint32_t reply_min);
struct operation *operation_new(aoe_core *c, struct piece *p, uint32_t lane, uint32_t reply_min);
void operation_registers(struct operation *o, uint32_t flags, uint32_t count, uint32_t opcode, uint64_t lba);
void pieces_init(aoe_core *c);
void pieces_discard(aoe_core *c, void *buffer); /* freed when nothing that is out refers to it */
struct piece *pieces_new(aoe_core *c, struct asked *a, uint64_t first, uint64_t last, uint32_t count);
void pieces_end(aoe_core *c, struct piece *p); /* when no request, range or operation refers to it */
/* Keep our writes out of a range that none of them holds; and let them in: those behind are in c->ready then. */
void pieces_close(aoe_core *c, struct range_lock *lock);
void pieces_open(aoe_core *c, struct range_lock *lock);
/* It is gone, unless something of it can still do something, or the proof keeps its range closed. */
void pieces_rest(aoe_core *c, struct piece *p);
void pieces_settled(aoe_core *c, struct operation *o);
void pieces_carry_on(aoe_core *c, struct piece *p, uint32_t most, int64_t now_ns);
void pieces_write(aoe_core *c, struct piece *p, int64_t now_ns); /* send one that the proof has looked for */
const uint8_t *pieces_bytes(const struct piece *p); /* what is written by the next sectors of it */
int pieces_patches(const struct piece *p); /* whether the request covers only a part of its sectors */
void pieces_keep(struct piece *p, const uint8_t *data, uint32_t sectors);
void pieces_patch(struct piece *p);

/* look.c: what the proof looks at */
void look_begin(aoe_core *c, struct look *l, struct path *path, uint64_t lba, uint32_t sectors, int64_t now_ns);
void look_end(aoe_core *c, struct look *l, int64_t now_ns);
const uint8_t *look_bytes(const struct event *e); /* what was read, or NULL */
struct lives lives_of(const struct path *owner, const struct path *path);
int lives_last(const struct lives *one, const struct path *owner, const struct path *path); /* they still are */

/* How many sectors may be read at once from a server. */
static inline uint32_t look_limit(const struct path *path) { return path_most(path, LANE_READS); }

/* samples.c: what two servers have is compared */
void samples_init(struct proof *f);
void samples_close(struct proof *f);
void samples_stand_still(struct proof *f, int64_t gap_ns);
void samples_step(aoe_core *c, int64_t now_ns);
void samples_became(aoe_core *c, struct look *l, const struct event *e, int64_t now_ns);

/* echo.c: a write of ours is looked for */
void echo_step(aoe_core *c, int64_t now_ns);
void echo_became(aoe_core *c, const struct event *e, int64_t now_ns);
int echo_is_wanted(const aoe_core *c); /* there is a server that is to show one */
/* Whether a write waits until its range was read through a server that is to be proved. */
int echo_takes(aoe_core *c, struct piece *p, const uint8_t *data, int64_t now_ns);
/* It was answered by the server of a path, and all went well; it failed, or no caller waits for it any more. */
void echo_acknowledged(aoe_core *c, const struct piece *p, const struct path *by, int64_t now_ns);
void echo_given_up(aoe_core *c, const struct piece *p, int64_t now_ns);

/* proof.c: whether servers have one disk: both of these */
void proof_init(struct proof *f);
void proof_close(struct proof *f);
void proof_stand_still(struct proof *f, int64_t gap_ns); /* we did not run for so long */
void proof_step(aoe_core *c, int64_t now_ns); /* something happened, or time has passed */
void proof_became(aoe_core *c, struct look *l, const struct event *e, int64_t now_ns);

/* progress.c: a piece may begin, is answered, and the request ends */
void progress_end(aoe_core *c, struct asked *a, uint32_t outcome);
void progress_go(aoe_core *c, struct piece *p, int64_t now_ns);
void progress_flush(aoe_core *c, struct asked *a, int64_t now_ns);
void progress_answered(aoe_core *c, struct piece *p, const struct event *e, int64_t now_ns);

/* split.c: a request in pieces; or why not */
uint32_t split_refused(aoe_core *c, const aoe_request *r, const struct path *path);
void split_begin(aoe_core *c, struct asked *a, struct path *path, int64_t now_ns);

#endif
