/* A write of ours is looked for in what another server shows: aoe/initiator/proof.py has the rules. The range was other
 * there before the write, the owner acknowledged the write, and then the range has its bytes; it was closed all the
 * time. Nothing here holds up work. */
#include <stdlib.h>
#include <string.h>

#include "core.h"

enum { BEFORE = 0, WRITING = 1, AFTER = 2 };

/* Whether a server is to show a write of ours. */
static int is_doubtful(const aoe_core *c, const struct path *path)
{
    if (!c->owner || path->trial.proved || trial_leads_to_owner(c, path))
        return 0;
    if (path->trial.condemned == WHY_NOT_SEEN)
        return path->state == PATH_REFUSED && path->vouched;
    return path->state == PATH_USABLE && path->trial.sampled;
}

static void look_through(aoe_core *c, struct path *path, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    o->since_ns = now_ns;
    look_begin(c, &o->look, path, o->piece->lock.first, o->sectors, now_ns);
}

static void begin(aoe_core *c, struct path *path, struct piece *p, const uint8_t *data, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    uint32_t sectors = p->count < look_limit(path) ? p->count : look_limit(path);
    *o = (struct echo){.owner = c->owner->number, .path = path->number, .piece = p, .sectors = sectors};
    o->lives = lives_of(c->owner, path);
    o->data = must_allocate(NULL, (size_t)sectors * SECTOR);
    memcpy(o->data, data, (size_t)sectors * SECTOR);
    p->echo = 1;
    c->proof.works = 1;
    look_through(c, path, now_ns);
}

int echo_takes(aoe_core *c, struct piece *p, const uint8_t *data, int64_t now_ns)
{
    if (c->proof.echo.piece)
        return 0;
    for (uint32_t i = 0; i < c->paths_count; i++) {
        struct path *path = c->paths[i];
        if (channel_outstanding(path) || path->waiting_count || now_ns < path->trial.again_ns || !is_doubtful(c, path))
            continue;
        begin(c, path, p, data, now_ns);
        return 1;
    }
    return 0;
}

static void end(aoe_core *c, int64_t wait_ns, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    struct piece *p = o->piece;
    struct path *path = path_numbered(c, o->path);
    int before = o->stage == BEFORE;
    o->piece = NULL;
    if (path) {
        path->trial.again_ns = now_ns + wait_ns;
        trial_share(c, path);
    }
    p->echo = 0;
    look_end(c, &o->look, now_ns);
    free(o->data);
    o->data = NULL;
    if (before)
        pieces_write(c, p, now_ns);
    else
        pieces_rest(c, p);
}

static void judge(aoe_core *c, int seen, int64_t now_ns)
{
    struct path *path = path_numbered(c, c->proof.echo.path);
    uint64_t lba = c->proof.echo.piece->lock.first;
    end(c, c->set.timing.proof_again_ns, now_ns);
    if (seen) {
        session_prove(c, path, now_ns);
        return;
    }
    path->trial.misses++;
    trial_share(c, path);
    if (path->trial.condemned || path->trial.misses >= ECHOES_MAX)
        session_condemn(c, path, WHY_NOT_SEEN, lba, now_ns);
}

static void looked(aoe_core *c, const struct event *e, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    const uint8_t *data = look_bytes(e);
    int equal = data && !memcmp(data, o->data, (size_t)o->sectors * SECTOR);
    if (!data) {
        end(c, c->set.timing.recheck_ns, now_ns);
    } else if (o->stage == AFTER) {
        judge(c, equal, now_ns);
    } else if (equal) { /* it would show nothing */
        end(c, c->set.timing.proof_again_ns, now_ns);
    } else {
        o->stage = WRITING;
        pieces_write(c, o->piece, now_ns);
    }
}

void echo_acknowledged(aoe_core *c, const struct piece *p, const struct path *by, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    struct path *path = path_numbered(c, o->path);
    if (o->piece != p)
        return;
    if (path && by->number == o->owner && c->owner == by) {
        o->stage = AFTER;
        look_through(c, path, now_ns);
    } else {
        end(c, c->set.timing.proof_again_ns, now_ns);
    }
}

void echo_given_up(aoe_core *c, const struct piece *p, int64_t now_ns)
{
    if (c->proof.echo.piece == p)
        end(c, c->set.timing.proof_again_ns, now_ns);
}

static void watch(aoe_core *c, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    struct path *path = path_numbered(c, o->path);
    int goes_on = path && c->owner && c->owner->number == o->owner && is_doubtful(c, path);
    if (!goes_on || o->sectors > look_limit(path) || !lives_last(&o->lives, c->owner, path)) {
        end(c, c->set.timing.proof_again_ns, now_ns);
    } else if (o->stage != WRITING && now_ns - o->since_ns >= c->set.timing.proof_ns) {
        end(c, c->set.timing.recheck_ns, now_ns);
        session_look(c, path, now_ns);
    }
}

/* The border to the proof */

void echo_step(aoe_core *c, int64_t now_ns)
{
    if (c->proof.echo.piece)
        watch(c, now_ns);
}

void echo_became(aoe_core *c, const struct event *e, int64_t now_ns)
{
    if (e->what == EFFECT_TOO_LARGE) /* not so much passes there any more */
        end(c, c->set.timing.proof_again_ns, now_ns);
    else
        looked(c, e, now_ns);
}

int echo_is_wanted(const aoe_core *c)
{
    int wanted = 0;
    for (uint32_t i = 0; i < c->paths_count; i++)
        wanted |= is_doubtful(c, c->paths[i]);
    return wanted;
}
