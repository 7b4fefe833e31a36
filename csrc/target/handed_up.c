#include "handed_up.h"

#include <string.h>

/* Half of what is left for those of one export: no export fills it for the others. */
static size_t up_room(const aoe_engine *e, const struct export *x)
{
    size_t left = UP_BYTES - e->up_used;
    if (!x)
        return left;
    return left / 2 > x->up_used ? left / 2 - x->up_used : 0;
}

int hand_up(struct thread *t, const aoe_up *up, const uint8_t *frame)
{
    aoe_engine *e = t->engine;
    size_t need = sizeof *up + up->length;
    pthread_mutex_lock(&e->up_lock);
    struct export *x = up->export_index == NO_EXPORT ? NULL : &e->exports[up->export_index];
    int fits = need <= up_room(e, x);
    if (fits) {
        if (x)
            x->up_used += need;
        const uint8_t *parts[2] = {(const uint8_t *)up, frame};
        size_t lengths[2] = {sizeof *up, up->length};
        size_t at = (e->up_head + e->up_used) % UP_BYTES;
        for (int i = 0; i < 2; i++) {
            size_t first = lengths[i] < UP_BYTES - at ? lengths[i] : UP_BYTES - at;
            memcpy(e->up + at, parts[i], first);
            memcpy(e->up, parts[i] + first, lengths[i] - first);
            at = (at + lengths[i]) % UP_BYTES;
        }
        e->up_used += need;
        assert(e->up_used <= UP_BYTES);
    }
    pthread_mutex_unlock(&e->up_lock);
    count(t, fits ? AOE_ENGINE_HANDED_UP : AOE_QUEUE_FULL);
    if (!fits && x)
        work_add(&x->work, AOE_EXPORT_QUEUE_FULL, 1);
    t->up_news |= fits;
    return fits;
}

static void up_read(aoe_engine *e, void *to, size_t length)
{
    size_t first = length < UP_BYTES - e->up_head ? length : UP_BYTES - e->up_head;
    memcpy(to, e->up + e->up_head, first);
    memcpy((uint8_t *)to + first, e->up, length - first);
    assert(length <= e->up_used);
    e->up_head = (e->up_head + length) % UP_BYTES;
    e->up_used -= length;
}

int aoe_engine_take(aoe_engine *e, aoe_up *up, uint8_t *frame, uint32_t room)
{
    pthread_mutex_lock(&e->up_lock);
    int there = e->up_used != 0;
    if (there) {
        up_read(e, up, sizeof *up);
        assert(up->length <= room); /* the caller made room for frame_max */
        up_read(e, frame, up->length);
        assert(up->export_index == NO_EXPORT || e->exports[up->export_index].up_used >= sizeof *up + up->length);
        if (up->export_index != NO_EXPORT)
            e->exports[up->export_index].up_used -= sizeof *up + up->length;
    }
    pthread_mutex_unlock(&e->up_lock);
    return there;
}
