/* What an initiator has under way, for the one that goes on where it dies; and what one before has left.
 * As aoe/initiator/debts.py. */
#include "debts.h"

#include <assert.h>

#include "channel.h"

static const uint8_t no_mac[MAC_BYTES];

/* The number of an entry, or of the end. */
static uint32_t find(const struct debts *d, const aoe_debt *like)
{
    for (uint32_t i = 0; i < d->own_count; i++) {
        const aoe_debt *it = &d->own[i];
        if (it->stream == like->stream && it->instance == like->instance && it->port == like->port &&
            it->shelf == like->shelf && it->slot == like->slot && same_mac(it->mac, like->mac) &&
            same_mac(it->own, like->own))
            return i;
    }
    return d->own_count;
}

static int64_t over_ns(const aoe_debt *debt) { return debt->until_ns + debt->quiesce_ns; }

static int64_t larger(int64_t one, int64_t other) { return one > other ? one : other; }

/* Whether it says enough of a change that is made now. */
static int covers(const aoe_debt *debt, const aoe_debt *now, uint32_t tag, int64_t now_ns)
{
    int leased = now_ns < debt->until_ns && ((debt->tag - tag) & TAG_MASK) <= DEBT_TAGS;
    return leased && now->epoch == debt->epoch && now->quiesce_ns <= debt->quiesce_ns;
}

static void take_out(struct debts *d, uint32_t at)
{
    d->own_count--;
    memmove(&d->own[at], &d->own[at + 1], (d->own_count - at) * sizeof *d->own);
}

/* Which is to be folded: one of a stream, if there is one. */
static uint32_t oldest_of(const struct debts *d)
{
    const aoe_debt rest = {0};
    for (uint32_t i = 0; i < d->own_count; i++)
        if (!same_mac(d->own[i].own, no_mac))
            return i;
    return find(d, &rest) == 0;
}

/* The oldest becomes one that is over by time: its server's; where all are, that of the rest. */
static void fold(struct debts *d)
{
    uint32_t first = oldest_of(d);
    aoe_debt oldest = d->own[first], into = {.until_ns = oldest.until_ns, .quiesce_ns = oldest.quiesce_ns};
    if (!same_mac(oldest.own, no_mac)) {
        memcpy(into.mac, oldest.mac, MAC_BYTES);
        into.shelf = oldest.shelf;
        into.slot = oldest.slot;
    }
    take_out(d, first);
    uint32_t at = find(d, &into);
    if (at < d->own_count) {
        into.until_ns = larger(into.until_ns, d->own[at].until_ns);
        into.quiesce_ns = larger(into.quiesce_ns, d->own[at].quiesce_ns);
    }
    d->own[at] = into;
    d->own_count += at == d->own_count;
}

static void make_room(struct debts *d, int64_t now_ns)
{
    for (uint32_t i = d->own_count; i--;)
        if (now_ns >= over_ns(&d->own[i]))
            take_out(d, i);
    while (d->own_count >= DEBTS_MAX - 2)
        fold(d);
}

void debts_note(struct debts *d, const aoe_timing *timing, const aoe_debt *debt, uint32_t tag, int64_t now_ns)
{
    uint32_t at = find(d, debt);
    int64_t quiesce_ns = debt->quiesce_ns;
    if (at < d->own_count && covers(&d->own[at], debt, tag, now_ns))
        return;
    if (at < d->own_count) {
        quiesce_ns = larger(quiesce_ns, d->own[at].quiesce_ns);
    } else {
        make_room(d, now_ns);
        at = d->own_count++;
    }
    assert(at < DEBTS_MAX);
    d->own[at] = *debt;
    d->own[at].tag = (tag + DEBT_TAGS) & TAG_MASK;
    d->own[at].until_ns = now_ns + timing->debt_ns;
    d->own[at].quiesce_ns = quiesce_ns;
    d->news++;
}

static int is_to(const aoe_debt *debt, const struct path *path)
{
    return debt->shelf == path->shelf && debt->slot == path->slot && same_mac(debt->mac, path->mac);
}

void debts_go_on(aoe_core *c, const struct path *path, int64_t now_ns)
{
    struct debts *d = &c->debts;
    for (uint32_t i = 0; i < d->own_count; i++) {
        if (d->own[i].port != path->port || !is_to(&d->own[i], path) || now_ns < d->own[i].until_ns)
            continue;
        d->own[i].until_ns = now_ns + c->set.timing.debt_ns;
        d->news++;
    }
}

void debts_sent(struct debts *d, int64_t since_ns, int64_t until_ns)
{
    for (uint32_t i = 0; i < d->own_count; i++)
        if (since_ns < d->own[i].until_ns && d->own[i].until_ns < until_ns) {
            d->own[i].until_ns = until_ns;
            d->news++;
        }
}

void debts_cache(struct debts *d, const struct path *path)
{
    aoe_debt *it = &d->cache;
    int same = it->cached && it->port == path->port && is_to(it, path) && same_mac(it->own, path->own) &&
               it->instance == path->instance;
    if (same)
        return;
    *it = (aoe_debt){.instance = path->instance, .port = path->port, .shelf = path->shelf, .slot = path->slot,
                     .cached = 1};
    memcpy(it->own, path->own, MAC_BYTES);
    memcpy(it->mac, path->mac, MAC_BYTES);
    d->news++;
}

void debts_flushed(struct debts *d)
{
    d->news += d->cache.cached;
    d->cache.cached = 0;
}

static int is_stream(const aoe_debt *debt, const struct path *path, uint16_t stream)
{
    return debt->stream == stream && is_to(debt, path) && same_mac(debt->own, path->own);
}

int debts_has(const struct debts *d, const struct path *path, uint16_t stream)
{
    for (uint32_t i = 0; i < d->left_count; i++)
        if (is_stream(&d->left[i].debt, path, stream))
            return 1;
    for (uint32_t i = 0; i < d->own_count; i++)
        if (is_stream(&d->own[i], path, stream))
            return 1;
    return 0;
}

uint32_t debts_all(const struct debts *d, aoe_debt *all)
{
    assert(d->left_count + d->own_count < DEBTS_MAX);
    for (uint32_t i = 0; i < d->left_count; i++)
        all[i] = d->left[i].debt;
    memcpy(all + d->left_count, d->own, d->own_count * sizeof *d->own);
    uint32_t count = d->left_count + d->own_count;
    const aoe_debt *cached = d->left_cache.cached ? &d->left_cache : &d->cache;
    if (cached->cached)
        all[count++] = *cached;
    return count;
}

/* What was left */

void debts_init(struct debts *d, const aoe_debt *left, uint32_t count, int64_t since_ns)
{
    assert(count <= DEBTS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        aoe_debt *debt = left[i].cached ? &d->left_cache : &d->left[d->left_count++].debt;
        *debt = left[i];
        if (since_ns < left[i].until_ns)
            debt->until_ns = since_ns;
    }
}

static void drop(struct debts *d, uint32_t at)
{
    d->left_count--;
    memmove(&d->left[at], &d->left[at + 1], (d->left_count - at) * sizeof *d->left);
    d->news++;
}

/* The FLUSH of the next epoch, with a tag before which all earlier ones are behind the target's window. */
static void question(aoe_core *c, struct left *l, int64_t now_ns)
{
    const struct body flush = {.ata = {.opcode = FLUSH_CACHE_EXT}, .head_length = sizeof flush.ata};
    const aoe_timing *timing = &c->set.timing;
    aoe_debt *debt = &l->debt;
    struct stamp stamp = {debt->stream, (uint8_t)(debt->epoch + 1), debt->instance};
    debt->tag = (debt->tag + (l->asked ? 1 : REPLAY_WINDOW)) & TAG_MASK;
    l->first = l->asked ? l->first : debt->tag;
    l->asked = 1;
    l->wait_ns = l->wait_ns ? 2 * l->wait_ns : timing->rto_first_ns;
    l->wait_ns = l->wait_ns < timing->rto_max_ns ? l->wait_ns : timing->rto_max_ns;
    l->again_ns = now_ns + l->wait_ns;
    aoe_out *out = send_frame(c, debt->port, debt->mac, debt->own, debt->shelf, debt->slot, COMMAND_ATA,
                              USER_TAG | debt->tag, &flush);
    stamp_registers(&wire_at(out->head)->ata, &stamp);
    stamp_trailer(out->head + ATA_HEADER, &stamp);
}

void debts_tick(aoe_core *c, int64_t now_ns)
{
    struct debts *d = &c->debts;
    for (uint32_t i = d->left_count; i-- && !c->set.hold;)
        if (now_ns >= over_ns(&d->left[i].debt))
            drop(d, i);
    for (uint32_t i = 0; i < d->left_count; i++) {
        struct left *l = &d->left[i];
        const aoe_core_port *port = &c->ports[l->debt.port];
        if (!port->up || !same_mac(port->mac, l->debt.own) || !l->debt.stream || now_ns < l->again_ns)
            continue;
        d->news++;
        question(c, l, now_ns);
    }
}

static int is_answered(const struct left *l, uint32_t port, const uint8_t *raw, uint32_t length)
{
    const aoe_debt *debt = &l->debt;
    uint32_t tag = wire_tag(raw);
    if (!l->asked || port != debt->port || wire_of(raw)->command != COMMAND_ATA || length < ATA_HEADER)
        return 0;
    int asked = tag & USER_TAG && ((tag - l->first) & TAG_MASK) <= ((debt->tag - l->first) & TAG_MASK);
    int known = same_mac(wire_of(raw)->src, debt->mac) && wire_address(raw) == ((uint32_t)debt->shelf << 8 | debt->slot);
    return asked && known && !wire_is_error(raw) && !wire_failed(raw);
}

int debts_received(aoe_core *c, uint32_t port, const uint8_t *raw, uint32_t length)
{
    int answered = 0;
    for (uint32_t i = c->debts.left_count; i--;)
        if (is_answered(&c->debts.left[i], port, raw, length)) {
            drop(&c->debts, i);
            answered = 1;
        }
    return answered;
}

void debts_learned(aoe_core *c, const struct path *path)
{
    for (uint32_t i = c->debts.left_count; i-- && path->alone;) {
        const aoe_debt *debt = &c->debts.left[i].debt;
        if (is_to(debt, path) && debt->stream && debt->instance != path->instance)
            drop(&c->debts, i);
    }
}

void debts_over(struct debts *d, const uint8_t *mac, uint32_t address)
{
    for (uint32_t i = d->left_count; i--;) {
        const aoe_debt *debt = &d->left[i].debt;
        if (!mac || (same_mac(debt->mac, mac) && ((uint32_t)debt->shelf << 8 | debt->slot) == address))
            drop(d, i);
    }
}
