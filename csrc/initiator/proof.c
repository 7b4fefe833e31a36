/* Whether a second server has the same disk as the owner: aoe/initiator/proof.py has the rules.
 *
 * Samples of both are compared while their range is closed to our writes; equal ones are required, and prove nothing.
 * What proves it is an echo: a range was other there before a write of ours, the owner acknowledged the write, and then
 * the range has its bytes; it was closed all the time. Nothing here holds up work. */
#include <stdlib.h>
#include <string.h>

#include "core.h"

enum { BEFORE = 0, WRITING = 1, AFTER = 2 };

/* Which processes of the two servers are compared. */
static struct lives lives_of(const struct way *owner, const struct way *w)
{
    return (struct lives){owner->ours, w->ours, owner->instance, w->instance};
}

static int same_lives(const struct lives *one, const struct way *owner, const struct way *w)
{
    struct lives now = lives_of(owner, w);
    return one->owner_ours == now.owner_ours && one->ours == now.ours && one->owner == now.owner &&
           one->instance == now.instance;
}

/* Reads */

static void begin_look(aoe_core *c, struct look *l, struct way *w, uint64_t lba, uint32_t sectors, int64_t now_ns)
{
    struct operation *o = operation_for(c, w, ATA_HEADER + sectors * SECTOR);
    operation_registers(o, AFLAG_EXTENDED, sectors, READ_SECTORS_EXT, lba);
    o->look = l;
    o->sectors = sectors;
    l->operation = o;
    l->is_answered = 0;
    session_start(c, o, now_ns);
}

static void end_look(aoe_core *c, struct look *l, int64_t now_ns)
{
    struct operation *o = l->operation;
    l->operation = NULL;
    if (!o)
        return;
    o->look = NULL;
    if (o->open)
        session_abandon(c, o, now_ns);
}

/* The bytes that were read, or NULL. */
static const uint8_t *read_bytes(const struct event *e)
{
    return e->good ? e->raw + ATA_HEADER : NULL;
}

/* Samples */

static struct sample *sample_new(uint64_t first, uint64_t last)
{
    struct sample *s = must_allocate(NULL, sizeof *s);
    *s = (struct sample){.first = first, .last = last};
    s->looks[0].sample = s->looks[1].sample = s;
    return s;
}

static void keep(struct proof *f, struct sample *s)
{
    link_append(&f->left, &s->where);
    f->left_count++;
}

/* What is compared of a disk. */
static void make_samples(struct proof *f, uint64_t sectors)
{
    uint64_t end = SAMPLE_END_SECTORS, size = SAMPLE_BLOCK_SECTORS;
    if (sectors <= 2 * end + SAMPLE_BLOCKS * size) {
        keep(f, sample_new(0, sectors));
        return;
    }
    keep(f, sample_new(0, end));
    keep(f, sample_new(sectors - end, sectors));
    for (uint64_t number = 1; number <= SAMPLE_BLOCKS; number++) {
        uint64_t lba = sectors / (SAMPLE_BLOCKS + 1) * number;
        keep(f, sample_new(lba, lba + size));
    }
}

/* It keeps so many sectors; the rest comes next. */
static void cut(struct proof *f, struct sample *s, uint32_t sectors)
{
    if (s->last - s->first <= sectors)
        return;
    struct sample *rest = sample_new(s->first + sectors, s->last);
    rest->differed = s->differed;
    rest->held = s->held;
    s->last = rest->first;
    link_append(f->left.next, &rest->where);
    f->left_count++;
}

static int begin_samples(aoe_core *c, int64_t now_ns)
{
    struct proof *f = &c->proof;
    struct way *w = NULL;
    for (uint32_t i = 0; i < c->ways_count && !w; i++)
        w = way_samples(c->ways[i]) ? c->ways[i] : NULL;
    if (!w || !c->owner || !c->has_facts)
        return 0;
    f->owner = c->owner->number;
    f->subject = w->number;
    f->began_ns = now_ns;
    f->lives = lives_of(c->owner, w);
    make_samples(f, c->sectors);
    return 1;
}

static void drop(struct sample *s)
{
    link_remove(&s->where);
    free(s->data);
    free(s);
}

/* Nothing of it is under way any more. */
static void take_back(aoe_core *c, struct sample *s, int64_t now_ns)
{
    struct piece *claim = s->claim;
    link_remove(&s->where);
    c->proof.flying_count--;
    s->claim = NULL;
    for (int i = 0; i < 2; i++)
        end_look(c, &s->looks[i], now_ns);
    pieces_leave(c, claim);
}

static void end_samples(aoe_core *c, int64_t now_ns)
{
    struct proof *f = &c->proof;
    f->subject = 0;
    f->left_count = 0;
    while (!link_alone(&f->left))
        drop(OWNER_OF(f->left.next, struct sample, where));
    while (!link_alone(&f->flying)) {
        struct sample *s = OWNER_OF(f->flying.next, struct sample, where);
        take_back(c, s, now_ns);
        drop(s);
    }
}

/* Whether it is tried again, or left out. */
static int later(aoe_core *c, struct sample *s, uint32_t tries, int64_t now_ns)
{
    struct proof *f = &c->proof;
    s->again_ns = now_ns + c->set.timing.proof_again_ns;
    if (tries < SAMPLE_TRIES)
        keep(f, s);
    else
        drop(s);
    return tries < SAMPLE_TRIES;
}

static void watch_samples(aoe_core *c, int64_t now_ns)
{
    struct proof *f = &c->proof;
    struct way *w = way_numbered(c, f->subject);
    int goes_on = w && way_samples(w) && c->owner && c->owner->number == f->owner;
    if (!goes_on || !same_lives(&f->lives, c->owner, w)) {
        end_samples(c, now_ns);
        return;
    }
    struct link *next, *at = f->flying.next;
    for (uint32_t n = f->flying_count; n--; at = next) {
        struct sample *s = OWNER_OF(at, struct sample, where);
        next = at->next;
        if (now_ns - s->since_ns < c->set.timing.proof_ns)
            continue;
        take_back(c, s, now_ns);
        keep(f, s);
    }
    if (now_ns - (w->quiet_from_ns > f->began_ns ? w->quiet_from_ns : f->began_ns) >= c->set.timing.dead_ns) {
        end_samples(c, now_ns);
        session_silent(c, w, now_ns);
    }
}

static void read_both(aoe_core *c, struct sample *s, struct way *w, int64_t now_ns)
{
    struct way *both[2] = {way_numbered(c, c->proof.owner), w};
    s->claim = pieces_close(c, s->first, s->last);
    link_append(&c->proof.flying, &s->where);
    c->proof.flying_count++;
    s->since_ns = now_ns;
    for (int i = 0; i < 2; i++)
        begin_look(c, &s->looks[i], both[i], s->first, (uint32_t)(s->last - s->first), now_ns);
}

/* How many sectors may be read at once from a server. */
static uint32_t passes(const struct way *w) { return sizes_limit(&w->sizes, BACK); }

static struct sample *take_next(struct proof *f)
{
    struct sample *s = OWNER_OF(f->left.next, struct sample, where);
    link_remove(&s->where);
    f->left_count--;
    return s;
}

/* Read it, or as much as passes to both, or put it off; whether it was put off. */
static int attempt(aoe_core *c, struct sample *s, struct way *w, int64_t now_ns)
{
    struct proof *f = &c->proof;
    if (now_ns < s->again_ns) {
        keep(f, s);
        return 1;
    }
    cut(f, s, passes(w) < passes(c->owner) ? passes(w) : passes(c->owner));
    if (ranges_touched(&c->ranges, s->first, s->last))
        return later(c, s, ++s->held, now_ns);
    read_both(c, s, w, now_ns);
    return 0;
}

/* Compare as many as may be under way at once. */
static void go_on(aoe_core *c, int64_t now_ns)
{
    struct proof *f = &c->proof;
    uint32_t put_off = 0;
    while (f->subject && f->left_count > put_off) {
        if (f->flying_count >= SAMPLES_AT_ONCE)
            return;
        put_off += (uint32_t)attempt(c, take_next(f), way_numbered(c, f->subject), now_ns);
    }
    if (f->subject && !f->left_count && !f->flying_count) {
        struct way *w = way_numbered(c, f->subject);
        f->subject = 0;
        session_sampled(c, w, now_ns);
    }
}

/* In which sector two ranges differ first. */
static uint64_t first_difference(const uint8_t *one, const uint8_t *other)
{
    uint64_t at = 0;
    while (one[at] == other[at])
        at++;
    return at / SECTOR;
}

static void differs(aoe_core *c, struct sample *s, uint64_t lba, int64_t now_ns)
{
    struct way *w = way_numbered(c, c->proof.subject);
    int over = ++s->differed == SAMPLE_TRIES;
    later(c, s, s->differed, now_ns);
    if (!over)
        return;
    end_samples(c, now_ns);
    session_condemn(c, w, WHY_OTHER_DATA, lba, now_ns);
}

/* Both have answered, the second one just now, with these bytes. */
static void compare(aoe_core *c, struct sample *s, const uint8_t *data, int64_t now_ns)
{
    size_t bytes = (size_t)(s->last - s->first) * SECTOR;
    int read = s->data && data, equal = read && !memcmp(s->data, data, bytes);
    uint64_t lba = read && !equal ? s->first + first_difference(s->data, data) : 0;
    free(s->data);
    s->data = NULL;
    take_back(c, s, now_ns);
    if (!read)
        later(c, s, ++s->held, now_ns);
    else if (equal)
        drop(s);
    else
        differs(c, s, lba, now_ns);
}

static void sampled(aoe_core *c, struct look *l, const struct event *e, int64_t now_ns)
{
    struct sample *s = l->sample;
    const uint8_t *data = read_bytes(e);
    size_t bytes = (size_t)(s->last - s->first) * SECTOR;
    l->is_answered = 1;
    if (s->looks[0].is_answered && s->looks[1].is_answered) {
        compare(c, s, data, now_ns);
    } else if (data) {
        s->data = must_allocate(s->data, bytes);
        memcpy(s->data, data, bytes);
    } else {
        free(s->data);
        s->data = NULL;
    }
}

/* Echo */

/* Whether a server is to show a write of ours. */
static int is_doubtful(const aoe_core *c, const struct way *w)
{
    if (!c->owner || w->trial.proved || trial_leads_to_owner(c, w))
        return 0;
    if (w->trial.condemned == WHY_NOT_SEEN)
        return w->state == WAY_REFUSED && w->vouched;
    return w->state == WAY_USABLE && w->trial.sampled;
}

static void look_through(aoe_core *c, struct way *w, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    o->since_ns = now_ns;
    begin_look(c, &o->look, w, o->piece->first, o->sectors, now_ns);
}

static void begin_echo(aoe_core *c, struct way *w, struct piece *p, const uint8_t *data, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    uint32_t sectors = p->count < passes(w) ? p->count : passes(w);
    *o = (struct echo){.owner = c->owner->number, .way = w->number, .piece = p, .sectors = sectors};
    o->lives = lives_of(c->owner, w);
    o->data = must_allocate(NULL, (size_t)sectors * SECTOR);
    memcpy(o->data, data, (size_t)sectors * SECTOR);
    p->echo = 1;
    c->proof.works = 1;
    look_through(c, w, now_ns);
}

int proof_takes(aoe_core *c, struct piece *p, const uint8_t *data, int64_t now_ns)
{
    if (c->proof.echo.piece)
        return 0;
    for (uint32_t i = 0; i < c->ways_count; i++) {
        struct way *w = c->ways[i];
        if (path_outstanding(w) || w->waiting_count || now_ns < w->trial.again_ns || !is_doubtful(c, w))
            continue;
        begin_echo(c, w, p, data, now_ns);
        return 1;
    }
    return 0;
}

static void end_echo(aoe_core *c, int64_t wait_ns, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    struct piece *p = o->piece;
    struct way *w = way_numbered(c, o->way);
    int before = o->stage == BEFORE;
    o->piece = NULL;
    if (w) {
        w->trial.again_ns = now_ns + wait_ns;
        trial_share(c, w);
    }
    p->echo = 0;
    end_look(c, &o->look, now_ns);
    free(o->data);
    o->data = NULL;
    if (before)
        pieces_write(c, p, now_ns);
    else
        pieces_rest(c, p);
}

static void judge(aoe_core *c, int seen, int64_t now_ns)
{
    struct way *w = way_numbered(c, c->proof.echo.way);
    uint64_t lba = c->proof.echo.piece->first;
    end_echo(c, c->set.timing.proof_again_ns, now_ns);
    if (seen) {
        session_prove(c, w, now_ns);
        return;
    }
    w->trial.misses++;
    trial_share(c, w);
    if (w->trial.condemned || w->trial.misses >= ECHOES_MAX)
        session_condemn(c, w, WHY_NOT_SEEN, lba, now_ns);
}

static void looked(aoe_core *c, const struct event *e, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    const uint8_t *data = read_bytes(e);
    int equal = data && !memcmp(data, o->data, (size_t)o->sectors * SECTOR);
    if (!data) {
        end_echo(c, c->set.timing.recheck_ns, now_ns);
    } else if (o->stage == AFTER) {
        judge(c, equal, now_ns);
    } else if (equal) { /* it would show nothing */
        end_echo(c, c->set.timing.proof_again_ns, now_ns);
    } else {
        o->stage = WRITING;
        pieces_write(c, o->piece, now_ns);
    }
}

void proof_acknowledged(aoe_core *c, const struct piece *p, const struct way *by, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    struct way *w = way_numbered(c, o->way);
    if (o->piece != p)
        return;
    if (w && by->number == o->owner && c->owner == by) {
        o->stage = AFTER;
        look_through(c, w, now_ns);
    } else {
        end_echo(c, c->set.timing.proof_again_ns, now_ns);
    }
}

void proof_given_up(aoe_core *c, const struct piece *p, int64_t now_ns)
{
    if (c->proof.echo.piece == p)
        end_echo(c, c->set.timing.proof_again_ns, now_ns);
}

static void watch_echo(aoe_core *c, int64_t now_ns)
{
    struct echo *o = &c->proof.echo;
    struct way *w = way_numbered(c, o->way);
    int goes_on = w && c->owner && c->owner->number == o->owner && is_doubtful(c, w);
    if (!goes_on || o->sectors > passes(w) || !same_lives(&o->lives, c->owner, w)) {
        end_echo(c, c->set.timing.proof_again_ns, now_ns);
    } else if (o->stage != WRITING && now_ns - o->since_ns >= c->set.timing.proof_ns) {
        end_echo(c, c->set.timing.recheck_ns, now_ns);
        session_look(c, w, now_ns);
    }
}

/* The border to the core */

void proof_init(struct proof *f)
{
    link_init(&f->left);
    link_init(&f->flying);
    f->news = UINT64_MAX;
}

void proof_close(struct proof *f)
{
    while (!link_alone(&f->left))
        drop(OWNER_OF(f->left.next, struct sample, where));
    while (!link_alone(&f->flying))
        drop(OWNER_OF(f->flying.next, struct sample, where));
    free(f->echo.data);
}

void proof_stand_still(struct proof *f, int64_t gap_ns)
{
    f->began_ns += gap_ns;
    f->echo.since_ns += gap_ns;
    for (struct link *l = f->flying.next; l != &f->flying; l = l->next)
        OWNER_OF(l, struct sample, where)->since_ns += gap_ns;
}

void proof_step(aoe_core *c, int64_t now_ns)
{
    struct proof *f = &c->proof;
    if (f->echo.piece)
        watch_echo(c, now_ns);
    if (f->subject) {
        watch_samples(c, now_ns);
        go_on(c, now_ns);
    }
    while (!f->subject && begin_samples(c, now_ns))
        go_on(c, now_ns);
    f->news = c->news;
    f->wanted = 0;
    for (uint32_t i = 0; i < c->ways_count; i++)
        f->wanted |= is_doubtful(c, c->ways[i]);
    f->works = f->echo.piece || f->subject;
}

/* Not so much passes there any more. */
static void shrink(aoe_core *c, struct look *l, int64_t now_ns)
{
    if (l->sample) {
        take_back(c, l->sample, now_ns);
        keep(&c->proof, l->sample);
    } else {
        end_echo(c, c->set.timing.proof_again_ns, now_ns);
    }
}

void proof_became(aoe_core *c, struct look *l, const struct event *e, int64_t now_ns)
{
    l->operation->look = NULL;
    l->operation = NULL;
    if (e->what == EFFECT_TOO_LARGE)
        shrink(c, l, now_ns);
    else if (l->sample)
        sampled(c, l, e, now_ns);
    else
        looked(c, e, now_ns);
}
