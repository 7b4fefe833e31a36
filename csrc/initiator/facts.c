/* What IDENTIFY says of the disk at the end of a path, and why it cannot be used. */
#include <string.h>

#include "initiator.h"

enum { SERIAL_AT = 20, SERIAL_BYTES = 20, SIGNATURE_AT = 510 };

static uint8_t sum(const uint8_t *identity, uint32_t bytes)
{
    uint8_t total = 0;
    while (bytes--)
        total = (uint8_t)(total + identity[bytes]);
    return total;
}

static uint64_t sectors_max(const uint8_t *identity)
{
    return word_of(identity, 83) & HAS_LBA48 ? LBA48_SECTORS : LBA28_SECTORS;
}

int facts_unfit(const uint8_t *identity)
{
    uint64_t sectors = sectors_of(identity);
    if (identity[SIGNATURE_AT] == CHECKSUM_FOLLOWS && sum(identity, SECTOR))
        return WHY_CHECKSUM;
    if (!(word_of(identity, 49) & HAS_LBA))
        return WHY_NO_LBA;
    if (!sectors)
        return WHY_NO_SECTORS;
    return sectors > sectors_max(identity) ? WHY_TOO_LARGE : WHY_NONE;
}

/* Word 106 says whether it has a physical sector of several, and how many as a power of two. */
uint32_t facts_physical_block(const uint8_t *identity)
{
    uint32_t word = word_of(identity, 106);
    return (word & 0xE000) == 0x6000 ? (uint32_t)SECTOR << (word & 0xF) : SECTOR;
}

int facts_same_serial(const uint8_t *identity, const uint8_t *other)
{
    return !memcmp(identity + SERIAL_AT, other + SERIAL_AT, SERIAL_BYTES);
}

void facts_serial(const uint8_t *identity, uint8_t *serial) { memcpy(serial, identity + SERIAL_AT, SERIAL_BYTES); }

static void set_word(uint8_t *identity, uint32_t word, uint32_t value)
{
    identity[2 * word] = (uint8_t)value;
    identity[2 * word + 1] = (uint8_t)(value >> 8);
}

static void clear_bits(uint8_t *identity, uint32_t word, uint32_t bits)
{
    set_word(identity, word, word_of(identity, word) & ~bits);
}

void facts_lessen(uint8_t *identity, const uint8_t *other)
{
    uint32_t blocks = trim_blocks_of(other);
    if (blocks < trim_blocks_of(identity)) {
        set_word(identity, 105, blocks);
        clear_bits(identity, 169, blocks ? 0 : 1);
    }
    if (!zeroes_of(other))
        clear_bits(identity, 69, TRIM_IS_ZERO);
    if (!fua_of(other))
        clear_bits(identity, 84, HAS_FUA);
    if (identity[SIGNATURE_AT] == CHECKSUM_FOLLOWS)
        identity[SIGNATURE_AT + 1] = (uint8_t)-sum(identity, SIGNATURE_AT + 1);
}
