#include "parse.h"

#include <string.h>

#include "abi.h"

static int listed(const uint8_t *mac, const uint8_t *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (same_mac(mac, list + MAC_BYTES * i))
            return 1;
    return count == 0;
}

int parse_address(const uint8_t *frame, size_t length, const uint8_t *port_mac, uint16_t *shelf,
                  uint8_t *slot, uint32_t *reason)
{
    const struct wire *f = wire_of(frame);
    *reason = AOE_COUNTERS;
    if (!wire_is_aoe(frame, length) || wire_is_reply(frame))
        return 0;
    if (!same_mac(f->dst, port_mac) && !same_mac(f->dst, wire_all())) {
        *reason = AOE_FOREIGN_DESTINATION;
        return 0;
    }
    if (wire_is_group(f->src)) {
        *reason = AOE_GROUP_SOURCE;
        return 0;
    }
    *shelf = wire_shelf(frame);
    *slot = f->slot;
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
    return extended ? wire_lba(frame) : wire_lba(frame) & LBA28_MASK;
}

int parse_is_trim(const uint8_t *frame) { return wire_of(frame)->ata.opcode == DATA_SET_MANAGEMENT; }

/* Each range is an LBA of 48 bits and a count of 16, little-endian; a count of 0 is none (ATA8-ACS 7.9). */
int parse_trim(const uint8_t *frame, uint64_t block_mask, uint64_t sectors, struct spans *spans)
{
    const struct wire_range *range = wire_ranges(frame), *end = range + wire_of(frame)->ata.count * WIRE_RANGES;
    spans->count = 0;
    for (; range < end; range++) {
        uint64_t lba = wire_little(range->lba, LBA_BYTES), count = wire_little(range->count, sizeof range->count);
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
    const struct wire_registers *asked = &wire_of(frame)->ata;
    return asked->feature == DSM_TRIM && asked->count && asked->count <= gate->sectors_max &&
           !(gate->flags & AOE_READ_ONLY) && length >= ATA_HEADER + asked->count * (size_t)SECTOR &&
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

/* What is for the disk: as it is served where the disk is whole. */
static struct request parse_data(struct request r, const uint8_t *frame, size_t length, const struct gate *gate,
                                 enum form form, int extended)
{
    r.verdict = V_UP_ORDERED;
    if (form == F_PASS)
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
    r.count = wire_of(frame)->ata.count;
    if (form == F_VERIFY)
        return parse_verify(r, extended, gate);
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

/* Python refuses what would change it, which has its place by range, its age and its limits for all that. */
static enum verdict on_failed_disk(enum verdict verdict)
{
    return verdict == V_WRITE ? V_UP_CHANGE : verdict == V_FLUSH ? V_UP_ORDERED : verdict;
}

struct request parse_request(const uint8_t *frame, size_t length, const struct gate *gate)
{
    const struct wire *f = wire_of(frame);
    struct request r = {.verdict = V_UP, .reason = AOE_COUNTERS};
    int extended, fua;
    if (!listed(f->src, gate->masked, gate->masked_count)) {
        r.verdict = V_DROP;
        r.reason = AOE_MASKED;
        return r;
    }
    if (wire_version(frame) != VERSION || f->command != COMMAND_ATA || length < ATA_HEADER)
        return r;
    r.identifies = gate->sectors_max && f->ata.opcode == IDENTIFY_DEVICE;
    if (!gate->sectors_max || !listed(f->src, gate->reserved, gate->reserved_count))
        return r;
    enum form form = form_of(f->ata.opcode, &extended, &fua);
    r.ages = form == F_WRITE || form == F_FLUSH || form == F_TRIM;
    if (form == F_NONE)
        return r;
    r.durable = (uint8_t)fua;
    r = parse_data(r, frame, length, gate, form, extended);
    r.asks = r.verdict != V_UP_ORDERED;
    if (gate->flags & AOE_PASS)
        r.verdict = on_failed_disk(r.verdict);
    return r;
}

void parse_reply(uint8_t *reply, const uint8_t *request, const uint8_t *port_mac)
{
    struct wire *f = wire_at(reply);
    if (reply != request)
        memcpy(reply, request, ATA_HEADER);
    memcpy(f->dst, f->src, MAC_BYTES);
    memcpy(f->src, port_mac, MAC_BYTES);
    f->verfl = VERSION << 4 | FLAG_RESPONSE;
    f->error = 0;
    f->ata.error = 0;
    f->ata.count = 0;
    f->ata.status = READY;
    memset(f->ata.stream, 0, sizeof f->ata.stream);
}
