/* What IDENTIFY says of a way: whether it leads to the disk, and may be used. As aoe/initiator/verdict.py. */
#include <string.h>

#include "session.h"

/* IDENTIFY says nothing against it. */
static void fits(aoe_core *c, struct way *w)
{
    if (w->trial.condemned == WHY_OTHER_DATA)
        board_note(c, w, HAPPENS_DIFFERENT, w->trial.condemned);
    else if (w->trial.condemned)
        board_note(c, w, HAPPENS_UNSEEN, w->trial.condemned);
    else
        board_note(c, w, trial_is_unsure(c, w) ? HAPPENS_UNSURE : HAPPENS_FIT, WHY_NONE);
}

static int same_server(const struct way *one, const struct way *other)
{
    return !memcmp(one->mac, other->mac, 6) && one->shelf == other->shelf && one->slot == other->slot;
}

/* Whether another server is in use while either has a volatile cache. Two processes may share a MAC, and one serves a
 * disk at one address. */
static int has_volatile_company(const aoe_core *c, const struct way *w)
{
    for (uint32_t i = 0; i < c->ways_count; i++) {
        const struct way *other = c->ways[i];
        if (other->state == WAY_USABLE && !same_server(other, w) && (w->volatile_cache || other->volatile_cache))
            return 1;
    }
    return 0;
}

/* Whether a TRIM there leaves anything, where the disk was said to leave zeroes. What a server cannot do at all it
 * refuses, and it does not count as done. */
static int breaks_promise(const aoe_core *c, const uint8_t *identity)
{
    return c->has_facts && c->chosen && zeroes_of(c->facts) && trim_blocks_of(identity) && !zeroes_of(identity);
}

/* Whether it is known what the disk is; before the choice only while another way that is usable says so, or a
 * server that answered first and was gone would keep the others out. */
static int is_fixed(const aoe_core *c, const struct way *w)
{
    int others = 0;
    for (uint32_t i = 0; i < c->ways_count; i++)
        others |= c->ways[i] != w && c->ways[i]->state == WAY_USABLE;
    return c->has_facts && (c->chosen || others);
}

/* Why a way does not lead to the disk, or cannot be used beside the others. */
static int mismatch(const aoe_core *c, const struct way *w, const uint8_t *identity)
{
    int fixed = is_fixed(c, w), believed = !c->owner || c->owner == w;
    uint64_t sectors = sectors_of(identity);
    if (fixed && !facts_same_serial(identity, c->facts))
        return WHY_OTHER_DISK;
    if (trial_has_other_store(c, w))
        return WHY_OTHER_STORE;
    if (has_volatile_company(c, w))
        return WHY_VOLATILE;
    if (fixed && sectors != c->sectors && !(believed && sectors > c->sectors))
        return WHY_OTHER_SIZE; /* while a disk grows, its servers notice at different times */
    return breaks_promise(c, identity) ? WHY_NO_ZEROES : WHY_NONE;
}

/* The disk is what a way says that it is, less what was not promised before. */
static void believe(aoe_core *c, const struct way *w, const uint8_t *identity)
{
    uint8_t before[SECTOR];
    int fixed = is_fixed(c, w), anew = !fixed || sectors_of(identity) != c->sectors;
    memcpy(before, c->facts, sizeof before);
    if (anew)
        memcpy(c->facts, identity, SECTOR);
    if (fixed)
        facts_lessen(c->facts, anew ? before : identity);
    c->sectors = sectors_of(c->facts);
    c->news += !c->has_facts || memcmp(before, c->facts, sizeof before);
    c->has_facts = 1;
}

/* What a way says of its server; whether that has begun another life. */
static int learn(aoe_core *c, struct way *w, const uint8_t *identity)
{
    const struct vendor *vendor = vendor_of(identity);
    int ours = !memcmp(vendor->signature, VENDOR_SIGNATURE, sizeof vendor->signature) &&
               wire_little(vendor->layout, sizeof vendor->layout) == VENDOR_LAYOUT;
    uint64_t instance = ours ? wire_little(vendor->instance, sizeof vendor->instance) : 0;
    int known = w->identified, born = !known || w->ours != ours || w->instance != instance;
    if (known && born) {
        w->generation++;
        c->losses += c->unflushed == w;
    }
    w->identified = 1;
    w->ours = ours;
    w->instance = instance;
    w->store_kind = ours ? (uint32_t)wire_little(vendor->store_kind, sizeof vendor->store_kind) : 0;
    memcpy(w->store, vendor->store, sizeof w->store);
    w->volatile_cache = (word_of(identity, 85) & VOLATILE_CACHE) != 0;
    if (born)
        trial_meet(c, w);
    return born;
}

/* It may be the disk, and can be used. */
static void fitted(aoe_core *c, struct way *w, const uint8_t *identity, struct stamp claim, int64_t now_ns)
{
    const struct vendor *vendor = vendor_of(identity);
    int64_t told_ns = (int64_t)wire_little(vendor->age_ms, sizeof vendor->age_ms) * 1000000;
    struct body sector = board_reading(1);
    int heeds = w->ours && wire_little(vendor->features, sizeof vendor->features) & VENDOR_STREAMS;
    believe(c, w, identity);
    w->lanes[LANE_CHANGES].quiesce_ns = board_quiesce_ns(c, w->ours ? told_ns : c->set.timing.foreign_age_ns);
    w->drains = w->ours;
    if (!looks_registered(c, w, heeds, claim, now_ns))
        return;
    if (w->slow)
        looks_check(c, w, &sector, now_ns);
    else
        fits(c, w);
}

int verdict_identified(aoe_core *c, struct way *w, const uint8_t *raw, struct stamp claim, int64_t now_ns)
{
    const uint8_t *identity = raw + ATA_HEADER;
    int why = facts_unfit(identity);
    if (why) {
        board_note(c, w, HAPPENS_ANOTHER, why);
        return 0;
    }
    int born = learn(c, w, identity);
    why = mismatch(c, w, identity);
    if (why == WHY_OTHER_DISK || why == WHY_OTHER_STORE || why == WHY_VOLATILE) {
        board_note(c, w, HAPPENS_ANOTHER, why);
        return 0;
    }
    if (why)
        board_note(c, w, HAPPENS_UNFIT, why);
    else if (born && w == c->owner && trial_is_replaced(c, w))
        board_note(c, w, HAPPENS_REPLACED, WHY_NONE);
    else
        fitted(c, w, identity, claim, now_ns);
    return 1;
}

void verdict_checked(aoe_core *c, struct way *w, const struct effect *answer, int64_t now_ns)
{
    w->check = NULL;
    if (answer->exchange->body->ata.opcode != IDENTIFY_DEVICE) {
        w->slow = 0;
        fits(c, w);
    } else if (!answer->good) {
        board_note(c, w, HAPPENS_UNFIT, WHY_IDENTIFY_FAILS);
    } else {
        verdict_identified(c, w, answer->raw, w->claim, now_ns);
    }
}
