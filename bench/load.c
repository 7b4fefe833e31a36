/* A load generator for AoE targets: keeps a number of requests outstanding and checks every reply.
 *
 *   load IF SHELF SLOT [--slots N] --rw randread|randwrite|read|write|randrw --sectors N --depth N
 *        --seconds S --range SECTORS [--rate N [--rest]] [--blind] [--seed N] [--patience S]
 *
 * Prints one JSON object. A tenth of the time goes before that as a warm-up: `answered` counts it, `done`
 * does not. `lost` are requests unanswered for a second, or as --patience has it (they are not sent again, new ones
 * take their place), `late` replies to those, `bad` reads whose sectors do not carry the stamp of their
 * address. With --slots, requests go to slots SLOT..SLOT+N-1 (and on over shelves) at random. With --rest it sleeps
 * while there is nothing to do, and leaves the processor to others.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../csrc/shared/wire.h"

enum { DEPTH_MAX = 4096, TABLE = 1 << 20, BATCH = 64, FRAME = ATA_HEADER + SECTORS_PER_FRAME_MAX * SECTOR };
enum { BUCKETS = 64 * 32 };

static const uint64_t STAMP = 0x5354414d50ull; /* also in bench/image.py */
static const uint64_t LOOK_NS = 100000000ull; /* between two looks for lost ones; at most so long it rests */

struct pending {
    uint64_t sent_ns, lba;
    uint32_t tag, write;
};

static struct options {
    const char *interface, *rw;
    unsigned shelf, slot, slots, sectors, depth;
    double seconds, rate, patience;
    uint64_t range, seed;
    int blind, rest;
} o = {.slots = 1, .sectors = 16, .depth = 64, .seconds = 3, .patience = 1, .range = 131072, .seed = 1, .rw = "randread"};

static struct counts {
    uint64_t done, answered, lost, late, errors, bad, unsent;
} n;

static uint64_t histogram[BUCKETS];
static struct pending table[TABLE];
static unsigned outstanding;
static uint64_t patience_ns;
static uint8_t frames[BATCH][FRAME], replies[BATCH][FRAME];
static uint8_t own[MAC_BYTES], server[MAC_BYTES];
static int fd;
static int receive_buffer;
static uint32_t sequence, oldest;
static uint64_t position;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t chance(void)
{
    o.seed ^= o.seed << 13;
    o.seed ^= o.seed >> 7;
    o.seed ^= o.seed << 17;
    return o.seed;
}

static void fail(const char *what)
{
    perror(what);
    exit(2);
}

/* Log-linear: 32 steps for each power of two, about 3 % wide. */
static unsigned bucket(uint64_t ns)
{
    if (ns < 32)
        return (unsigned)ns;
    unsigned top = 63 - (unsigned)__builtin_clzll(ns);
    return (top - 4) * 32 + (unsigned)(ns >> (top - 5) & 31);
}

static double bucket_us(unsigned b)
{
    if (b < 32)
        return b / 1000.0;
    return (double)((32ull + b % 32) << (b / 32 - 1)) / 1000.0;
}

static double percentile(double part)
{
    uint64_t seen = 0, wanted = (uint64_t)((double)n.done * part);
    for (unsigned b = 0; b < BUCKETS; b++)
        if ((seen += histogram[b]) > wanted)
            return bucket_us(b);
    return 0;
}

/* Up to BATCH frames without waiting; their lengths are in `lengths`. */
static unsigned receive(unsigned *lengths)
{
    static struct mmsghdr messages[BATCH];
    static struct iovec parts[BATCH];
    for (unsigned i = 0; i < BATCH && !parts[i].iov_len; i++) {
        parts[i] = (struct iovec){replies[i], FRAME};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    int got = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
    for (int i = 0; i < got; i++)
        lengths[i] = messages[i].msg_len;
    return got > 0 ? (unsigned)got : 0;
}

static void find_server(void)
{
    unsigned lengths[BATCH];
    uint8_t f[FRAME_MIN] = {0};
    for (int attempt = 0; attempt < 300; attempt++) {
        wire_put_header(f, wire_all(), own, o.shelf, o.slot, COMMAND_CONFIG, USER_TAG);
        send(fd, f, sizeof f, 0);
        for (uint64_t until = now_ns() + 100000000; now_ns() < until;)
            for (unsigned i = 0, seen = receive(lengths); i < seen; i++)
                if (lengths[i] >= CONFIG_HEADER && wire_is_reply(replies[i]) &&
                    wire_of(replies[i])->command == COMMAND_CONFIG) {
                    memcpy(server, wire_of(replies[i])->src, MAC_BYTES);
                    return;
                }
    }
    fprintf(stderr, "load: no target serves e%u.%u\n", o.shelf, o.slot);
    exit(1);
}

static int writes_now(void)
{
    if (!strcmp(o.rw, "randrw"))
        return chance() >> 40 & 1;
    return !strcmp(o.rw, "write") || !strcmp(o.rw, "randwrite");
}

static uint64_t next_lba(void)
{
    uint64_t places = o.range / o.sectors;
    int sequential = !strcmp(o.rw, "read") || !strcmp(o.rw, "write");
    return (sequential ? position++ % places : chance() % places) * o.sectors;
}

/* A request in `f`; its length. */
static unsigned compose(uint8_t *f, uint64_t now)
{
    uint32_t tag = USER_TAG | (sequence & TAG_MASK);
    struct pending *p = &table[sequence++ % TABLE];
    unsigned address = o.slot + (o.slots > 1 ? (unsigned)(chance() % o.slots) : 0);
    *p = (struct pending){now, next_lba(), tag, (uint32_t)writes_now()};
    wire_put_header(f, server, own, o.shelf + address / 255, address % 255, COMMAND_ATA, tag);
    struct wire_registers *asks = &wire_at(f)->ata;
    *asks = (struct wire_registers){.count = (uint8_t)o.sectors};
    asks->flags = p->write ? AFLAG_EXTENDED | AFLAG_WRITE : AFLAG_EXTENDED;
    asks->opcode = p->write ? WRITE_SECTORS_EXT : READ_SECTORS_EXT;
    wire_put_little(asks->lba, LBA_BYTES, p->lba);
    outstanding++;
    if (!p->write)
        return ATA_HEADER;
    for (unsigned s = 0; s < o.sectors; s++) {
        uint64_t words[2] = {STAMP, p->lba + s};
        memcpy(f + ATA_HEADER + s * SECTOR, words, sizeof words);
        memcpy(f + ATA_HEADER + (s + 1) * SECTOR - sizeof words, words, sizeof words);
    }
    return ATA_HEADER + o.sectors * SECTOR;
}

static void send_some(unsigned count)
{
    static struct mmsghdr messages[BATCH];
    static struct iovec parts[BATCH];
    uint64_t now = now_ns();
    for (unsigned i = 0; i < count; i++) {
        parts[i] = (struct iovec){frames[i], compose(frames[i], now)};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    for (unsigned done = 0; done < count;) {
        int sent = sendmmsg(fd, messages + done, count - done, 0);
        if (sent > 0)
            done += (unsigned)sent;
        else if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS)
            fail("send");
        else
            n.unsent++;
    }
}

static int stamped(const uint8_t *data, uint64_t lba)
{
    uint64_t words[4];
    for (unsigned s = 0; s < o.sectors; s++, data += SECTOR) {
        memcpy(words, data, 16);
        memcpy(words + 2, data + SECTOR - 16, 16);
        if (words[0] != STAMP || words[1] != lba + s || words[2] != STAMP || words[3] != lba + s)
            return 0;
    }
    return 1;
}

static int carries(const uint8_t *frame, unsigned length, uint64_t lba)
{
    return length >= ATA_HEADER + o.sectors * SECTOR && (o.blind || stamped(frame + ATA_HEADER, lba));
}

static void judge(const uint8_t *frame, unsigned length, uint64_t now)
{
    if (length < ATA_HEADER || !wire_is_reply(frame) || wire_of(frame)->command != COMMAND_ATA)
        return;
    uint32_t tag = wire_tag(frame);
    struct pending *p = &table[tag % TABLE];
    if (!p->sent_ns || p->tag != tag) {
        n.late++;
        return;
    }
    histogram[bucket(now - p->sent_ns)]++;
    n.done++;
    n.answered++;
    if (wire_is_error(frame) || wire_failed(frame))
        n.errors++;
    else if (!p->write && !carries(frame, length, p->lba))
        n.bad++;
    p->sent_ns = 0;
    outstanding--;
}

/* Tags are given in order, so the oldest request is always the next to be looked at. */
static void forget_lost(uint64_t now)
{
    for (; oldest != sequence; oldest++) {
        struct pending *p = &table[oldest % TABLE];
        if (!p->sent_ns)
            continue;
        if (now < p->sent_ns + patience_ns)
            return;
        p->sent_ns = 0;
        outstanding--;
        n.lost++;
    }
}

static unsigned take_replies(void)
{
    unsigned lengths[BATCH], seen = receive(lengths);
    uint64_t now = now_ns();
    for (unsigned i = 0; i < seen; i++)
        judge(replies[i], lengths[i], now);
    return seen;
}

/* Until a reply comes or it is time for the next request, and for a moment at most. */
static void rest(uint64_t until, uint64_t now)
{
    uint64_t left = until > now ? until - now : 0;
    struct timespec most = {.tv_nsec = (long)(left < LOOK_NS ? left : LOOK_NS)};
    ppoll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, &most, NULL);
}

static void run(double seconds)
{
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), checked = start, issued = 0;
    for (uint64_t now = start; now < end; now = now_ns()) {
        unsigned seen = take_replies();
        unsigned room = sequence - oldest < TABLE - BATCH ? o.depth - outstanding : 0;
        if (o.rate > 0) {
            uint64_t due = (uint64_t)((double)(now - start) * o.rate / 1e9);
            room = due > issued ? (due - issued < room ? (unsigned)(due - issued) : room) : 0;
        }
        room = room < BATCH ? room : BATCH;
        if (room) {
            send_some(room);
            issued += room;
        }
        if (now - checked > LOOK_NS) {
            checked = now;
            forget_lost(now);
        }
        if (!seen && !room && o.rest)
            rest(start + (uint64_t)((double)(issued + 1) / o.rate * 1e9), now);
        else if (!seen && !room)
            __builtin_ia32_pause();
    }
}

/* Everything still outstanding gets its time to be answered. */
static void settle(void)
{
    for (uint64_t end = now_ns() + patience_ns; outstanding && now_ns() < end;)
        take_replies();
    n.lost += outstanding;
}

static void open_socket(void)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE)};
    struct ifreq request = {0};
    int big = 64 << 20, bypass = 1;
    socklen_t size = sizeof receive_buffer;
    fd = socket(AF_PACKET, SOCK_RAW, 0);
    if (fd < 0)
        fail("socket");
    snprintf(request.ifr_name, IFNAMSIZ, "%s", o.interface);
    if (ioctl(fd, SIOCGIFHWADDR, &request))
        fail(o.interface);
    memcpy(own, request.ifr_hwaddr.sa_data, 6);
    address.sll_ifindex = (int)if_nametoindex(o.interface);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &bypass, sizeof bypass);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big);
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, &size);
    if (bind(fd, (struct sockaddr *)&address, sizeof address))
        fail("bind");
}

static void parse(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: load IF SHELF SLOT [options]\n");
        exit(2);
    }
    o.interface = argv[1], o.shelf = (unsigned)atoi(argv[2]), o.slot = (unsigned)atoi(argv[3]);
    for (int i = 4; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(argv[i], "--blind")) {
            o.blind = 1;
            continue;
        }
        if (!strcmp(argv[i], "--rest")) {
            o.rest = 1;
            continue;
        }
        i++;
        if (!strcmp(argv[i - 1], "--rw"))
            o.rw = value;
        else if (!strcmp(argv[i - 1], "--sectors"))
            o.sectors = (unsigned)atoi(value);
        else if (!strcmp(argv[i - 1], "--depth"))
            o.depth = (unsigned)atoi(value);
        else if (!strcmp(argv[i - 1], "--seconds"))
            o.seconds = atof(value);
        else if (!strcmp(argv[i - 1], "--range"))
            o.range = strtoull(value, NULL, 10);
        else if (!strcmp(argv[i - 1], "--slots"))
            o.slots = (unsigned)atoi(value);
        else if (!strcmp(argv[i - 1], "--rate"))
            o.rate = atof(value);
        else if (!strcmp(argv[i - 1], "--seed"))
            o.seed = strtoull(value, NULL, 10) | 1;
        else if (!strcmp(argv[i - 1], "--patience"))
            o.patience = atof(value);
        else {
            fprintf(stderr, "load: unknown option %s\n", argv[i - 1]);
            exit(2);
        }
    }
    if (!o.sectors || o.sectors > 255 || !o.depth || o.depth > DEPTH_MAX || o.range < o.sectors || (o.rest && o.rate <= 0))
        exit(2);
    patience_ns = (uint64_t)(o.patience * 1e9);
}

int main(int argc, char **argv)
{
    parse(argc, argv);
    open_socket();
    find_server();
    for (unsigned i = 0; i < BATCH; i++)
        for (unsigned b = 0; b < sizeof frames[i]; b++)
            frames[i][b] = (uint8_t)(b * 131 + i); /* neither zero nor constant */
    uint64_t warm = (uint64_t)(o.seconds * 0.1e9);
    run((double)warm / 1e9);
    memset(histogram, 0, sizeof histogram);
    n.done = 0;
    uint64_t start = now_ns();
    run(o.seconds);
    double elapsed = (double)(now_ns() - start) / 1e9;
    uint64_t done = n.done;
    settle();
    printf("{\"iops\": %.0f, \"mbps\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"done\": %llu, "
           "\"answered\": %llu, \"lost\": %llu, \"late\": %llu, \"errors\": %llu, \"bad\": %llu, \"retried_sends\": %llu, "
           "\"receive_buffer\": %d, \"seconds\": %.3f}\n",
           (double)done / elapsed, (double)done / elapsed * o.sectors * SECTOR / 1e6, percentile(.5), percentile(.99),
           percentile(.999), (unsigned long long)done, (unsigned long long)n.answered, (unsigned long long)n.lost, (unsigned long long)n.late,
           (unsigned long long)n.errors, (unsigned long long)n.bad, (unsigned long long)n.unsent, receive_buffer, elapsed);
    return 0;
}
