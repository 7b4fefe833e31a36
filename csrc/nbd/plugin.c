/* An nbdkit plugin: the disk behind AoE addresses, for clients that speak NBD. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "heir.h"
#include "link.h"
#include "notices.h"
#include "shared.h"
#include "shared/wire.h"
#include "words.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum {
    PORTS_MAX = 16,
    ADDRESSES_MAX = 32,
    CHUNK = 1 << 20, /* bytes asked for at a time: with the smallest frames, 32 threads just fit the core */
    BLOCK = 4096,
    LARGEST = 32 << 20,
};

static struct {
    uint32_t address[ADDRESSES_MAX];
    aoe_remote_port port[PORTS_MAX];
    char *port_name[PORTS_MAX];
    struct options how;
    struct shared_settings set;
    char name[64];
    aoe_disk is; /* as it was when it was found */
    struct shared *disk;
} door = {.how = OPTIONS_DEFAULT};

/* Configuration */

static int add_address(const char *text)
{
    unsigned shelf, slot;
    int used = 0;
    const char *number = text + (*text == 'e');
    uint32_t *count = &door.set.core.addresses;
    if (sscanf(number, "%5u.%3u%n", &shelf, &slot, &used) != 2 || number[used] || shelf > SHELF_MAX || slot > SLOT_MAX) {
        nbdkit_error("'%s' is not an address; write it as e0.0", text);
        return -1;
    }
    if (*count == ADDRESSES_MAX) {
        nbdkit_error("more than %d addresses", ADDRESSES_MAX);
        return -1;
    }
    size_t used_name = strlen(door.name);
    snprintf(door.name + used_name, sizeof door.name - used_name, "%se%u.%u", *count ? "/" : "", shelf, slot);
    door.address[(*count)++] = shelf << 8 | slot;
    return 0;
}

static int add_port(const char *key, const char *text)
{
    uint32_t *count = &door.set.core.ports;
    if (*count == PORTS_MAX) {
        nbdkit_error("more than %d interfaces", PORTS_MAX);
        return -1;
    }
    char *name = words_copy(key, text);
    if (!name)
        return -1;
    uint32_t i = (*count)++;
    door.port_name[i] = name;
    door.port[i] = (aoe_remote_port){.interface = door.port_name[i], .socket = -1};
    if (!strcmp(key, "interface"))
        return 0;
    const char *wrong = link_open(&door.port[i], text);
    if (wrong)
        nbdkit_error("link %s: %s", text, wrong);
    return wrong ? -1 : 0;
}

static int announce_on(const char *text)
{
    int announce;
    if (nbdkit_parse_int("announce", text, &announce))
        return -1;
    notices_to(announce);
    return 0;
}

static int supervised_by(const char *text)
{
    int fd;
    if (nbdkit_parse_int("supervised", text, &fd))
        return -1;
    const char *wrong = heir_open(fd);
    notices_all();
    if (wrong)
        nbdkit_error("what the supervisor holds cannot be used: %s", wrong);
    return wrong ? -1 : 0;
}

static int door_config(const char *key, const char *value)
{
    if (!strcmp(key, "address"))
        return add_address(value);
    if (!strcmp(key, "interface") || !strcmp(key, "link"))
        return add_port(key, value);
    if (!strcmp(key, "announce"))
        return announce_on(value);
    if (!strcmp(key, "supervised"))
        return supervised_by(value);
    return words_set(&door.how, key, value);
}

static int door_config_complete(void)
{
    if (door.set.core.addresses && door.set.core.ports)
        return 0;
    nbdkit_error("address=eSHELF.SLOT and interface=NAME are needed");
    return -1;
}

/* Life */

/* When nbdkit is to end, it waits for the requests under way. There is nothing else that tells of it. */
static int ending(void) { return nbdkit_nanosleep(0, 1) < 0; }

static int64_t door_get_size(void *handle);

/* What the options mean for the core and for those that ask it. */
static void apply(struct options *how, struct shared_settings *set)
{
    set->core.spread = how->spread;
    set->core.hold = how->hold;
    set->core.require = how->verify == VERIFY_REQUIRE;
    set->core.background = how->background;
    set->core.failback_ns = how->failback_ns;
    set->core.timing = (aoe_timing)AOE_TIMING;
    set->timeout_ns = how->timeout_ns;
    set->fence = how->fence[0] ? how->fence : NULL;
}

static void report(void)
{
    notices_report();
    if (heir_is_one())
        heir_report(door.disk);
}

/* The disk is found; a supervised door finds what the last one had. */
static int find(void)
{
    const char *wrong = NULL;
    if (heir_is_one())
        heir_settle(door.disk);
    if (!shared_find(door.disk, door.how.find_ns)) {
        notices_why_not();
        return -1;
    }
    shared_disk(door.disk, &door.is);
    if (heir_is_one())
        wrong = heir_meet(door.disk);
    if (wrong)
        nbdkit_error("%s: %s", door.name, wrong);
    return wrong ? -1 : 0;
}

static int door_get_ready(void)
{
    struct shared_settings *set = &door.set;
    apply(&door.how, set);
    if (door.how.hold)
        notices_hold();
    set->core.address = door.address;
    set->ports = door.port;
    set->tell = notices_state;
    set->tell_unheeded = notices_unheeded;
    set->tell_left = notices_left;
    set->all_is_over = heir_is_over;
    set->report = report;
    set->tell_size = notices_size;
    set->ending = ending;
    set->idle = notices_hang_up;
    if (getrandom(&set->core.first_tag, sizeof set->core.first_tag, 0) < 0)
        set->core.first_tag = (uint32_t)aoe_remote_now();
    notices_of(door.name, door.port_name, set->core.ports, NULL);
    if (heir_is_one())
        heir_take_over(set, door.address);
    int bad = shared_open(&door.disk, set);
    if (bad) {
        nbdkit_error("the interfaces cannot be used: %s%s", strerror(-bad),
                     bad == -EPERM ? "; it takes CAP_NET_RAW" : "");
        return -1;
    }
    notices_of(door.name, door.port_name, set->core.ports, door.disk);
    return find();
}

/* Clients may connect by now. nbdkit has taken standard output away. */
static int door_after_fork(void)
{
    notices_found(door_get_size(NULL));
    int bad = shared_start(door.disk);
    if (bad)
        nbdkit_error("no thread can be started: %s", strerror(-bad));
    return bad ? -1 : 0;
}

static void door_cleanup(void)
{
    if (door.disk)
        shared_stop(door.disk);
}

static void door_unload(void)
{
    if (door.disk)
        shared_close(door.disk);
    for (uint32_t i = 0; i < door.set.core.ports; i++) {
        link_close(&door.port[i]);
        free(door.port_name[i]);
    }
    words_free(&door.how);
}

static void door_dump_plugin(void)
{
    printf("aoe_largest_request=%d\n", LARGEST);
}

/* What the disk is */

/* A client that connects learns the size as it is now, unless no server is there to say it. */
static void *door_open(int readonly)
{
    (void)readonly;
    shared_ask(door.disk, AOE_VERB_IDENTIFY, 0, 0, NULL, door.how.find_ns);
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t door_get_size(void *handle)
{
    aoe_disk now;
    (void)handle;
    shared_disk(door.disk, &now);
    return (int64_t)now.size;
}

static int door_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    (void)handle;
    *minimum = 1;
    *preferred = door.is.physical_block > BLOCK ? door.is.physical_block : BLOCK;
    *maximum = LARGEST;
    return 0;
}

static int yes(void *handle)
{
    (void)handle;
    return 1;
}

static int door_can_trim(void *handle)
{
    (void)handle;
    return (int)door.is.trims;
}

static int door_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

/* Requests */

static const char *verb_of(uint32_t verb)
{
    static const char *const names[] = {"read", "write", "write", "flush", "trim", "identify"};
    return names[verb];
}

/* IDENTIFY does not tell whether a disk can be written; some servers are not ours. */
static const char REFUSED[] = ": the disk is read-only at its server; use it without writing (a root disk with overlay=tmpfs), or "
                              "serve it to be written";

static int is_refused(uint32_t verb, const struct answer *a)
{
    return (verb == AOE_VERB_WRITE || verb == AOE_VERB_WRITE_FUA) && a->error & ABRT;
}

static int fail(uint32_t verb, uint64_t offset, const struct answer *a)
{
    const char *what = verb_of(verb), *disk = door.name;
    unsigned long long at = offset;
    int code = EIO;
    switch (a->outcome) {
    case AOE_ENDED_ATA_ERROR:
        at = a->lba * SECTOR;
        nbdkit_error("%s: %s failed at byte %llu: status %#x, error %#x%s", disk, what, at, a->status, a->error,
                     is_refused(verb, a) ? REFUSED : "");
        break;
    case AOE_ENDED_AOE_ERROR:
        code = a->error == ERROR_RESERVED ? EPERM : EIO;
        nbdkit_error("%s: %s refused: AoE error %u", disk, what, a->error);
        break;
    case AOE_ENDED_CACHE_LOST:
        nbdkit_error("%s: a server lost its cache with data that was not flushed", disk);
        break;
    case AOE_ENDED_OUT_OF_RANGE:
        code = EINVAL;
        nbdkit_error("%s: %s at byte %llu is outside the disk", disk, what, at);
        break;
    case AOE_ENDED_NO_MEMORY:
        code = ENOMEM;
        nbdkit_error("%s: %s at byte %llu: no memory", disk, what, at);
        break;
    case AOE_ENDED_UNSUPPORTED:
        code = EOPNOTSUPP;
        break;
    case ASK_CLOSED:
        code = ESHUTDOWN;
        nbdkit_error("%s: %s at byte %llu was given up at the end", disk, what, at);
        break;
    default:
        nbdkit_error("%s does not answer any more: %s at byte %llu was given up", disk, what, at);
    }
    nbdkit_set_error(code);
    return -1;
}

static int ask(uint32_t verb, uint64_t offset, uint64_t length, uint8_t *data)
{
    struct answer a = shared_ask(door.disk, verb, offset, length, data, -1);
    return a.outcome == AOE_ENDED_OK ? 0 : fail(verb, offset, &a);
}

static int transfer(uint32_t verb, uint64_t offset, uint32_t count, uint8_t *data)
{
    for (uint32_t size; count; count -= size, offset += size, data += size) {
        size = count < CHUNK ? count : CHUNK;
        if (ask(verb, offset, size, data))
            return -1;
    }
    return 0;
}

static int door_pread(void *handle, void *data, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle, (void)flags;
    return transfer(AOE_VERB_READ, offset, count, data);
}

static int door_pwrite(void *handle, const void *data, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)handle;
    return transfer(flags & NBDKIT_FLAG_FUA ? AOE_VERB_WRITE_FUA : AOE_VERB_WRITE, offset, count, (uint8_t *)data);
}

static int door_flush(void *handle, uint32_t flags)
{
    (void)handle, (void)flags;
    return ask(AOE_VERB_FLUSH, 0, 0, NULL);
}

static int door_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    if (ask(AOE_VERB_TRIM, offset, count, NULL))
        return -1;
    return flags & NBDKIT_FLAG_FUA ? door_flush(handle, 0) : 0;
}

/* nbdkit writes zeroes where this is not supported. */
static int door_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    if (flags & NBDKIT_FLAG_MAY_TRIM && door.is.zeroes && !(count % SECTOR) && !(offset % SECTOR))
        return door_trim(handle, count, offset, flags);
    nbdkit_set_error(EOPNOTSUPP);
    return -1;
}

static struct nbdkit_plugin plugin = {
    .name = "aoe",
    .longname = "ATA over Ethernet",
    .version = AOE_VERSION,
    .description = "the disk behind AoE addresses, over any number of paths",
    .magic_config_key = "address",
    .config_help = "address=eSHELF.SLOT  (required, may be repeated: paths to one disk)\n"
                   "interface=NAME       An Ethernet interface, may be repeated\n"
                   "link=udp:ADDRESS:PORT,peer=ADDRESS:PORT[,mtu=N]\n"
                   OPTIONS_HELP,
    .config = door_config,
    .config_complete = door_config_complete,
    .get_ready = door_get_ready,
    .after_fork = door_after_fork,
    .cleanup = door_cleanup,
    .unload = door_unload,
    .dump_plugin = door_dump_plugin,
    .open = door_open,
    .get_size = door_get_size,
    .block_size = door_block_size,
    .can_flush = yes,
    .can_fua = door_can_fua,
    .can_multi_conn = yes,
    .can_fast_zero = yes,
    .can_trim = door_can_trim,
    .pread = door_pread,
    .pwrite = door_pwrite,
    .flush = door_flush,
    .trim = door_trim,
    .zero = door_zero,
};

NBDKIT_REGISTER_PLUGIN(plugin)
