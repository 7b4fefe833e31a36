/* What is where in a frame (AoEr11 sections 2 and 3). No other file in C knows, and a test compares this one with
 * aoe/wire, which is the same in Python. Every member is made of bytes, so a frame may lie anywhere. The caller has looked
 * at the length before it reads a field. Numbers are big-endian, those in ATA registers little-endian. */
#ifndef AOE_WIRE_H
#define AOE_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "generated.h"

enum { LBA_BYTES = 6 };

/* What a frame of ours ends with, behind header and data: a signature, and the target's id as IDENTIFY has it. */
enum { SIGNATURE_BYTES = sizeof STREAM_SIGNATURE - 1, INSTANCE_BYTES = STAMP_TRAILER - SIGNATURE_BYTES };

/* Of an ATA request, and of its reply in the same places. */
struct wire_registers {
    uint8_t flags;
    union {
        uint8_t feature, error;
    };
    uint8_t count;
    union {
        uint8_t opcode, status;
    };
    uint8_t lba[LBA_BYTES], stream[2]; /* the latter is reserved by the standard (order rule T9) */
};

struct wire {
    uint8_t dst[MAC_BYTES], src[MAC_BYTES], type[2];
    uint8_t verfl, error, shelf[2], slot, command, tag[4];
    union {
        struct wire_registers ata;
        struct {
            uint8_t buffers[2], firmware[2], sectors, vercmd, length[2];
        } config;
    };
};

_Static_assert(offsetof(struct wire, ata) == AOE_HEADER && sizeof(struct wire) == ATA_HEADER, "nothing between fields");

/* A range of a TRIM, and how many there are in a sector of them. */
struct wire_range {
    uint8_t lba[LBA_BYTES], count[2];
};

enum { WIRE_RANGES = SECTOR / sizeof(struct wire_range) };

static inline const struct wire *wire_of(const uint8_t *raw) { return (const struct wire *)raw; }

static inline struct wire *wire_at(uint8_t *raw) { return (struct wire *)raw; }

static inline const struct wire_range *wire_ranges(const uint8_t *raw)
{
    return (const struct wire_range *)(raw + ATA_HEADER);
}

static inline uint16_t wire_big16(const uint8_t at[2]) { return (uint16_t)(at[0] << 8 | at[1]); }

static inline void wire_put_big16(uint8_t at[2], uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline uint64_t wire_little(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    while (bytes--)
        value = value << 8 | at[bytes];
    return value;
}

static inline void wire_put_little(uint8_t *at, size_t bytes, uint64_t value)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static inline int same_mac(const uint8_t *one, const uint8_t *other) { return !memcmp(one, other, MAC_BYTES); }

/* ff:ff:ff:ff:ff:ff */
static inline const uint8_t *wire_all(void)
{
    static const uint8_t all[MAC_BYTES] = {255, 255, 255, 255, 255, 255};
    return all;
}

static inline int wire_is_group(const uint8_t *mac) { return *mac & 1; }

static inline int wire_is_aoe(const uint8_t *raw, size_t length)
{
    return length >= AOE_HEADER && wire_big16(wire_of(raw)->type) == ETHERTYPE;
}

static inline int wire_is_reply(const uint8_t *raw) { return (wire_of(raw)->verfl & FLAG_RESPONSE) != 0; }

static inline int wire_is_error(const uint8_t *raw) { return (wire_of(raw)->verfl & FLAG_ERROR) != 0; }

static inline uint32_t wire_version(const uint8_t *raw) { return wire_of(raw)->verfl >> 4; }

static inline uint16_t wire_shelf(const uint8_t *raw) { return wire_big16(wire_of(raw)->shelf); }

/* Shelf and slot in one number. */
static inline uint32_t wire_address(const uint8_t *raw) { return (uint32_t)wire_shelf(raw) << 8 | wire_of(raw)->slot; }

static inline void wire_put_address(uint8_t *raw, uint32_t shelf, uint32_t slot)
{
    wire_put_big16(wire_at(raw)->shelf, shelf);
    wire_at(raw)->slot = (uint8_t)slot;
}

static inline uint32_t wire_tag(const uint8_t *raw)
{
    const uint8_t *tag = wire_of(raw)->tag;
    return (uint32_t)wire_big16(tag) << 16 | wire_big16(tag + 2);
}

static inline void wire_put_tag(uint8_t *raw, uint32_t tag)
{
    wire_put_big16(wire_at(raw)->tag, tag >> 16);
    wire_put_big16(wire_at(raw)->tag + 2, tag);
}

/* The 24 bytes before a request. */
static inline void wire_put_header(uint8_t *raw, const uint8_t *dst, const uint8_t *src, uint32_t shelf, uint32_t slot,
                              uint32_t command, uint32_t tag)
{
    struct wire *f = wire_at(raw);
    memcpy(f->dst, dst, MAC_BYTES);
    memcpy(f->src, src, MAC_BYTES);
    wire_put_big16(f->type, ETHERTYPE);
    f->verfl = VERSION << 4;
    f->error = 0;
    wire_put_address(raw, shelf, slot);
    f->command = (uint8_t)command;
    wire_put_tag(raw, tag);
}

static inline uint64_t wire_lba(const uint8_t *raw) { return wire_little(wire_of(raw)->ata.lba, LBA_BYTES); }

/* Whether a drive has not done what it was asked: busy, device fault, data request or error. */
static inline int wire_failed(const uint8_t *raw) { return (wire_of(raw)->ata.status & FAILURES) != 0; }

#endif
