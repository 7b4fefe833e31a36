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
