/* What IDENTIFY says of a path: whether it leads to the disk, and may be used. As aoe/initiator/verdict.py. */
#include <string.h>

#include "session.h"

/* IDENTIFY says nothing against it. */
static void fits(aoe_core *c, struct path *path)
{
    if (path->trial.condemned == WHY_OTHER_DATA)
        board_note(c, path, HAPPENS_DIFFERENT, path->trial.condemned);
    else if (path->trial.condemned)
        board_note(c, path, HAPPENS_UNSEEN, path->trial.condemned);
    else
        board_note(c, path, trial_is_unsure(c, path) ? HAPPENS_UNSURE : HAPPENS_FIT, WHY_NONE);
}

static int same_server(const struct path *one, const struct path *other)
{
    return !memcmp(one->mac, other->mac, 6) && one->shelf == other->shelf && one->slot == other->slot;
}

/* Whether another server is in use while either has a volatile cache. Two processes may share a MAC, and one serves a
 * disk at one address. */
static int has_volatile_company(const aoe_core *c, const struct path *path)
{
    for (uint32_t i = 0; i < c->paths_count; i++) {
        const struct path *other = c->paths[i];
        int beside = trial_is_company(c, path, other) && !same_server(other, path);
        if (beside && (path->volatile_cache || other->volatile_cache))
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

/* Whether it is known what the disk is; before the choice only while another path that is usable says so, or a
 * server that answered first and was gone would keep the others out. */
static int is_fixed(const aoe_core *c, const struct path *path)
{
    int others = 0;
    for (uint32_t i = 0; i < c->paths_count; i++)
        others |= c->paths[i] != path && c->paths[i]->state == PATH_USABLE;
    return c->has_facts && (c->chosen || others);
}

/* Why a path does not lead to the disk, or cannot be used beside the others. */
static int mismatch(const aoe_core *c, const struct path *path, const uint8_t *identity)
{
    int fixed = is_fixed(c, path), believed = !c->owner || c->owner == path;
    uint64_t sectors = sectors_of(identity);
    if (fixed && !facts_same_serial(identity, c->facts))
        return WHY_OTHER_DISK;
    if (trial_has_other_store(c, path))
        return WHY_OTHER_STORE;
    if (has_volatile_company(c, path))
        return WHY_VOLATILE;
    if (fixed && sectors != c->sectors && !(believed && sectors > c->sectors))
        return WHY_OTHER_SIZE; /* while a disk grows, its servers notice at different times */
    return breaks_promise(c, identity) ? WHY_NO_ZEROES : WHY_NONE;
}

/* The disk is what a path says that it is, less what was not promised before. */
static void believe(aoe_core *c, const struct path *path, const uint8_t *identity)
{
    uint8_t before[SECTOR];
    int fixed = is_fixed(c, path), anew = !fixed || sectors_of(identity) != c->sectors;
    memcpy(before, c->facts, sizeof before);
    if (anew)
        memcpy(c->facts, identity, SECTOR);
    if (fixed)
        facts_lessen(c->facts, anew ? before : identity);
    c->sectors = sectors_of(c->facts);
    c->news += !c->has_facts || memcmp(before, c->facts, sizeof before);
    c->has_facts = 1;
}

/* What a path says of its server; whether that has begun another life. */
static int learn(aoe_core *c, struct path *path, const uint8_t *identity, int64_t now_ns)
{
    const struct vendor *vendor = vendor_of(identity);
    int ours = !memcmp(vendor->signature, VENDOR_SIGNATURE, sizeof vendor->signature) &&
               wire_little(vendor->layout, sizeof vendor->layout) == VENDOR_LAYOUT;
    uint64_t instance = ours ? wire_little(vendor->instance, sizeof vendor->instance) : 0;
    int known = path->identified, born = !known || path->ours != ours || path->instance != instance;
    if (known && born) {
        path->generation++;
        path->reborn = 1;
        path->register_after_ns = now_ns;
        c->losses += c->unflushed == path;
    }
    path->identified = 1;
    int draining = ours && wire_little(vendor->features, sizeof vendor->features) & VENDOR_DRAINS;
    if (path->draining && !draining && path->usable_ns)
        path->usable_ns = now_ns; /* until then it was not to be gone back to */
    path->draining = draining;
    path->ours = ours;
    path->instance = instance;
    path->alone = ours && wire_little(vendor->features, sizeof vendor->features) & VENDOR_ALONE;
    path->store_kind = ours ? (uint32_t)wire_little(vendor->store_kind, sizeof vendor->store_kind) : 0;
    memcpy(path->store, vendor->store, sizeof path->store);
    debts_learned(c, path);
    path->volatile_cache = (word_of(identity, 85) & VOLATILE_CACHE) != 0;
    if (born)
        trial_meet(c, path);
    return born;
}

/* It may be the disk, and can be used. */
static void fitted(aoe_core *c, struct path *path, const uint8_t *identity, struct stamp registering, int64_t now_ns)
{
    const struct vendor *vendor = vendor_of(identity);
    int64_t told_ns = (int64_t)wire_little(vendor->age_ms, sizeof vendor->age_ms) * 1000000;
    struct body sector = board_reading(1);
    uint64_t features = path->ours ? wire_little(vendor->features, sizeof vendor->features) : 0;
    believe(c, path, identity);
    path->age_ns = path->ours ? told_ns : c->set.timing.foreign_age_ns;
    path->lanes[LANE_CHANGES].quiesce_ns = board_quiesce_ns(c, path->age_ns);
    path->bound_ns = board_bound_ns(c, path->age_ns);
    path->drains = path->ours;
    path->trims = (features & VENDOR_TRIMS) != 0;
    if (!looks_registered(c, path, features, registering, now_ns))
        return;
    if (path->slow)
        looks_check(c, path, &sector, now_ns);
    else
        fits(c, path);
}

int verdict_identified(aoe_core *c, struct path *path, const uint8_t *raw, struct stamp registering, int64_t now_ns)
{
    const uint8_t *identity = raw + ATA_HEADER;
    int why = facts_unfit(identity);
    if (why) {
        board_note(c, path, HAPPENS_ANOTHER, why);
        return 0;
    }
    int born = learn(c, path, identity, now_ns);
    why = mismatch(c, path, identity);
    if (why == WHY_OTHER_DISK || why == WHY_OTHER_STORE || why == WHY_VOLATILE) {
        board_note(c, path, HAPPENS_ANOTHER, why);
        return 0;
    }
    if (why)
        board_note(c, path, HAPPENS_UNFIT, why);
    else if (born && path == c->owner && trial_is_replaced(c, path))
        board_note(c, path, HAPPENS_REPLACED, WHY_NONE);
    else
        fitted(c, path, identity, registering, now_ns);
    return 1;
}

void verdict_checked(aoe_core *c, struct path *path, const struct effect *answer, int64_t now_ns)
{
    path->check = NULL;
    if (answer->exchange->body->ata.opcode != IDENTIFY_DEVICE) {
        path->slow = 0;
        fits(c, path);
    } else if (!answer->good) {
        board_note(c, path, HAPPENS_UNFIT, WHY_IDENTIFY_FAILS);
    } else {
        verdict_identified(c, path, answer->raw, path->registering, now_ns);
    }
}
