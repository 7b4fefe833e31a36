#include "background.h"

#include <assert.h>
#include <string.h>

#include "shared/wire.h"

static uint32_t place_of(const struct background *b, const uint8_t *mac)
{
    uint32_t at = 0;
    while (at < b->count && !same_mac(b->macs[at], mac))
        at++;
    return at;
}

static void take_out(struct background *b, uint32_t at)
{
    assert(at < b->count && b->count <= BACKGROUND_MAX);
    b->count--;
    memmove(b->macs[at], b->macs[at + 1], (b->count - at) * MAC_BYTES);
}

void background_says(struct background *b, const uint8_t *mac, int can_wait)
{
    uint32_t at = place_of(b, mac);
    if (at < b->count)
        take_out(b, at);
    if (!can_wait)
        return;
    if (b->count == BACKGROUND_MAX)
        take_out(b, 0);
    memcpy(b->macs[b->count++], mac, MAC_BYTES);
}

int background_knows(const struct background *b, const uint8_t *mac) { return place_of(b, mac) < b->count; }

void rest_ended(struct rest *r, struct rest **resting, uint64_t began_ns, uint64_t now_ns, int others_asked)
{
    uint64_t since_ns = began_ns > r->ended_ns ? began_ns : r->ended_ns;
    uint64_t rest_ns = BACKGROUND_REST * (now_ns - since_ns);
    uint64_t until_ns = now_ns + (rest_ns < BACKGROUND_REST_MAX_NS ? rest_ns : BACKGROUND_REST_MAX_NS);
    assert(now_ns >= since_ns);
    r->ended_ns = now_ns;
    if (!others_asked || !rest_ns || until_ns <= r->until_ns)
        return;
    if (!r->until_ns) {
        r->next = *resting;
        *resting = r;
    }
    r->until_ns = until_ns;
}

struct rest *rests_due(struct rest **at, uint64_t now_ns)
{
    while (*at && (*at)->until_ns > now_ns)
        at = &(*at)->next;
    struct rest *due = *at;
    if (due) {
        *at = due->next;
        due->until_ns = 0;
    }
    return due;
}

uint64_t rests_left_ns(const struct rest *r, uint64_t now_ns, uint64_t most_ns)
{
    uint64_t left_ns = most_ns;
    for (; r; r = r->next)
        if (r->until_ns < now_ns + left_ns)
            left_ns = r->until_ns > now_ns ? r->until_ns - now_ns : 0;
    return left_ns;
}
