/* One frame against one gate. The input is a struct of facts, then the frame; see read_gate and read_frame. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "target/parse.h"

#define CHECK(what) ((what) ? (void)0 : broken(#what, __LINE__))

enum { LISTED_MAX = 3, FACTS = 20 };

#ifdef AOE_FUZZ_PLANT
enum { TOLD_TOO_MUCH = 8 };
#else
enum { TOLD_TOO_MUCH = 0 };
#endif

struct facts {
    struct gate gate;
    uint8_t *macs, port_mac[6];
    int fix;
};

static void broken(const char *what, int line)
{
    fprintf(stderr, "fuzz_parse.c:%d: not so: %s\n", line, what);
    abort();
}

/* Lists are made of a few MACs, the frame's own source among them if it is one of these. */
static uint8_t *make_list(uint8_t **to, uint32_t count, uint8_t choice)
{
    uint8_t *list = *to;
    for (uint32_t i = 0; i < count; i++, *to += 6)
        memcpy(*to, (uint8_t[]){2, 0, 0, 0, 0, (uint8_t)(choice >> 2 * i & 3)}, 6);
    return list;
}

static uint64_t number(const uint8_t *bytes, int length)
{
    uint64_t value = 0;
    for (int i = 0; i < length; i++)
        value = value << 8 | bytes[i];
    return value;
}

static void read_gate(struct facts *facts, const uint8_t data[FACTS])
{
    uint32_t masked = (uint32_t)(data[0] & 3), reserved = (uint32_t)(data[0] >> 2 & 3);
    uint8_t *at = facts->macs = malloc(6 * (masked + reserved));
    memcpy(facts->port_mac, data + 8, 6);
    facts->fix = data[1];
    facts->gate = (struct gate){
        .port_mac = facts->port_mac,
        .sectors_max = (uint32_t)number(data + 2, 2),
        .masked_count = masked,
        .reserved_count = reserved,
        .flags = data[4],
        .block_sectors = 1u << (data[0] >> 4 & 3),
        .sectors = number(data + 14, 6),
    };
    facts->gate.masked = make_list(&at, masked, data[5]);
    facts->gate.reserved = make_list(&at, reserved, data[6]);
}

/* In memory of exactly its size. The facts say how far zeros stretch it, and which fields to put right:
 * few mutations would pass the gate otherwise. */
static uint8_t *read_frame(const struct facts *facts, const uint8_t *data, size_t size, size_t *length, uint8_t sectors)
{
    *length = size + (size_t)sectors * SECTOR;
    uint8_t *frame = calloc(1, *length);
    struct wire *f = wire_at(frame);
    if (size)
        memcpy(frame, data, size);
    if (size < 16)
        return frame;
    if (facts->fix & 1)
        memcpy(f->dst, facts->fix & 2 ? wire_all() : facts->port_mac, MAC_BYTES);
    if (facts->fix & 4)
        memcpy(f->src, (uint8_t[]){2, 0, 0, 0, 0, (uint8_t)(facts->fix >> 6)}, MAC_BYTES);
    if (facts->fix & 8) {
        wire_put_big16(f->type, ETHERTYPE);
        f->verfl = VERSION << 4;
    }
    if (facts->fix & 16 && *length >= ATA_HEADER)
        wire_put_little(f->ata.lba, LBA_BYTES, wire_lba(frame) & 0xFFFF);
    return frame;
}

static int listed(const uint8_t *mac, const uint8_t *list, uint32_t count)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++)
        found += memcmp(list + 6 * i, mac, 6) == 0;
    return found || !count;
}

static int is_among(uint8_t opcode, const char *opcodes) { return opcode && strchr(opcodes, opcode) != NULL; }

static int is_extended(uint8_t opcode) { return is_among(opcode, "\x24\x25\x29\x34\x35\x39\x3D\xCE\x42"); }

static int is_read(uint8_t opcode) { return is_among(opcode, "\x20\x24\x25\x29\xC4\xC8"); }

static int is_write(uint8_t opcode) { return is_among(opcode, "\x30\x34\x35\x39\x3D\xC5\xCA\xCE"); }

static uint64_t lba_of(const uint8_t *frame)
{
    return is_extended(wire_of(frame)->ata.opcode) ? wire_lba(frame) : wire_lba(frame) % (1 << 28);
}

static void check_extent(const uint8_t *frame, const struct gate *gate, const struct request *r)
{
    CHECK(r->lba == lba_of(frame) && r->count == wire_of(frame)->ata.count);
    CHECK(r->count >= 1 && r->count <= gate->sectors_max);
    CHECK(r->lba < gate->sectors && gate->sectors - r->lba >= r->count);
}

static void check_write(const uint8_t *frame, size_t length, const struct gate *gate, const struct request *r)
{
    uint8_t opcode = wire_of(frame)->ata.opcode;
    uint64_t first = r->lba, last = r->lba + r->count;
    CHECK(is_write(opcode));
    CHECK(!(gate->flags & (AOE_READ_ONLY | AOE_PASS)));
    CHECK(length >= ATA_HEADER && (length - ATA_HEADER) / SECTOR >= r->count);
    CHECK(first % gate->block_sectors == 0 && last % gate->block_sectors == 0);
    CHECK(r->durable == is_among(opcode, "\x3D\xCE"));
}

/* Python's, but by range: each is inside the disk, and rounding makes none smaller. */
static void check_ranges(const uint8_t *frame, size_t length, const struct gate *gate, const struct request *r)
{
    struct spans spans, rounded;
    const struct wire_registers *asked = &wire_of(frame)->ata;
    int is_trim = asked->opcode == 0x06;
    CHECK(is_trim == parse_is_trim(frame));
    if (!is_trim) {
        CHECK(r->verdict == V_UP_READ ? is_among(asked->opcode, "\x40\x42") : is_write(asked->opcode));
        CHECK(r->count && r->lba < gate->sectors && gate->sectors - r->lba >= r->count);
        return;
    }
    CHECK(r->verdict == V_UP_CHANGE && !(gate->flags & AOE_READ_ONLY) && asked->feature == 1);
    CHECK((length - ATA_HEADER) / SECTOR >= asked->count && asked->count >= 1 && asked->count <= gate->sectors_max);
    CHECK(parse_trim(frame, 0, gate->sectors, &spans) && parse_trim(frame, 7, UINT64_MAX, &rounded));
    CHECK(spans.count == rounded.count && spans.count <= asked->count * 64u);
    for (uint32_t i = 0; i < spans.count && i < SPANS_MAX; i++) {
        CHECK(spans.each[i].first < spans.each[i].last && spans.each[i].last <= gate->sectors);
        CHECK(spans.hull.first <= spans.each[i].first && spans.each[i].last <= spans.hull.last);
        CHECK(rounded.each[i].first <= spans.each[i].first && spans.each[i].last <= rounded.each[i].last);
        CHECK(rounded.each[i].first % 8 == 0 && rounded.each[i].last % 8 == 0);
    }
}

static void check_request(const uint8_t *frame, size_t length, const struct gate *gate, const struct request *r)
{
    const struct wire *f = wire_of(frame);
    int masked = !listed(f->src, gate->masked, gate->masked_count);
    int reserved = !listed(f->src, gate->reserved, gate->reserved_count);
    CHECK((r->verdict == V_DROP) == masked);
    CHECK(r->reason == (masked ? AOE_MASKED : AOE_COUNTERS));
    if (r->verdict == V_DROP || r->verdict == V_UP)
        return;
    CHECK(!reserved && gate->sectors_max);
    CHECK(length >= ATA_HEADER && f->verfl >> 4 == 1 && !(f->verfl & 8) && f->command == 0);
    if (r->verdict == V_FLUSH)
        CHECK(is_among(f->ata.opcode, "\xE7\xEA") && !(gate->flags & AOE_PASS));
    int is_flush = is_among(f->ata.opcode, "\xE7\xEA");
    CHECK(r->verdict == V_UP_ORDERED ? !r->asks || (gate->flags & AOE_PASS && is_flush) : r->asks);
    if (r->verdict == V_UP_READ || r->verdict == V_UP_CHANGE)
        check_ranges(frame, length, gate, r);
    if (r->verdict == V_READ || r->verdict == V_WRITE)
        check_extent(frame, gate, r);
    if (r->verdict == V_READ)
        CHECK(is_read(f->ata.opcode));
    if (r->verdict == V_WRITE)
        check_write(frame, length, gate, r);
}

/* What must not be left to Python: a request that the engine can serve. */
static void check_served(const uint8_t *frame, size_t length, const struct gate *gate, const struct request *r)
{
    const struct wire *f = wire_of(frame);
    if (length < ATA_HEADER || f->verfl >> 4 != 1 || f->command || !gate->sectors_max || r->verdict == V_DROP ||
        !listed(f->src, gate->reserved, gate->reserved_count))
        return;
    uint64_t lba = lba_of(frame);
    uint8_t opcode = f->ata.opcode, count = f->ata.count;
    int fits = count && count <= gate->sectors_max && lba + count <= gate->sectors;
    CHECK((r->verdict == V_READ) == (fits && is_read(opcode)));
    if (is_among(opcode, "\x40\x42") && count)
        CHECK((r->verdict == V_UP_READ) == (lba + count <= gate->sectors));
    if (fits && is_write(opcode) && !(gate->flags & (AOE_READ_ONLY | AOE_PASS)) && gate->block_sectors == 1)
        CHECK((r->verdict == V_WRITE) == (length >= ATA_HEADER + (size_t)count * SECTOR));
    if (fits && is_write(opcode) && !(gate->flags & AOE_READ_ONLY) && gate->flags & AOE_PASS)
        CHECK((r->verdict == V_UP_CHANGE) == (length >= ATA_HEADER + (size_t)count * SECTOR));
}

static void check_reply(const uint8_t *frame, const uint8_t *port_mac)
{
    uint8_t *request = malloc(ATA_HEADER), *reply = malloc(ATA_HEADER);
    struct wire expected = *wire_of(frame);
    memcpy(request, frame, ATA_HEADER);
    parse_reply(reply, request, port_mac);
    CHECK(!memcmp(request, frame, ATA_HEADER));
    parse_reply(request, request, port_mac);
    CHECK(!memcmp(request, reply, ATA_HEADER));
    memcpy(expected.dst, wire_of(frame)->src, MAC_BYTES);
    memcpy(expected.src, port_mac, MAC_BYTES);
    expected.verfl = 0x18;
    expected.error = expected.ata.error = expected.ata.count = 0;
    expected.ata.status = 0x40;
    memset(expected.ata.stream, 0, sizeof expected.ata.stream);
    CHECK(!memcmp(reply, &expected, sizeof expected));
    free(request);
    free(reply);
}

static void check_address(const uint8_t *frame, size_t length, const uint8_t *port_mac, int goes_on, uint32_t reason)
{
    const struct wire *f = wire_of(frame);
    int ours = length >= AOE_HEADER && number(f->type, 2) == 0x88A2 && !(f->verfl & 8);
    int to_us = ours && (same_mac(f->dst, port_mac) || same_mac(f->dst, wire_all()));
    uint32_t expected = !ours ? AOE_COUNTERS : !to_us ? AOE_FOREIGN_DESTINATION : AOE_GROUP_SOURCE;
    CHECK(goes_on == (to_us && !(*f->src & 1)));
    CHECK(goes_on ? reason == AOE_COUNTERS : reason == expected);
}

static void check_frame(const struct facts *facts, const uint8_t *frame, size_t length)
{
    uint16_t shelf = 0;
    uint8_t slot = 0;
    uint32_t reason;
    int goes_on = parse_address(frame, length + TOLD_TOO_MUCH, facts->port_mac, &shelf, &slot, &reason);
    check_address(frame, length, facts->port_mac, goes_on, reason);
    if (!goes_on)
        return;
    CHECK(shelf == number(wire_of(frame)->shelf, 2) && slot == wire_of(frame)->slot);
    struct request r = parse_request(frame, length, &facts->gate);
    check_request(frame, length, &facts->gate, &r);
    check_served(frame, length, &facts->gate, &r);
    if (length >= ATA_HEADER)
        check_reply(frame, facts->port_mac);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct facts facts;
    size_t length;
    if (size < FACTS)
        return 0;
    read_gate(&facts, data);
    uint8_t *frame = read_frame(&facts, data + FACTS, size - FACTS, &length, data[7]);
    check_frame(&facts, frame, length);
    free(frame);
    free(facts.macs);
    return 0;
}
