/* What IDENTIFY says, as aoe/initiator/facts.py and aoe/drive/identify.py have it. */
#ifndef AOE_FACTS_H
#define AOE_FACTS_H

#include "shared/wire.h"

int facts_unfit(const uint8_t *identity); /* why it cannot describe a disk, or WHY_NOT */
uint32_t facts_physical_block(const uint8_t *identity); /* bytes */
void facts_serial(const uint8_t *identity, uint8_t *serial); /* 20 bytes */
int facts_same_serial(const uint8_t *identity, const uint8_t *other);
/* What is left without what another drive has not of TRIM, its zeroes and FUA. FLUSH stays: a cache that cannot be
 * emptied everywhere is still to be emptied where it is. */
void facts_lessen(uint8_t *identity, const uint8_t *other);

static inline uint32_t word_of(const uint8_t *identity, uint32_t word)
{
    return (uint32_t)(identity[2 * word] | identity[2 * word + 1] << 8);
}

/* The vendor words of a target of ours, as aoe/drive/identify.py has them. Numbers are little-endian. */
struct vendor {
    uint8_t signature[sizeof VENDOR_SIGNATURE - 1], layout[2], age_ms[4], instance[8], features[2];
    uint8_t store_kind[2], store[16];
};

static inline const struct vendor *vendor_of(const uint8_t *identity)
{
    return (const struct vendor *)&identity[2 * VENDOR_WORD];
}

/* 512-byte range blocks that one TRIM may carry, 0 where there is no TRIM. */
static inline uint32_t trim_blocks_of(const uint8_t *identity)
{
    uint32_t blocks = word_of(identity, 105);
    return word_of(identity, 169) & 1 ? (blocks ? blocks : 1) : 0;
}

static inline int fua_of(const uint8_t *identity) { return (word_of(identity, 84) & 0xC040) == 0x4040; }

/* Whether sectors read as zeroes after a TRIM, and always: word 69. */
static inline int zeroes_of(const uint8_t *identity)
{
    return trim_blocks_of(identity) && (word_of(identity, 69) & TRIM_IS_ZERO) == TRIM_IS_ZERO;
}

static inline uint64_t sectors_of(const uint8_t *identity)
{
    uint32_t words = word_of(identity, 83) & 0x0400 ? 4 : 2, first = words == 4 ? 100 : 60;
    uint64_t sectors = 0;
    while (words--)
        sectors = sectors << 16 | word_of(identity, first + words);
    return sectors;
}

#endif
