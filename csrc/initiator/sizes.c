/* How large frames may be on one path: no more than its ends take, and no more than was seen to pass between. */
#include "sizes.h"

#include <assert.h>
#include <string.h>

_Static_assert(SIZE_PROBES_MAX >= SIZE_LOSSES * (DIRECTIONS + 1), "a search remembers what it judges by");
static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static int searches(const struct sizes *s) { return s->tried[THERE] || s->tried[BACK]; }

/* 0 if that is known to pass. */
static uint32_t candidate(const struct sizes *s, int direction, uint32_t sectors)
{
    return sectors > s->passed[direction] ? sectors : 0;
}

/* From 8 up a multiple of 8, so that pieces stay aligned to 4 KiB. */
static uint32_t half_of(uint32_t sectors) { return sectors / 2 >= 8 ? sectors / 2 & ~7u : sectors / 2; }

void sizes_init(struct sizes *s, const aoe_timing *timing)
{
    *s = (struct sizes){.timing = timing, .passed = {SECTORS_SURE, SECTORS_SURE}, .wait_ns = timing->size_wait_ns, .settled = 1};
}

uint32_t sizes_limit(const struct sizes *s, int direction) { return least(s->most, s->passed[direction]); }

struct sizes_shown sizes_shown(const struct sizes *s)
{
    static const int found[] = {NARROW_NOT, NARROW_THERE, NARROW_BACK, NARROW_BOTH};
    int narrow = found[(s->passed[THERE] < s->most) + 2 * (s->passed[BACK] < s->most)];
    if (narrow != NARROW_NOT && !s->settled)
        narrow = NARROW_TRIED;
    return (struct sizes_shown){sizes_limit(s, THERE), sizes_limit(s, BACK), narrow};
}

static void search(struct sizes *s, int64_t now_ns)
{
    memset(s->sent, 0, sizeof s->sent);
    s->turn = 0;
    s->wait_ns = s->timing->size_wait_ns;
    s->due_ns = now_ns;
    s->again_ns = now_ns + s->timing->size_again_ns;
}

/* Try what the ends take where less is known to pass. */
static void begin(struct sizes *s, int64_t now_ns)
{
    search(s, now_ns);
    s->lba = 0;
    for (int direction = 0; direction < DIRECTIONS; direction++) {
        s->tried[direction] = candidate(s, direction, s->most);
        s->losses[direction] = 0;
        s->doubted[direction] = 0;
    }
}

/* The ends take so much now. */
void sizes_fit(struct sizes *s, uint32_t most, int64_t now_ns)
{
    int rose = most > s->most;
    s->most = most;
    for (int direction = 0; direction < DIRECTIONS; direction++) {
        uint32_t passed = least(s->passed[direction], most);
        s->passed[direction] = passed > SECTORS_SURE ? passed : SECTORS_SURE;
        if (s->tried[direction] > most) {
            s->tried[direction] = candidate(s, direction, most);
            s->losses[direction] = 0;
            search(s, now_ns);
        }
    }
    if (rose) {
        s->settled = 0;
        begin(s, now_ns);
    }
}

/* The path is there anew: it may lead over other switches. */
void sizes_restart(struct sizes *s, int64_t now_ns)
{
    s->passed[THERE] = s->passed[BACK] = SECTORS_SURE;
    s->settled = 0;
    begin(s, now_ns);
}

/* Whether it is time to look if more passes after all, up to what our end takes. */
int sizes_again(struct sizes *s, uint32_t wanted, int64_t now_ns)
{
    if (searches(s) || now_ns < s->again_ns || least(s->passed[THERE], s->passed[BACK]) >= wanted)
        return 0;
    begin(s, now_ns);
    return 1;
}

/* What reads or writes there was lost three times, and nothing as large was answered since. */
void sizes_doubt(struct sizes *s, int direction, uint64_t lba, int64_t now_ns)
{
    if (s->tried[direction] || sizes_limit(s, direction) <= SECTORS_SURE)
        return;
    if (!searches(s))
        search(s, now_ns);
    s->tried[direction] = sizes_limit(s, direction);
    s->losses[direction] = 0;
    s->doubted[direction] = 1;
    s->lba = lba;
}

/* A turn is over. What was not answered, though a small one was, counts as lost. */
static void judge(struct sizes *s)
{
    if (!s->heard) {
        s->wait_ns = 2 * s->wait_ns < s->timing->size_wait_max_ns ? 2 * s->wait_ns : s->timing->size_wait_max_ns;
        return;
    }
    for (int direction = 0; direction < DIRECTIONS; direction++) {
        if (!s->tried[direction])
            continue;
        assert(s->tried[direction] <= s->most && s->losses[direction] < SIZE_LOSSES);
        assert(s->doubted[direction] || s->tried[direction] > s->passed[direction]);
        if (s->doubted[direction]) {
            s->passed[direction] = SECTORS_SURE;
            s->doubted[direction] = s->settled = 0;
        }
        if (++s->losses[direction] == SIZE_LOSSES) {
            s->losses[direction] = 0;
            s->tried[direction] = candidate(s, direction, half_of(s->tried[direction]));
        }
    }
}

/* We did not run for so long: what was asked may have been answered. */
void sizes_stand_still(struct sizes *s, int64_t gap_ns) { s->due_ns += gap_ns; }

uint32_t sizes_turn(struct sizes *s, struct size_probe *probes, int64_t now_ns)
{
    uint32_t count = 0;
    if (!searches(s) || now_ns < s->due_ns)
        return 0;
    if (s->turn)
        judge(s);
    if (!searches(s)) {
        s->settled = 1;
        return 0;
    }
    s->turn++;
    s->heard = 0;
    s->due_ns = now_ns + s->wait_ns;
    for (int direction = 0; direction < DIRECTIONS; direction++)
        if (s->tried[direction])
            probes[count++] = (struct size_probe){.direction = direction, .sectors = s->tried[direction],
                                                  .turn = s->turn};
    assert(count && count <= DIRECTIONS);
    probes[count++] = (struct size_probe){.direction = SMALL, .sectors = 1, .turn = s->turn};
    return count;
}

/* The oldest makes room. */
void sizes_sent(struct sizes *s, struct size_probe probe)
{
    memmove(s->sent, s->sent + 1, sizeof s->sent - sizeof *s->sent);
    s->sent[SIZE_PROBES_MAX - 1] = probe;
}

struct size_probe *sizes_asked(struct sizes *s, uint32_t tag)
{
    for (uint32_t i = 0; i < SIZE_PROBES_MAX; i++)
        if (s->sent[i].tag == tag && tag)
            return &s->sent[i];
    return NULL;
}

/* The reply to a probe came. */
void sizes_answered(struct sizes *s, struct size_probe *probe)
{
    int direction = probe->direction;
    assert(probe->tag && direction <= SMALL);
    uint32_t passed = least(probe->sectors, s->most);
    probe->tag = 0;
    if (direction == SMALL) {
        s->heard |= probe->turn == s->turn;
        return;
    }
    s->passed[direction] = passed > s->passed[direction] ? passed : s->passed[direction];
    assert(s->passed[direction] >= SECTORS_SURE);
    if (s->passed[direction] >= s->tried[direction])
        s->tried[direction] = 0, s->doubted[direction] = 0;
    if (!searches(s))
        s->settled = 1;
}
