/* Samples of two servers are compared, while their ranges are closed to our writes: aoe/initiator/proof.py has the
 * rules. Equal ones are required, and prove nothing. */
#include <stdlib.h>
#include <string.h>

#include "core.h"

static struct sample *sample_new(uint64_t first, uint64_t last)
{
    struct sample *s = must_allocate(NULL, sizeof *s);
    *s = (struct sample){0};
    lock_init(&s->lock, first, last);
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

/* It keeps no more than so many sectors; the rest comes next. */
static void cut(struct proof *f, struct sample *s, uint32_t sectors)
{
    if (s->lock.last - s->lock.first <= sectors)
        return;
    struct sample *rest = sample_new(s->lock.first + sectors, s->lock.last);
    rest->differed = s->differed;
    rest->held = s->held;
    s->lock.last = rest->lock.first;
    link_append(f->left.next, &rest->where);
    f->left_count++;
}

static int begin(aoe_core *c, int64_t now_ns)
{
    struct proof *f = &c->proof;
    struct path *path = NULL;
    for (uint32_t i = 0; i < c->paths_count && !path; i++)
        path = path_samples(c->paths[i]) ? c->paths[i] : NULL;
    if (!path || !c->owner || !c->has_facts)
        return 0;
    f->owner = c->owner->number;
    f->subject = path->number;
    f->began_ns = now_ns;
    f->lives = lives_of(c->owner, path);
    make_samples(f, c->sectors);
    return 1;
}

static void drop(struct sample *s)
{
    link_remove(&s->where);
    lock_end(&s->lock);
    free(s->data);
    free(s);
}

/* Nothing of it is under way any more. */
static void take_back(aoe_core *c, struct sample *s, int64_t now_ns)
{
    link_remove(&s->where);
    c->proof.flying_count--;
    for (int i = 0; i < 2; i++)
        look_end(c, &s->looks[i], now_ns);
    pieces_open(c, &s->lock);
}

static void end(aoe_core *c, int64_t now_ns)
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

static void watch(aoe_core *c, int64_t now_ns)
{
    struct proof *f = &c->proof;
    struct path *path = path_numbered(c, f->subject);
    int goes_on = path && path_samples(path) && c->owner && c->owner->number == f->owner;
    if (!goes_on || !lives_last(&f->lives, c->owner, path)) {
        end(c, now_ns);
        return;
    }
    struct link *next, *at = f->flying.next;
    for (uint32_t n = f->flying_count; n--; at = next) {
        struct sample *s = OWNER_OF(at, struct sample, where);
        next = at->next;
        if (now_ns - s->since_ns < c->set.timing.proof_ns)
            continue;
        take_back(c, s, now_ns);
        cut(f, s, (uint32_t)((s->lock.last - s->lock.first + 1) / 2));
        keep(f, s);
    }
    if (now_ns - (path->quiet_from_ns > f->began_ns ? path->quiet_from_ns : f->began_ns) >= c->set.timing.dead_ns) {
        end(c, now_ns);
        session_silent(c, path, now_ns);
    }
}

static void read_both(aoe_core *c, struct sample *s, struct path *path, int64_t now_ns)
{
    struct path *both[2] = {path_numbered(c, c->proof.owner), path};
    pieces_close(c, &s->lock);
    link_append(&c->proof.flying, &s->where);
    c->proof.flying_count++;
    s->since_ns = now_ns;
    for (int i = 0; i < 2; i++)
        look_begin(c, &s->looks[i], both[i], s->lock.first, (uint32_t)(s->lock.last - s->lock.first), now_ns);
}

static struct sample *take_next(struct proof *f)
{
    struct sample *s = OWNER_OF(f->left.next, struct sample, where);
    link_remove(&s->where);
    f->left_count--;
    return s;
}

/* Read it, or as much as passes to both, or put it off; whether it was put off. */
static int attempt(aoe_core *c, struct sample *s, struct path *path, int64_t now_ns)
{
    struct proof *f = &c->proof;
    if (now_ns < s->again_ns) {
        keep(f, s);
        return 1;
    }
    cut(f, s, look_limit(path) < look_limit(c->owner) ? look_limit(path) : look_limit(c->owner));
    if (ranges_touched(&c->ranges, s->lock.first, s->lock.last))
        return later(c, s, ++s->held, now_ns);
    read_both(c, s, path, now_ns);
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
        put_off += (uint32_t)attempt(c, take_next(f), path_numbered(c, f->subject), now_ns);
    }
    if (f->subject && !f->left_count && !f->flying_count) {
        struct path *path = path_numbered(c, f->subject);
        f->subject = 0;
        session_sampled(c, path, now_ns);
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
    struct path *path = path_numbered(c, c->proof.subject);
    int over = ++s->differed == SAMPLE_TRIES;
    later(c, s, s->differed, now_ns);
    if (!over)
        return;
    end(c, now_ns);
    session_condemn(c, path, WHY_OTHER_DATA, lba, now_ns);
}

/* Both have answered, the second one just now, with these bytes. */
static void compare(aoe_core *c, struct sample *s, const uint8_t *data, int64_t now_ns)
{
    size_t bytes = (size_t)(s->lock.last - s->lock.first) * SECTOR;
    int read = s->data && data, equal = read && !memcmp(s->data, data, bytes);
    uint64_t lba = read && !equal ? s->lock.first + first_difference(s->data, data) : 0;
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

static void answered(aoe_core *c, struct look *l, const struct event *e, int64_t now_ns)
{
    struct sample *s = l->sample;
    const uint8_t *data = look_bytes(e);
    size_t bytes = (size_t)(s->lock.last - s->lock.first) * SECTOR;
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

/* The border to the proof */

void samples_init(struct proof *f)
{
    link_init(&f->left);
    link_init(&f->flying);
}

void samples_close(struct proof *f)
{
    while (!link_alone(&f->left))
        drop(OWNER_OF(f->left.next, struct sample, where));
    while (!link_alone(&f->flying))
        drop(OWNER_OF(f->flying.next, struct sample, where));
}

void samples_stand_still(struct proof *f, int64_t gap_ns)
{
    f->began_ns += gap_ns;
    for (struct link *l = f->flying.next; l != &f->flying; l = l->next)
        OWNER_OF(l, struct sample, where)->since_ns += gap_ns;
}

void samples_step(aoe_core *c, int64_t now_ns)
{
    struct proof *f = &c->proof;
    if (f->subject) {
        watch(c, now_ns);
        go_on(c, now_ns);
    }
    while (!f->subject && begin(c, now_ns))
        go_on(c, now_ns);
}

void samples_became(aoe_core *c, struct look *l, const struct event *e, int64_t now_ns)
{
    if (e->what != EFFECT_TOO_LARGE) {
        answered(c, l, e, now_ns);
        return;
    }
    take_back(c, l->sample, now_ns); /* not so much passes there any more */
    keep(&c->proof, l->sample);
}
