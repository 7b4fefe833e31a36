/* The initiator among callers, servers and networks that do what the input says: settings, then commands. */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_core.h"

enum command {
    DO_LIVE,      /* how many steps, which, and which servers are silent: time passes, frames leave and are answered */
    DO_TICK,      /* which step of the clock */
    DO_SEND,      /* what is out leaves */
    DO_START,     /* verb, kinds of place and length, place, length */
    DO_ABANDON,   /* which */
    DO_DONE,      /* how many; whether their results are kept */
    DO_FREE,      /* which of these */
    DO_ANSWER,    /* which servers are silent: the others answer */
    DO_REPLY,     /* to which frame, in what path, how much */
    DO_ADVERTISE, /* by whom, where and whether it is true, sectors, buffers */
    DO_FRAME,     /* fixes, length, and that many bytes */
    DO_IDENTITY,  /* whose, which word, how many, and so many words */
    DO_SIZE,      /* which disks, and how large they are */
    DO_PORT,      /* port, whether it is up and what switches carry, sectors and window */
    DO_SWITCH,    /* to which path */
    DO_FENCE,     /* which path */
    COMMANDS
};

enum reply {
    R_GOOD, R_ATA_ERROR, R_AOE_ERROR, R_FAULT, R_CUT, R_LONGER, R_MUTATED, R_OTHER_PORT, R_TWICE, R_OTHER_SERVER,
    REPLIES
};

enum { SERVERS = 4, REPLY_MAX = 36 + 255 * 512 + 256, PIECES_MAX = 256, ROUNDS = 800, VENDOR_AGE = 2 * 129 + 6 };

/* What a server says of itself. Its number is in the last byte of its MAC. */
struct server {
    uint8_t identity[512], sectors, shows; /* the last: what others store; its own is of no use */
    uint16_t buffers;
};

aoe_core *core;
struct wanted wanted[REQUESTS];

static struct {
    const uint8_t *data;
    size_t size;
    int64_t now_ns;
    uint32_t ports, addresses, address[ADDRESSES_MAX];
    struct server servers[SERVERS];
    aoe_core_port port[PORTS_MAX];
    uint64_t users;
    uint32_t left, next_answer; /* frames that have left, and those that were answered or lost */
    uint32_t switch_mtu[PORTS_MAX]; /* larger frames are lost */
    void *buffers[REQUESTS];    /* of requests that are gone; what is out may be in them */
    uint32_t buffers_count;
} s;

static uint8_t next(void)
{
    if (!s.size)
        return 0;
    s.size--;
    return *s.data++;
}

static uint32_t next_two(void)
{
    uint32_t high = next();
    return high << 8 | next();
}

/* Disks */

static void set_word(uint8_t *identity, uint32_t word, uint32_t value)
{
    identity[2 * word] = (uint8_t)value;
    identity[2 * word + 1] = (uint8_t)(value >> 8);
}

static void set_size(uint8_t *identity, uint64_t sectors)
{
    for (uint32_t i = 0; i < 4; i++)
        set_word(identity, 100 + i, (uint32_t)(sectors >> 16 * i));
}

static void make_server(struct server *server, uint32_t number)
{
    uint8_t *identity = server->identity;
    *server = (struct server){.sectors = 16, .buffers = 16, .shows = number < 2};
    memcpy(&identity[2 * 10], "serial              ", 20);
    set_word(identity, 49, 0x0200);
    set_word(identity, 83, 0x7400);
    set_word(identity, 84, 0x4040);
    set_word(identity, 105, 2);
    set_word(identity, 169, 1);
    set_size(identity, 4096);
    memcpy(&identity[2 * 129], "AoEt\1\0", 6);
    set_word(identity, 132, 1000); /* ms: how old a frame may be */
    set_word(identity, 134, number + 1); /* its instance */
    static const uint8_t says[SERVERS] = {50, 26, 2, 10}; /* it heeds streams (T9), maybe of a TRIM, too, and may have its
                                                          * store alone (T10) */
    set_word(identity, 138, says[number]);
}

static uint64_t size_of_disk(void)
{
    uint8_t identity[512] = {0};
    uint64_t sectors = 0;
    aoe_core_identity(core, identity);
    for (int i = word_of(identity, 83) & 0x400 ? 8 : 4; i--;)
        sectors = sectors << 8 | identity[(word_of(identity, 83) & 0x400 ? 200 : 120) + i];
    return sectors;
}

/* Calls */

static void leave(void)
{
    model_sends();
    aoe_core_sent(core);
    s.left = model_sent_count();
    while (s.buffers_count)
        free(s.buffers[--s.buffers_count]);
}

static void tick(int64_t step_ns)
{
    s.now_ns += step_ns;
    model_ticks(s.now_ns);
    aoe_core_tick(core, s.now_ns);
    model_look();
}

static void set_port(uint32_t port, int up, uint32_t sectors, uint32_t window)
{
    s.port[port] = (aoe_core_port){{2, 0, 0, 0, 9, (uint8_t)(port | (sectors & 1) << 4)}, (uint16_t)sectors, window, up};
    model_port(port, &s.port[port]);
    aoe_core_set_port(core, port, &s.port[port], s.now_ns);
    model_look();
}

/* In memory of exactly its size. */
static void hand_over(uint32_t port, const uint8_t *bytes, uint32_t length, const struct sent *reply_to)
{
    uint8_t *frame = malloc(length);
    if (length)
        memcpy(frame, bytes, length);
    model_receives(port, frame, length, reply_to);
    aoe_core_receive(core, port, frame, length, s.now_ns);
    free(frame);
    model_look();
}

/* Replies */

static uint32_t config_body(const struct server *server, uint8_t *frame)
{
    wire_put_big16(wire_at(frame)->config.buffers, server->buffers);
    wire_at(frame)->config.sectors = server->sectors;
    wire_at(frame)->config.vercmd = VERSION << 4;
    return 60;
}

static uint32_t ata_body(const struct server *server, const struct sent *to, uint8_t *frame)
{
    uint32_t length = 60, opcode = to->wire.ata.opcode;
    int transfers = opcode == READ_SECTORS_EXT || opcode == WRITE_SECTORS_EXT || opcode == WRITE_DMA_FUA_EXT ||
                    opcode == DATA_SET_MANAGEMENT;
    wire_at(frame)->ata.status = READY;
    if (transfers && to->wire.ata.count > (server->sectors ? server->sectors : 2)) {
        wire_at(frame)->ata.error = ABRT;
        wire_at(frame)->ata.status |= ERROR;
    } else if (opcode == READ_SECTORS_EXT) {
        length = 36 + to->wire.ata.count * 512u;
        for (uint32_t i = 36; i < length; i++)
            frame[i] = model_disk(to->first + (i - 36) / 512, (i - 36) % 512);
        if (server->shows && model_echo(to))
            memcpy(frame + ATA_HEADER, model_echo(to), length - ATA_HEADER);
    } else if (opcode == IDENTIFY_DEVICE) {
        memcpy(frame + ATA_HEADER, server->identity, 512);
        length = 36 + 512;
    }
    return length;
}

static int is_for_all(const struct sent *to) { return same_mac(to->wire.dst, wire_all()); }

/* Another MAC is another server, of the same kind where the last two bits are the same. */
static uint32_t answer_of(const struct sent *to, uint8_t host, uint8_t *frame)
{
    const struct server *server = &s.servers[host % SERVERS];
    memset(frame, 0, 60);
    memcpy(frame, to->head, AOE_HEADER);
    memcpy(wire_at(frame)->dst, to->wire.src, MAC_BYTES);
    memcpy(wire_at(frame)->src, is_for_all(to) ? (uint8_t[]){2, 0, 0, 0, 1, host} : to->wire.dst, MAC_BYTES);
    wire_at(frame)->verfl |= FLAG_RESPONSE;
    if (to->wire.command == COMMAND_ATA)
        return ata_body(server, to, frame);
    memset(frame + FRAME_MIN, 0, 512);
    if (to->wire.command == COMMAND_CONFIG)
        config_body(server, frame);
    return to->path ? 60 + 512 : 60;
}

/* Whom it was sent to, or one of those whose address it names. */
static uint8_t asked_server(const struct sent *to, uint8_t choice)
{
    return is_for_all(to) ? choice : to->wire.dst[MAC_BYTES - 1];
}

static void answer(uint32_t number, uint8_t silent)
{
    static uint8_t frame[REPLY_MAX];
    for (uint8_t host = 0; host < SERVERS; host++) {
        struct sent *to = model_sent(number);
        uint8_t me = asked_server(to, host);
        uint32_t length = answer_of(to, me, frame), most = s.switch_mtu[to->port];
        if (!(silent >> me % SERVERS & 1) && to->length <= most && length <= most)
            hand_over(to->port, frame, length, to);
        if (!is_for_all(to))
            break;
    }
}

static void answer_all(uint8_t silent)
{
    for (uint32_t end = s.left; s.next_answer < end; s.next_answer++)
        answer(s.next_answer, silent);
}

static uint32_t spoil(enum reply how, uint8_t value, uint8_t *frame, uint32_t length)
{
    struct wire *f = wire_at(frame);
    switch (how) {
    case R_ATA_ERROR:
        f->ata.error = value;
        f->ata.status |= ERROR;
        *f->ata.lba = value;
        f->ata.lba[LBA_BYTES - 1] = next();
        return 60;
    case R_FAULT: f->ata.status |= (uint8_t[]){0x20, 0x80, 0x08, 0xA8}[value & 3]; return 60;
    case R_AOE_ERROR:
        f->verfl |= FLAG_ERROR;
        f->error = value;
        return value & 0x80 ? 24 : 60;
    case R_CUT: return value & 0x80 ? length - (length < (value & 0x7F) ? length : (value & 0x7F)) : value;
    case R_LONGER: memset(frame + length, value, value); return length + value;
    case R_MUTATED: frame[value % 36] ^= next(); return length;
    case R_OTHER_SERVER: f->src[MAC_BYTES - 1] = value; return length;
    default: return length;
    }
}

static void reply(void)
{
    static uint8_t frame[REPLY_MAX];
    uint8_t which = next(), what = next(), value = next();
    enum reply how = what % REPLIES;
    if (which >= s.left)
        return;
    const struct sent *to = model_sent(s.left - 1 - which);
    uint32_t port = how == R_OTHER_PORT ? value % s.ports : to->port;
    uint32_t length = spoil(how, value, frame, answer_of(to, asked_server(to, what >> 6), frame));
    for (int i = 0; i <= (how == R_TWICE); i++)
        hand_over(port, frame, length, to);
}

static void advertise(const uint8_t *mac, uint32_t port, uint32_t address, const struct server *server)
{
    uint8_t frame[FRAME_MIN] = {0};
    wire_put_header(frame, wire_all(), mac, address >> 8, address & 0xFF, COMMAND_CONFIG, 0);
    wire_at(frame)->verfl |= FLAG_RESPONSE;
    hand_over(port, frame, config_body(server, frame), NULL);
}

static void advertise_one(void)
{
    uint8_t host = next(), where = next();
    struct server said = {.sectors = next(), .buffers = next()};
    if (where & 0x80) /* it is so from now on */
        s.servers[host % SERVERS].sectors = said.sectors;
    advertise((uint8_t[]){2, 0, 0, 0, 1, host & 63}, (host >> 6) % s.ports, s.address[where % s.addresses], &said);
}

/* It is a reply of AoE. */
static void put_kind(struct wire *f)
{
    wire_put_big16(f->type, ETHERTYPE);
    f->verfl = VERSION << 4 | FLAG_RESPONSE;
}

/* It names the address, the command and the tag of what was sent. */
static void belong_to(struct wire *f, const struct wire *sent)
{
    memcpy(f->shelf, sent->shelf, sizeof f->shelf);
    f->slot = sent->slot;
    f->command = sent->command;
    memcpy(f->tag, sent->tag, sizeof f->tag);
}

static void any_frame(void)
{
    static uint8_t frame[256];
    struct wire *f = wire_at(frame);
    uint8_t fixes = next();
    uint32_t length = next();
    for (uint32_t i = 0; i < length; i++)
        frame[i] = next();
    if (length >= 24 && fixes & 1)
        put_kind(f);
    if (length >= 24 && fixes & 2)
        memcpy(f->src, (uint8_t[]){2, 0, 0, 0, 1, fixes >> 6}, MAC_BYTES);
    if (length >= 24 && fixes & 4)
        wire_put_address(frame, s.address[0] >> 8 & 0xFF, s.address[0] & 0xFF);
    if (length >= 24 && fixes & 8 && s.left)
        belong_to(f, &model_sent(s.left - 1)->wire);
    hand_over((fixes >> 4) % s.ports, frame, length, NULL);
}

/* Requests */

static uint64_t place(uint8_t kind, uint64_t size, uint32_t number)
{
    switch (kind & 7) {
    case 1: return number * 512ull;
    case 2: return number * 4096ull;
    case 3: return size - number;
    case 4: return size + number;
    case 5: return size / 2 - number;
    case 6: return UINT64_MAX - number;
    case 7: return (uint64_t)number << 48;
    default: return number;
    }
}

static uint64_t extent(uint8_t kind, uint64_t rest, uint64_t offset, uint32_t number)
{
    switch (kind & 7) {
    case 1: return (number & 0xFF) * 512;
    case 2: return 0;
    case 3: return rest;
    case 4: return UINT64_MAX;
    case 5: return UINT64_MAX - offset + 1;
    case 6: return number * 512ull;
    case 7: return rest - number;
    default: return number;
    }
}

static int fits(uint64_t sectors, uint64_t offset, uint64_t length)
{
    return aoe_core_chosen(core) && (unsigned __int128)offset + length <= (unsigned __int128)sectors * 512;
}

/* As much as there is memory and time for. */
static uint64_t bearable(uint32_t verb, uint64_t length)
{
    uint64_t most = verb == AOE_VERB_TRIM ? PIECES_MAX * 64ull * 0xFFFF * 512 : LENGTH_MAX;
    return length < most ? length : most;
}

static void prepare(struct wanted *w, uint32_t verb)
{
    uint8_t kinds = next();
    uint32_t at = next_two(), number = next_two();
    uint64_t sectors = size_of_disk(), size = sectors * 512;
    *w = (struct wanted){.verb = verb, .user = ++s.users, .offset = place(kinds, size, at)};
    w->length = extent(kinds >> 3, size - w->offset, w->offset, number);
    w->fits = fits(sectors, w->offset, w->length);
    if (w->fits && (verb <= AOE_VERB_WRITE_FUA || verb == AOE_VERB_TRIM))
        w->length = bearable(verb, w->length);
    int has_data = verb == AOE_VERB_WRITE || verb == AOE_VERB_WRITE_FUA || (verb == AOE_VERB_READ && kinds & 0x40);
    if (!has_data || (!w->length && kinds & 0x80))
        return;
    w->data_length = w->fits ? (uint32_t)w->length : 0;
    w->data = malloc(w->data_length);
    for (uint64_t i = 0; verb != AOE_VERB_READ && i < w->data_length; i++)
        w->data[i] = model_pattern(w->user, i);
}

/* A message of another kind than COMMAND_ATA, to one server. */
static void prepare_message(struct wanted *w)
{
    *w = (struct wanted){.verb = AOE_VERB_ASK, .user = ++s.users, .offset = 1 + next() % 3, .fits = 1};
    w->length = next() * 2u;
    w->data_length = next();
    if (w->data_length || next() & 1)
        w->data = calloc(1, w->data_length);
}

static int is_path(uint32_t number)
{
    aoe_path paths[PATHS_MAX];
    uint32_t count = aoe_core_paths(core, paths, PATHS_MAX), found = 0;
    for (uint32_t i = 0; i < count; i++)
        found |= paths[i].number == number;
    return (int)found;
}

static void start(void)
{
    uint8_t verb = next();
    uint32_t at = 0, path = verb >> 3;
    while (at < REQUESTS && wanted[at].request)
        at++;
    if (at == REQUESTS)
        return;
    struct wanted *w = &wanted[at];
    verb = (verb & 7) % (AOE_VERB_ASK + 1);
    if (verb == AOE_VERB_ASK) {
        prepare_message(w);
        w->fits = is_path(path);
    } else {
        prepare(w, verb);
    }
    w->request = aoe_core_start(core, verb, w->offset, w->length, w->data, w->data_length, path, w->user, s.now_ns);
    model_look();
}

static struct wanted *which_wanted(uint8_t which, int ended)
{
    for (uint32_t i = 0; i < REQUESTS; i++) {
        struct wanted *w = &wanted[(which + i) % REQUESTS];
        if (w->request && w->ended == ended)
            return w;
    }
    return NULL;
}

static void forget(struct wanted *w)
{
    if (w->data && s.buffers_count == REQUESTS)
        leave();
    if (w->data)
        s.buffers[s.buffers_count++] = w->data;
    w->request = NULL;
}

static void abandon(uint8_t which)
{
    struct wanted *w = which_wanted(which, 0);
    if (!w)
        return;
    aoe_request *request = w->request;
    forget(w);
    aoe_core_abandon(core, request, s.now_ns);
    model_look();
}

static void free_one(struct wanted *w)
{
    aoe_request *request = w->request;
    if (!request)
        return;
    forget(w);
    aoe_core_free(core, request);
    model_look();
}

static void take_done(uint32_t number, int keep)
{
    leave();
    for (aoe_request *request; number-- && (request = aoe_core_done(core));) {
        uint32_t at = 0;
        while (at < REQUESTS && wanted[at].request != request)
            at++;
        CHECK(at < REQUESTS);
        model_ended(&wanted[at]);
        if (!keep)
            free_one(&wanted[at]);
    }
    leave();
}

/* The script */

static void fence(uint32_t number)
{
    if (path_at(number))
        model_fences(path_at(number));
    aoe_core_fenced(core, number, s.now_ns);
    model_look();
}

static void use(uint32_t number)
{
    int done = aoe_core_switch(core, number, s.now_ns);
    CHECK(!done || path_at(number) == core->owner);
    model_look();
}

static void live(uint8_t how)
{
    for (int steps = how & 7; steps >= 0; steps--) {
        tick(how & 8 ? 300000000 : 10000000);
        leave();
        answer_all(how >> 4);
    }
}

static int64_t clock_step(uint8_t which)
{
    static const int64_t steps[16] = {0,         1,          1000,       1000000,     5000000,        20000000,
                                      50000000,  110000000,  300000000,  1000000000,  2000000000,     3000000000,
                                      11000000000, 60000000000, 3600000000000, 100000000000000};
    return steps[which & 15];
}

static void change_identity(void)
{
    uint8_t host = next(), word = next(), count = next() & 15;
    for (uint32_t i = word; i <= (uint32_t)word + count && i < 256; i++)
        for (uint32_t number = 0, value = next_two(); number < SERVERS; number++)
            if (host >> number & 1)
                set_word(s.servers[number].identity, i, value);
}

static void change_size(uint8_t how)
{
    static const uint64_t sizes[16] = {4096, 0, 1, 4095, 5000, 1ull << 28, 1ull << 32, (1ull << 48) - 1,
                                       1ull << 48, (1ull << 48) + 1, 1ull << 55, (1ull << 55) + 9, 1ull << 63,
                                       UINT64_MAX, UINT64_MAX - 255, 1ull << 40};
    for (uint32_t i = 0; i < SERVERS; i++)
        if (how >> (4 + i) & 1)
            set_size(s.servers[i].identity, sizes[how & 15]);
}

static void change_port(void)
{
    static const uint16_t sectors[8] = {17, 0, 1, 2, 8, 16, 255, 65535};
    static const uint32_t windows[8] = {64, 0, 1, 2, 3, 8, 65536, UINT32_MAX};
    static const uint32_t switches[4] = {UINT32_MAX, 4214, 1514, UINT32_MAX};
    uint8_t what = next(), facts = next();
    s.switch_mtu[(what & 3) % s.ports] = switches[what >> 3 & 3];
    set_port((what & 3) % s.ports, what >> 2 & 1, sectors[facts & 7], windows[facts >> 3 & 7]);
}

static void command_with(enum command command, uint8_t how)
{
    switch (command) {
    case DO_LIVE: live(how); break;
    case DO_TICK: tick(clock_step(how)); break;
    case DO_ABANDON: abandon(how); break;
    case DO_DONE: take_done((how & 63) + 1, how >> 6 & 1); break;
    case DO_FREE: {
        struct wanted *w = which_wanted(how, 1);
        if (w)
            free_one(w);
        break;
    }
    case DO_ANSWER: answer_all(how); break;
    case DO_SIZE: change_size(how); break;
    case DO_SWITCH: use(how & 63); break;
    case DO_FENCE: fence(how & 63); break;
    default: break;
    }
}

static void command(void)
{
    enum command command = next() % COMMANDS;
    switch (command) {
    case DO_SEND: leave(); break;
    case DO_START: start(); break;
    case DO_REPLY: reply(); break;
    case DO_ADVERTISE: advertise_one(); break;
    case DO_FRAME: any_frame(); break;
    case DO_IDENTITY: change_identity(); break;
    case DO_PORT: change_port(); break;
    default: command_with(command, next()); break;
    }
}

/* Beginning and end */

/* What an earlier life had under way: over by time, or in a stream, now or long ago. */
static aoe_debt left_by_another(uint32_t kind)
{
    aoe_debt left = {.instance = 7, .until_ns = s.now_ns + 1, .quiesce_ns = 3000000000, .tag = 0x12345678,
                     .shelf = 1, .epoch = 255};
    left.stream = kind > 1 ? 9 : 0;
    left.quiesce_ns = kind > 2 ? -1 : left.quiesce_ns;
    memcpy(left.mac, (uint8_t[]){2, 0, 0, 0, 1, 0}, MAC_BYTES);
    memcpy(left.own, (uint8_t[]){2, 0, 0, 0, 9, 0x10}, MAC_BYTES);
    return left;
}

static int begin(void)
{
    static const uint32_t addresses[ADDRESSES_MAX] = {0x0100, 0x0200, 0xFFFE01}, tags[] = {5, 0x7FFFFFFE, 0xFFFFFFFF, 0};
    static const int64_t failbacks[] = {-1, 0, 2000000000, 1ll << 62};
    uint8_t sizes = next(), policy = next();
    s.now_ns = 1000000000000;
    s.ports = 1 + (sizes & 3) % PORTS_MAX;
    s.addresses = 1 + (sizes >> 2 & 3) % ADDRESSES_MAX;
    memcpy(s.address, addresses, sizeof addresses);
    s.users = s.left = s.next_answer = 0;
    for (uint32_t i = 0; i < SERVERS; i++)
        make_server(&s.servers[i], i);
    aoe_core_settings settings = {.ports = s.ports,
                                  .addresses = s.addresses,
                                  .address = s.address,
                                  .first_tag = tags[sizes >> 4 & 3],
                                  .spread = policy & 1,
                                  .hold = policy >> 1 & 1,
                                  .require = policy >> 5 & 1,
                                  .background = policy >> 1 & 1,
                                  .failback_ns = failbacks[policy >> 2 & 3],
                                  .timing = AOE_TIMING};
    static aoe_debt left;
    left = left_by_another(policy >> 6);
    settings.debt = &left;
    settings.debts = policy >> 6 ? 1 : 0;
    settings.since_ns = s.now_ns;
    core = aoe_core_open(&settings);
    model_reset(s.now_ns);
    for (uint32_t port = 0; port < s.ports; port++) {
        s.switch_mtu[port] = UINT32_MAX;
        set_port(port, 1, 17, 64);
    }
    return policy >> 4 & 1;
}

static int unended(void)
{
    int count = 0;
    for (uint32_t i = 0; i < REQUESTS; i++)
        count += wanted[i].request && !wanted[i].ended;
    return count;
}

static void mend_everything(void)
{
    for (uint32_t port = 0; port < s.ports; port++)
        set_port(port, 1, 65535, 64);
    for (uint32_t i = 0; i < SERVERS; i++) {
        uint8_t *identity = s.servers[i].identity;
        aoe_core_identity(core, identity);
        memcpy(identity + VENDOR_AGE, (uint8_t[4]){232, 3}, 4); /* a second: it may have been 49 days */
        set_word(identity, 255, 0); /* no checksum */
        s.servers[i].sectors = 255;
        s.servers[i].buffers = 16;
    }
    for (uint32_t i = 0; i < core->paths_count; i++) {
        const struct path *w = core->paths[i];
        advertise(w->mac, w->port, (uint32_t)w->shelf << 8 | w->slot, &s.servers[0]);
    }
}

/* Whatever happened: once everything is well, every request ends, and nothing stays behind it. */
static void end_well(void)
{
    mend_everything();
    for (int round = 0; round < ROUNDS && (unended() || core->pending); round++) {
        tick(round % 16 ? 10000000 : 300000000);
        leave();
        answer_all(0);
        for (uint32_t i = 0; core->set.hold && i < core->paths_count; i++)
            fence(core->paths[i]->number);
        take_done(REQUESTS, 0);
        if (model_sent_count() == SENT_MAX)
            return;
    }
    CHECK(!unended());
    CHECK(!core->pending);
}

static void close_all(void)
{
    aoe_core_close(core);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        if (wanted[i].request)
            free(wanted[i].data);
        wanted[i].request = NULL;
    }
    while (s.buffers_count)
        free(s.buffers[--s.buffers_count]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    s.data = data;
    s.size = size;
    int well = begin();
    while (s.size && model_sent_count() < SENT_MAX / 2)
        command();
    if (well)
        end_well();
    close_all();
    return 0;
}
