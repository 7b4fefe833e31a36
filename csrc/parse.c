#include "parse.h"

#include <string.h>

#include "abi.h"

enum { DST = 0, SRC = 6, TYPE = 12, VERFL = 14, ERROR = 15, SHELF = 16, SLOT = 18, COMMAND = 19 };
enum { AFLAGS = 24, FEATURE = 25, COUNT = 26, OPCODE = 27, LBA = 28, LBA_RESERVED = 34 };
enum { FLAG_RESPONSE = 0x08, COMMAND_ATA = 0, RANGE = 8, RANGE_COUNT = 6 };

static const uint8_t broadcast[6] = {255, 255, 255, 255, 255, 255};

static int is_mac(const uint8_t *a, const uint8_t *b) { return memcmp(a, b, 6) == 0; }

static int listed(const uint8_t *mac, const uint8_t *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (is_mac(mac, list + 6 * i))
            return 1;
    return count == 0;
}

int parse_address(const uint8_t *frame, size_t length, const uint8_t *port_mac, uint16_t *shelf,
                  uint8_t *slot, uint32_t *reason)
{
    *reason = AOE_COUNTERS;
    if (length < AOE_HEADER || (frame[TYPE] << 8 | frame[TYPE + 1]) != ETHERTYPE)
        return 0;
    if (frame[VERFL] & FLAG_RESPONSE)
        return 0;
    if (!is_mac(frame + DST, port_mac) && !is_mac(frame + DST, broadcast)) {
        *reason = AOE_FOREIGN_DESTINATION;
        return 0;
    }
    if (frame[SRC] & 1) {
        *reason = AOE_GROUP_SOURCE;
        return 0;
    }
    *shelf = (uint16_t)(frame[SHELF] << 8 | frame[SHELF + 1]);
    *slot = frame[SLOT];
    return 1;
}

enum form { F_NONE, F_READ, F_WRITE, F_FLUSH, F_VERIFY, F_TRIM, F_PASS };

/* How an ATA opcode is served: F_PASS are those that touch data in ways left to Python. */
static enum form form_of(uint8_t opcode, int *extended, int *fua)
{
    *extended = *fua = 0;
    switch (opcode) {
    case READ_SECTORS_EXT: case READ_DMA_EXT: case READ_MULTIPLE_EXT:
        *extended = 1;
        return F_READ;
    case READ_SECTORS: case READ_DMA: case READ_MULTIPLE:
        return F_READ;
    case WRITE_DMA_FUA_EXT: case WRITE_MULTIPLE_FUA_EXT:
        *extended = *fua = 1;
        return F_WRITE;
    case WRITE_SECTORS_EXT: case WRITE_DMA_EXT: case WRITE_MULTIPLE_EXT:
        *extended = 1;
        return F_WRITE;
    case WRITE_SECTORS: case WRITE_DMA: case WRITE_MULTIPLE:
        return F_WRITE;
    case FLUSH_CACHE: case FLUSH_CACHE_EXT:
        return F_FLUSH;
    case READ_VERIFY_SECTORS_EXT:
        *extended = 1;
        return F_VERIFY;
    case READ_VERIFY_SECTORS:
        return F_VERIFY;
    case DATA_SET_MANAGEMENT:
        return F_TRIM;
    case SET_FEATURES:
        return F_PASS;
    default:
        return F_NONE;
    }
}

static uint64_t lba_of(const uint8_t *frame, int extended)
{
    uint64_t lba = 0;
    for (int i = 5; i >= 0; i--)
        lba = lba << 8 | frame[LBA + i];
    return extended ? lba : lba & LBA28_MASK;
}

int parse_is_trim(const uint8_t *frame) { return frame[OPCODE] == DATA_SET_MANAGEMENT; }

/* Each range is an LBA of 48 bits and a count of 16, little-endian; a count of 0 is none (ATA8-ACS 7.9). */
int parse_trim(const uint8_t *frame, uint64_t block_mask, uint64_t sectors, struct spans *spans)
{
    const uint8_t *end = frame + ATA_HEADER + frame[COUNT] * (size_t)SECTOR;
    spans->count = 0;
    for (const uint8_t *at = frame + ATA_HEADER; at < end; at += RANGE) {
        uint64_t lba = 0, count = (uint64_t)at[RANGE_COUNT + 1] << 8 | at[RANGE_COUNT];
        for (int i = RANGE_COUNT - 1; i >= 0; i--)
            lba = lba << 8 | at[i];
        if (lba + count > sectors && count)
            return 0;
        if (count)
            spans_add(spans, span_rounded(lba, count, block_mask));
    }
    return 1;
}

static int trims(const uint8_t *frame, size_t length, const struct gate *gate)
{
    struct spans spans;
    return frame[FEATURE] == DSM_TRIM && frame[COUNT] && frame[COUNT] <= gate->sectors_max &&
           !(gate->flags & AOE_READ_ONLY) && length >= ATA_HEADER + frame[COUNT] * (size_t)SECTOR &&
           parse_trim(frame, 0, gate->sectors, &spans);
}

static struct request parse_verify(struct request r, int extended, const struct gate *gate)
{
    if (!r.count)
        r.count = extended ? 65536 : 256;
    if (r.lba + r.count <= gate->sectors)
        r.verdict = V_UP_READ;
    return r;
}

struct request parse_request(const uint8_t *frame, size_t length, const struct gate *gate)
{
    struct request r = {.verdict = V_UP, .reason = AOE_COUNTERS};
    int extended, fua;
    if (!listed(frame + SRC, gate->masked, gate->masked_count)) {
        r.verdict = V_DROP;
        r.reason = AOE_MASKED;
        return r;
    }
    if (frame[VERFL] >> 4 != VERSION || frame[COMMAND] != COMMAND_ATA || length < ATA_HEADER)
        return r;
    r.identifies = gate->sectors_max && frame[OPCODE] == IDENTIFY_DEVICE;
    if (!gate->sectors_max || !listed(frame + SRC, gate->reserved, gate->reserved_count))
        return r;
    enum form form = form_of(frame[OPCODE], &extended, &fua);
    r.ages = form == F_WRITE || form == F_FLUSH;
    if (form == F_NONE)
        return r;
    r.verdict = V_UP_ORDERED;
    if (form == F_PASS || (form != F_READ && form != F_VERIFY && gate->flags & AOE_PASS))
        return r;
    if (form == F_FLUSH) {
        r.verdict = V_FLUSH;
        return r;
    }
    if (form == F_TRIM) {
        if (trims(frame, length, gate))
            r.verdict = V_UP_CHANGE;
        return r;
    }
    r.lba = lba_of(frame, extended);
    r.count = frame[COUNT];
    if (form == F_VERIFY)
        return parse_verify(r, extended, gate);
    r.durable = (uint8_t)fua;
    if (r.count == 0 || r.count > gate->sectors_max || r.lba + r.count > gate->sectors)
        return r;
    if (form == F_READ) {
        r.verdict = V_READ;
        return r;
    }
    uint64_t odd = (r.lba | r.count) & (gate->block_sectors - 1);
    if (gate->flags & AOE_READ_ONLY || length < ATA_HEADER + r.count * (size_t)SECTOR)
        return r;
    r.verdict = odd ? V_UP_CHANGE : V_WRITE;
    return r;
}

void parse_reply(uint8_t *reply, const uint8_t *request, const uint8_t *port_mac)
{
    uint8_t src[6];
    memcpy(src, request + SRC, 6);
    if (reply != request)
        memcpy(reply, request, ATA_HEADER);
    memcpy(reply + DST, src, 6);
    memcpy(reply + SRC, port_mac, 6);
    reply[VERFL] = VERSION << 4 | FLAG_RESPONSE;
    reply[ERROR] = 0;
    reply[FEATURE] = 0; /* the error register */
    reply[COUNT] = 0;
    reply[OPCODE] = READY; /* the status register */
    reply[LBA_RESERVED] = reply[LBA_RESERVED + 1] = 0;
}
