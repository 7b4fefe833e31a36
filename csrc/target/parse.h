/* What a frame is, from its bytes and the export it means. Pure. */
#ifndef AOE_PARSE_H
#define AOE_PARSE_H

#include <stddef.h>
#include <stdint.h>

#include "spans.h"
#include "shared/wire.h"

enum verdict {
    V_DROP,      /* counted by `reason` */
    V_UP,        /* for Python, holds no place */
    V_UP_ORDERED, /* for Python, touches data: a place of its own, nothing passes it */
    V_UP_READ,    /* for Python, too, but it takes its place by range */
    V_UP_CHANGE,
    V_READ,
    V_WRITE,
    V_FLUSH,
};

/* What the gate knows of the port and the export of a frame. */
struct gate {
    const uint8_t *port_mac;
    uint32_t sectors_max;
    const uint8_t *masked, *reserved; /* MACs */
    uint32_t masked_count, reserved_count;
    uint64_t sectors;
    uint32_t flags; /* AOE_READ_ONLY ... */
    uint32_t block_sectors;
};

struct request {
    enum verdict verdict;
    uint32_t reason; /* a counter, for V_DROP */
    uint64_t lba;
    uint32_t count;
    uint8_t durable; /* asked for by the request itself */
    uint8_t ages;    /* a write, a TRIM or a FLUSH: order rules T3 and T9 are about it */
    uint8_t identifies;
    uint8_t asks; /* for something that can be done on a disk that is whole: it is counted under its client */
};

/* Where a frame goes before its export is known: 0 to drop it (with the counter in `reason`), 1 to go on
 * with `shelf` and `slot`. Frames shorter than a header and replies are dropped without a counter. */
int parse_address(const uint8_t *frame, size_t length, const uint8_t *port_mac, uint16_t *shelf,
                  uint8_t *slot, uint32_t *reason);

/* What an exactly addressed frame asks of its export. */
struct request parse_request(const uint8_t *frame, size_t length, const struct gate *gate);

/* The ranges of a V_UP_CHANGE that is a TRIM, each rounded out to blocks; 0 if one is not inside the disk. */
int parse_trim(const uint8_t *frame, uint64_t block_mask, uint64_t sectors, struct spans *spans);
int parse_is_trim(const uint8_t *frame);

/* The header of a successful reply to `request` (ATA_HEADER bytes), written to `reply`, which may be it. */
void parse_reply(uint8_t *reply, const uint8_t *request, const uint8_t *port_mac);

#endif
