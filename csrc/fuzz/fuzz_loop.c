/* The engine's loop in a fake world. The input is a script: settings, then commands of some bytes each. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

enum command {
    C_PASS,    /* thread and how many */
    C_REQUEST, /* opcode, place, lba, count */
    C_FRAME,   /* fixes, place, sectors behind it, length, and that many bytes */
    C_REPEAT,  /* how often the last frame comes again */
    C_DONE,    /* how the disk finishes how many */
    C_DISK,    /* how it works from now on, and how many requests find it closed */
    C_CLOCK,   /* which step */
    C_PUBLISH, /* export and flags, sectors, lists */
    C_PORT,    /* port, MAC, sectors */
    C_TAKE,    /* how many frames Python takes; whether it takes more at once from now on */
    C_RELEASE, /* of which export it releases how much */
    C_SOCKET,  /* which and what, how long, how many messages pass */
    C_MEMORY,  /* faults of the calls that do not wait */
    C_CLOG,    /* how little room is left in the queue to Python */
    C_LEAVE,   /* which export goes; or comes back, if it is gone */
    C_PLUG,    /* which port's sockets go; or come back, once they are gone */
    C_CUT,     /* what becomes of a snapshot of which export */
    C_LIFE,    /* another process serves the image; what may be lost */
    COMMANDS
};

enum { UP_ROOM = UP_BYTES, ROUNDS_MAX = 4000, NO_PORT = 0x5555 };
enum { FIX_DST = 1, FIX_BROADCAST = 2, FIX_SRC = 4, FIX_TYPE = 8, FIX_ADDRESS = 16, FIX_VERSION = 32, SPOIL = 64 };

const struct store stores[EXPORTS] = {
    {0, AOE_INSTANT, 0, 512, 0},
    {1, AOE_IMAGE, 1, 512, 4096},
    {0x58, AOE_DIRECT, 2, 4096, 0},
    {0x58, AOE_INSTANT | AOE_DURABLE, 3, 512, 8192},
};
int store_fd[EXPORTS], image_fd[IMAGE_LIVES];
aoe_engine *engine;

/* A frame that Python has and whose place the engine keeps. */
struct held {
    uint64_t ticket;
    struct record *record;
};

static struct {
    const uint8_t *data;
    size_t size;
    uint8_t frame[FRAME_MAX], taken[UP_ROOM];
    uint32_t length, port;
    int for_us, more, at_once;
    struct held held[EXPORTS][RECORDS];
    uint32_t holds[EXPORTS];
    int failed[EXPORTS];
    struct facts now[EXPORTS];
    int64_t published[EXPORTS];
    int leaves[EXPORTS];
    uint32_t life;
} s;

static uint8_t next(void)
{
    if (!s.size)
        return 0;
    s.size--;
    return *s.data++;
}

/* What Python publishes */

static uint32_t add_clients(struct facts *f, uint32_t at, uint8_t chosen)
{
    uint32_t count = 0;
    for (uint8_t client = 0; client < CLIENTS; client++)
        if (chosen >> client & 1)
            memcpy(f->macs[at + count++], (uint8_t[]){2, 0, 0, 0, 1, client}, 6);
    return count;
}

static void publish(int export)
{
    const struct store *store = &stores[export];
    const struct facts *now = &s.now[export];
    aoe_export e = {.fd = export == IMAGE ? image_fd[s.life] : store_fd[export],
                    .shelf = store->shelf,
                    .slot = store->slot,
                    .flags = now->flags,
                    .block = store->block,
                    .base = store->base,
                    .sectors = now->sectors,
                    .instance = now->instance,
                    .trust = now->trust,
                    .device = (uint32_t)export / 2,
                    .room = ROOM,
                    .elsewhere = now->elsewhere,
                    .masked = now->masked,
                    .reserved = now->reserved,
                    .macs = now->macs[0],
                    .limits = now->limits};
    model_published(export, ++s.published[export], now);
    CHECK(aoe_engine_set_export(engine, (uint32_t)export, &e) == s.published[export]);
}

/* Python does so once everything is over that was admitted before it published that the disk has failed. */
static void trust_again(int export)
{
    if (!s.failed[export] || !(s.now[export].flags & AOE_PASS) ||
        aoe_engine_settled(engine, (uint32_t)export) != s.published[export])
        return;
    s.failed[export] = 0;
    s.now[export].trust++;
    model_trusts(export);
}

/* Of requests, bytes, and both, for all and for each; none for most. */
static aoe_limits limits_at(uint8_t which)
{
    static const aoe_limits some[] = {{0},
                                      {.iops = 100, .burst_ns = 20000000},
                                      {.iops = 100000},
                                      {.client_iops = 10, .burst_ns = 500000000},
                                      {.bandwidth = 1 << 20, .client_iops = 1000},
                                      {.client_bandwidth = 1 << 16, .burst_ns = 100000000},
                                      {.iops = 10},
                                      {.iops = 50, .client_iops = 20, .burst_ns = 60000000000}};
    return some[which < sizeof some / sizeof some[0] ? which : 0];
}

/* Sizes go from a bit less to a bit more than the file has. */
static void publish_new(void)
{
    uint8_t what = next(), sectors = next(), lists = next();
    int export = what & 3;
    struct facts *f = &s.now[export];
    if (s.leaves[export] || s.published[export] == FACTS - 2) /* one more number says that it goes */
        return;
    if (what & 32)
        trust_again(export);
    s.failed[export] |= what >> 4 & 1;
    *f = (struct facts){FILE_SECTORS - 8 + (sectors & 15), f->instance, f->trust, .flags = stores[export].flags};
    f->flags |= export == IMAGE && s.life ? AOE_FLUSHES_UP : 0;
    f->flags ^= (what & 4 ? AOE_READ_ONLY : 0) | (what & 8 ? AOE_DURABLE : 0) | (s.failed[export] ? AOE_PASS : 0);
    f->elsewhere = what >> 6;
    f->limits = limits_at(sectors >> 4);
    f->masked = add_clients(f, 0, lists & 15);
    f->reserved = add_clients(f, f->masked, lists >> 4);
    publish(export);
}

static void leave_or_come(int export)
{
    struct facts *f = &s.now[export];
    if (!s.leaves[export]) {
        s.leaves[export] = 1;
        f->flags |= AOE_GONE;
    } else if (aoe_engine_settled(engine, (uint32_t)export) == s.published[export] &&
               !engine->exports[export].up_used) { /* Python takes what came up of it before */
        s.leaves[export] = 0;
        s.published[export] = 0;
        f->flags &= ~(uint32_t)AOE_GONE;
        f->instance += 2; /* what comes is another life */
        f->flags |= model_comes(export) ? AOE_PASS : 0;
    } else {
        return;
    }
    publish(export);
    CHECK(!aoe_engine_filter(engine));
}

/* What was acknowledged and not synced may be lost then: Python judges each FLUSH. */
static void next_life(void)
{
    if (s.life == IMAGE_LIVES - 1 || s.leaves[IMAGE] || s.published[IMAGE] == FACTS - 2)
        return;
    s.life++;
    s.now[IMAGE].flags |= AOE_FLUSHES_UP;
    publish(IMAGE);
}

static void attach(uint32_t port)
{
    for (uint32_t i = 0; i < engine->set.threads; i++) {
        CHECK(!aoe_engine_make_ring(engine, world_ring_fd(i, port)));
        CHECK(!aoe_engine_attach(engine, i, port, world_ring_fd(i, port), 0));
    }
}

static void plug(uint32_t port)
{
    if (!world_shut(port)) {
        aoe_engine_detach(engine, port);
    } else if (aoe_engine_detached(engine, port)) {
        attach(port);
        CHECK(!aoe_engine_filter(engine));
    }
}

static void set_port(uint32_t port, uint8_t mac, uint8_t sectors)
{
    aoe_port now = {{2, 0xA0, 0, 0, (uint8_t)port, mac}, sectors};
    model_port(port, &now);
    aoe_engine_set_port(engine, port, &now);
}

/* Frames */

/* A place says for which export, from which client, on which port, how long ago. */
static int export_at(uint8_t place) { return place & 3; }

static uint32_t port_at(uint8_t place) { return (place >> 4 & 1) % engine->set.ports; }

static uint64_t stamp_at(uint8_t place)
{
    static const int64_t ages[] = {0, 1000, 1000000, 999000000, 1000100000, 2000000000, -50000, 0};
    return world_now() - (uint64_t)ages[place >> 5];
}

static void arrive(uint64_t stamp_ns)
{
    if (world_shut(s.port))
        return;
    int named = s.length > offsetof(struct wire, slot);
    uint32_t thread = named ? ring_owner(wire_shelf(s.frame), wire_of(s.frame)->slot, engine->set.threads) : 0;
    uint32_t tag = model_frame(s.frame, s.length, thread, s.port, stamp_ns);
    if (tag)
        world_frame(tag, s.frame, s.length, s.for_us);
}

static void fix(uint8_t fixes, uint8_t place)
{
    const struct store *store = &stores[export_at(place)];
    struct wire *f = wire_at(s.frame);
    uint8_t mac[MAC_BYTES];
    uint32_t sectors;
    port_facts(engine, port_at(place), mac, &sectors);
    if (fixes & FIX_DST)
        memcpy(f->dst, mac, MAC_BYTES);
    if (fixes & FIX_BROADCAST)
        memset(f->dst, 0xFF, MAC_BYTES);
    if (fixes & FIX_SRC)
        memcpy(f->src, (uint8_t[]){2, 0, 0, 0, 1, place >> 2 & 3}, MAC_BYTES);
    if (fixes & FIX_TYPE)
        wire_put_big16(f->type, ETHERTYPE);
    if (fixes & FIX_VERSION)
        f->verfl = VERSION << 4;
    if (fixes & FIX_ADDRESS)
        wire_put_address(s.frame, store->shelf, store->slot);
}

/* What is longer than a ring's slot is cut off. */
static void come(uint32_t length, uint8_t fixes, uint8_t place)
{
    fix(fixes, place);
    s.for_us = !(fixes & SPOIL) && length <= engine->set.frame_max;
    s.length = length <= engine->set.frame_max ? length : engine->set.frame_max;
    s.port = port_at(place);
    arrive(stamp_at(place));
}

/* As our initiator stamps a request, for the life of the engine that it knows; its length. */
static uint32_t stamp(uint32_t length, uint8_t stream, uint8_t epoch, uint64_t instance)
{
    if (length + STAMP_TRAILER > FRAME_MAX)
        return length;
    wire_put_tag(s.frame, USER_TAG);
    struct wire_registers *asked = &wire_at(s.frame)->ata;
    *(asked->opcode == DATA_SET_MANAGEMENT ? asked->lba : &asked->feature) = epoch;
    wire_put_big16(wire_at(s.frame)->ata.stream, stream);
    memcpy(s.frame + length, STREAM_SIGNATURE, SIGNATURE_BYTES);
    memcpy(s.frame + length + SIGNATURE_BYTES, &instance, INSTANCE_BYTES);
    return length + STAMP_TRAILER;
}

/* Of a TRIM: some ranges, now and then none or one too far, of which each may be empty. */
static void fill_list(void)
{
    uint8_t ranges = next() % 12;
    memset(s.frame + ATA_HEADER, 0, SECTOR);
    wire_at(s.frame)->ata.feature = 1;
    wire_at(s.frame)->ata.count = 1;
    for (uint8_t i = 0; i < ranges; i++) {
        struct wire_range *range = (struct wire_range *)(s.frame + ATA_HEADER) + i;
        *range->lba = next() % 66;
        *range->count = next() % 5;
    }
}

static void request(void)
{
    static const uint8_t opcodes[] = {
        READ_SECTORS_EXT, WRITE_SECTORS_EXT, READ_DMA_EXT, WRITE_DMA_EXT, READ_SECTORS, WRITE_SECTORS, READ_MULTIPLE_EXT,
        WRITE_MULTIPLE_EXT, READ_DMA, WRITE_DMA, READ_MULTIPLE, WRITE_MULTIPLE, WRITE_DMA_FUA_EXT, WRITE_MULTIPLE_FUA_EXT,
        FLUSH_CACHE_EXT, FLUSH_CACHE, IDENTIFY_DEVICE, READ_VERIFY_SECTORS_EXT, DATA_SET_MANAGEMENT, SET_FEATURES};
    uint8_t what = next(), place = next(), lba = next() % 72, count = next();
    count = count < 216 ? count % 18 : count - 198; /* rarely more than a frame holds */
    memset(s.frame, 0, ATA_HEADER);
    struct wire_registers *asked = &wire_at(s.frame)->ata;
    asked->count = count;
    asked->opcode = opcodes[what % sizeof opcodes];
    *asked->lba = lba;
    if (asked->opcode == IDENTIFY_DEVICE) /* what it asks for can wait, or not */
        asked->lba[1] = count >> 1 & 1;
    int trims = asked->opcode == DATA_SET_MANAGEMENT;
    if (trims)
        fill_list();
    int carries = trims || strchr("\x30\x34\x35\x39\x3D\xC5\xCA\xCE", asked->opcode) != NULL;
    uint32_t length = ATA_HEADER + (carries ? asked->count * SECTOR : 0), kind = what / sizeof opcodes;
    if (kind >= 6) /* of a stream and an epoch; sometimes for an earlier life */
        length = stamp(length, 1 + (kind & 1), next(), s.now[export_at(place)].instance + (kind == 11));
    come(length, FIX_DST | FIX_SRC | FIX_TYPE | FIX_VERSION | FIX_ADDRESS, place);
}

static void raw_frame(void)
{
    uint8_t fixes = next(), place = next(), sectors = next(), length = next();
    memset(s.frame, 0, sizeof s.frame);
    for (uint32_t i = 0; i < length; i++)
        s.frame[i] = next();
    come(length + sectors % 18 * SECTOR, fixes, place);
}

static void repeat(uint8_t times)
{
    while (times-- && s.length)
        arrive(world_now());
}

/* Python's side */

/* The changes that are left to Python overwrite what they name with their own tag. */
static void overwrite(struct record *r, uint64_t lba, uint64_t count)
{
    static uint8_t bytes[FILE_SECTORS * SECTOR];
    for (uint32_t i = 0; i < count; i++)
        model_pattern(bytes + i * SECTOR, wire_tag(r->head) & TAG_MASK, lba + i);
    off_t at = (off_t)(stores[r->export].base + lba * SECTOR);
    CHECK(pwrite(store_fd[r->export], bytes, count * SECTOR, at) == (ssize_t)count * SECTOR);
    model_written(r, lba, (uint32_t)count);
}

static void look(const struct record *r)
{
    static uint8_t bytes[FILE_SECTORS * SECTOR];
    off_t at = (off_t)(stores[r->export].base + r->lba * SECTOR);
    CHECK(pread(store_fd[r->export], bytes, r->count * SECTOR, at) == (ssize_t)r->count * SECTOR);
    model_looked(r, bytes);
}

static void trim(struct record *r)
{
    if (r->wire.ata.feature != 1 || r->trim_last > FILE_SECTORS)
        return;
    for (uint32_t i = 0; i < r->trims_count && i < TRIMS_MAX; i++)
        overwrite(r, r->trims[i].lba, r->trims[i].count);
}

static void work(struct record *r)
{
    const struct facts *f = &s.now[r->export];
    uint32_t carried = r->length > ATA_HEADER ? (r->length - ATA_HEADER) / SECTOR : 0;
    int inside = r->wire.command == COMMAND_ATA && r->lba + r->count <= FILE_SECTORS;
    if (inside && r->scope == READS && r->wire.ata.opcode == 0x42)
        look(r);
    if (f->flags & AOE_READ_ONLY || s.failed[r->export])
        return;
    if (r->wire.command == COMMAND_ATA && r->wire.ata.opcode == DATA_SET_MANAGEMENT)
        trim(r);
    else if (inside && r->kind == K_WRITE && r->count <= carried)
        overwrite(r, r->lba, r->count);
}

/* Some work is done as soon as Python has the frame, some only right before its place is given up. */
static int works_late(const struct record *r) { return wire_tag(r->head) & 1; }

static int take(void)
{
    aoe_up up;
    if (!aoe_engine_take(engine, &up, s.taken, UP_ROOM))
        return 0;
    if (up.port == NO_PORT)
        return 1;
    model_took(&up, s.taken);
    struct record *r = model_record(s.taken);
    if (up.error < 0)
        s.failed[r->export] = 1;
    if (up.ticket) {
        s.held[r->export][s.holds[r->export]++] = (struct held){up.ticket, r};
        if (!works_late(r))
            work(r);
    }
    return 1;
}

void python_at_once(void)
{
    if (s.at_once)
        take();
}

static void take_some(uint32_t number)
{
    eventfd_t ignored;
    s.more |= eventfd_read(aoe_engine_event(engine), &ignored) == 0;
    while (s.more && number--)
        s.more = take();
}

static void release(uint32_t export, uint32_t number)
{
    struct held *held = s.held[export];
    number = number < s.holds[export] ? number : s.holds[export];
    if (!number)
        return;
    for (uint32_t i = 0; i < number; i++)
        if (works_late(held[i].record))
            work(held[i].record);
    uint64_t ticket[RECORDS];
    for (uint32_t i = 0; i < number; i++)
        ticket[i] = held[i].ticket;
    s.holds[export] -= number;
    memmove(held, held + number, s.holds[export] * sizeof *held);
    for (uint32_t i = number; i--;) /* in no particular order */
        aoe_engine_release(engine, export, ticket[i]);
}

int __real_hand_up(struct thread *t, const aoe_up *up, const uint8_t *frame);

static void fill_queue(uint32_t room)
{
    size_t taken = engine->up_used + sizeof(aoe_up) + room;
    if (taken >= UP_BYTES)
        return;
    aoe_up up = {.port = NO_PORT, .export_index = NO_EXPORT, .length = (uint32_t)(UP_BYTES - taken)};
    model_clogged(__real_hand_up(&engine->threads[0], &up, s.taken));
}

/* The script */

static void clock_step(uint8_t which)
{
    static const int64_t steps[][2] = {{1000, 1000},           {1000000, 1000000},   {500000000, 500000000},
                                       {1100000000, 1100000000}, {50000000, 0},      {-50000000, 0},
                                       {150000000, 0},         {-150000000, 0}};
    world_tick(steps[which & 7][0], steps[which & 7][1]);
}

static void pass(uint8_t how)
{
    for (uint32_t i = 0; i <= (how >> 1 & 3); i++)
        world_pass((how & 1) % engine->set.threads);
}

static void use_socket(void)
{
    uint8_t what = next(), calls = next(), most = next();
    world_socket((what & 1) % engine->set.threads, (what >> 1 & 1) % engine->set.ports, (what >> 2) % SEND_MODES,
                 calls & 15, most ? most : 1);
}

static void command_with(enum command command, uint8_t how)
{
    switch (command) {
    case C_PASS: pass(how); break;
    case C_REPEAT: repeat(how & 63); break;
    case C_CLOCK: clock_step(how); break;
    case C_PORT: set_port((how & 1) % engine->set.ports, how >> 4, next()); break;
    case C_RELEASE: release(how & 3, (uint32_t)(how >> 2) + 1); break;
    case C_MEMORY: world_memory(how); break;
    case C_CLOG: fill_queue(how * 16u); break;
    case C_LEAVE: leave_or_come(how & 3); break;
    case C_CUT: snapshots_do(how); break;
    case C_LIFE: next_life(); break;
    case C_PLUG: plug((how & 1) % engine->set.ports); break;
    case C_DONE:
        world_disk_wait();
        world_disk_done((how & 15) + 1, how >> 4 & 1, (how >> 5) % D_FAULTS);
        break;
    case C_DISK:
        world_disk(how & 1, how >> 1 & 1);
        world_fail_start(how >> 4);
        break;
    case C_TAKE:
        take_some((how & 63) + 1);
        s.at_once = how >> 6 & 1;
        break;
    default: break;
    }
}

static void command(void)
{
    enum command command = next() % COMMANDS;
    switch (command) {
    case C_REQUEST: request(); break;
    case C_FRAME: raw_frame(); break;
    case C_PUBLISH: publish_new(); break;
    case C_SOCKET: use_socket(); break;
    default: command_with(command, next()); break;
    }
    for (int i = 0; i < EXPORTS; i++)
        snapshots_look(i);
}

/* Beginning and end */

static void open_stores(void)
{
    for (int i = 0; i < EXPORTS; i++) {
        store_fd[i] = memfd_create("store", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        CHECK(!ftruncate(store_fd[i], (off_t)(stores[i].base + FILE_SECTORS * SECTOR)));
        CHECK(!fcntl(store_fd[i], F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK));
    }
    image_fd[0] = store_fd[IMAGE];
    for (int life = 1; life < IMAGE_LIVES; life++)
        CHECK((image_fd[life] = dup(store_fd[IMAGE])) > 0);
}

static void blank_stores(void)
{
    static uint8_t blank[FILE_SECTORS * SECTOR];
    for (uint32_t i = 0; !blank[2] && i < FILE_SECTORS; i++)
        model_pattern(blank + i * SECTOR, 0, i);
    for (int i = 0; i < EXPORTS; i++)
        CHECK(pwrite(store_fd[i], blank, sizeof blank, (off_t)stores[i].base) == sizeof blank);
}

/* Few requests at a time, so that running out of them is near. */
static void limit_ops(struct thread *t, uint32_t number)
{
    struct op *op = t->free_ops;
    while (--number)
        op = op->link;
    op->link = NULL;
}

/* A thread or a ring that does I/O beside us; not in runs that must always be the same. */
static uint32_t real_disk(uint32_t disk) { return getenv("AOE_FUZZ_SAME") || disk < 6 ? 0 : disk - 4; }

static aoe_settings settings(uint8_t a, uint8_t b)
{
    static const uint32_t sizes[] = {FRAME_MAX, 1514, 4150, 578}, places[] = {64, 1, 2, 5}, queues[] = {1024, 3, 16, 100};
    return (aoe_settings){.threads = 1 + (a >> 1 & 1),
                          .ports = 1 + (a & 1),
                          .exports = EXPORTS,
                          .frame_max = sizes[a >> 6],
                          .ring_frames = 64,
                          .spin_us = a & 32 ? 50 : 0,
                          .queue_max = queues[b >> 2 & 3],
                          .places = places[b & 3],
                          .frame_age_ns = 1000000000,
                          .plain_io = real_disk(a >> 2 & 7)};
}

static void begin(void)
{
    static const uint32_t ops[] = {OPS, 4, 32, 200};
    uint8_t a = next(), b = next(), head = next(), sectors = next();
    aoe_settings set = settings(a, b);
    CHECK(!aoe_engine_open(&engine, &set));
    engine->up_head = (UP_BYTES - head * 8u) % UP_BYTES;
    for (uint32_t i = 0; i < set.threads; i++)
        limit_ops(&engine->threads[i], ops[b >> 4 & 3]);
    for (uint32_t p = 0; p < set.ports; p++) {
        attach(p);
        set_port(p, 1, sectors ? sectors : 17);
    }
    for (int i = 0; i < EXPORTS; i++) {
        s.now[i] = (struct facts){FILE_SECTORS, 0x0102030405060708ull * (uint64_t)i, .flags = stores[i].flags};
        publish(i);
    }
    CHECK(!aoe_engine_start(engine, (int[THREADS]){-1, -1}));
}

static void mend_everything(void)
{
    world_disk(1, 0);
    world_memory(0);
    world_fail_start(0);
    for (uint32_t i = 0; i < THREADS * PORTS; i++)
        world_socket(i / PORTS, i % PORTS, SEND_ALL, 0, 0);
}

static int is_quiet(void)
{
    uint64_t left = engine->up_used + !world_rings_empty() + !world_disk_idle() + !snapshots_over();
    for (uint32_t i = 0; i < EXPORTS; i++)
        left += s.holds[i] + (aoe_engine_settled(engine, i) != s.published[i]);
    for (uint32_t i = 0; i < engine->set.threads; i++) {
        left += atomic_load(&engine->threads[i].pending) + atomic_load(&engine->threads[i].mail);
        for (uint32_t p = 0; p < engine->set.ports; p++)
            left += engine->threads[i].ports[p].out.count;
    }
    return !left;
}

/* Whatever happened: once nothing fails any more, everything that was admitted comes to its end. */
static void end(void)
{
    mend_everything();
    for (int round = 0; round < ROUNDS_MAX && !is_quiet(); round++) {
        for (uint32_t i = 0; i < engine->set.threads; i++)
            world_pass(i);
        world_disk_done(OPS, 0, D_GOOD);
        world_disk_wait();
        take_some(OPS);
        snapshots_go_on();
        for (uint32_t i = 0; i < EXPORTS; i++)
            release(i, RECORDS);
        int64_t step = round < ROUNDS_MAX / 4 ? 100000 : 10000000; /* frames of a clock that was ahead wait for it */
        world_tick(step, step);
    }
    CHECK(is_quiet());
    for (uint32_t p = 0; p < engine->set.ports; p++) /* one that leaves is let go */
        CHECK(!world_shut(p) || aoe_engine_detached(engine, p));
    CHECK(aoe_engine_drain(engine) == 0);
    model_final();
    world_close();
    aoe_engine_close(engine);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!store_fd[0])
        open_stores();
    s.data = data;
    s.size = size;
    s.length = 0;
    s.more = s.at_once = 0;
    s.life = 0;
    memset(s.holds, 0, sizeof s.holds);
    memset(s.failed, 0, sizeof s.failed);
    memset(s.published, 0, sizeof s.published);
    memset(s.leaves, 0, sizeof s.leaves);
    model_reset();
    world_reset();
    snapshots_reset();
    blank_stores();
    begin();
    while (s.size)
        command();
    end();
    return 0;
}
