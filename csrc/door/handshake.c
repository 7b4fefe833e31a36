/* An NBD client until the transmission phase (the NBD protocol's proto.md, fixed newstyle negotiation). */
#include "door.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { GO = 7, ACK = 1, INFO = 3, INFO_EXPORT = 0, FIXED_NEWSTYLE = 1, NO_ZEROES = 2, ANSWER_MAX = 1024, PATIENCE_S = 15 };
#define MAGIC "NBDMAGICIHAVEOPT"
#define REPLY_MAGIC 0x3e889045565a9ull
#define OPTION_REFUSED (1u << 31)

struct greeting {
    char magic[16];
    uint16_t flags;
} __attribute__((packed));

struct question {
    uint32_t client_flags;
    char magic[8];
    uint32_t option, length, name_length;
    uint16_t wanted;
} __attribute__((packed));

struct answer {
    uint64_t magic;
    uint32_t option, type, length;
} __attribute__((packed));

struct told {
    uint16_t type;
    uint64_t size;
    uint16_t flags;
} __attribute__((packed));

static int take(int fd, void *to, size_t size)
{
    return recv(fd, to, size, MSG_WAITALL) == (ssize_t)size ? 0 : -1;
}

static int greet(int fd)
{
    struct greeting g;
    if (take(fd, &g, sizeof g) || memcmp(g.magic, MAGIC, sizeof g.magic) || !(be16toh(g.flags) & FIXED_NEWSTYLE))
        return -1;
    struct question q = {htobe32(be16toh(g.flags) & (FIXED_NEWSTYLE | NO_ZEROES)), "", htobe32(GO),
                         htobe32(6), 0, 0};
    memcpy(q.magic, MAGIC + 8, sizeof q.magic);
    return send(fd, &q, sizeof q, MSG_NOSIGNAL) == sizeof q ? 0 : -1;
}

/* 1: more follows; 0: that was all. */
static int hear(int fd, struct export *export)
{
    struct answer a;
    uint8_t data[ANSWER_MAX];
    if (take(fd, &a, sizeof a) || be64toh(a.magic) != REPLY_MAGIC || be32toh(a.length) > sizeof data)
        return -1;
    uint32_t type = be32toh(a.type), length = be32toh(a.length);
    if ((length && take(fd, data, length)) || type & OPTION_REFUSED)
        return -1;
    struct told told;
    if (type == INFO && length >= sizeof told) {
        memcpy(&told, data, sizeof told);
        if (be16toh(told.type) == INFO_EXPORT)
            *export = (struct export){be64toh(told.size), be16toh(told.flags)};
    }
    return type != ACK;
}

int handshake(int fd, struct export *export)
{
    struct timeval patience = {.tv_sec = PATIENCE_S}, none = {0};
    int more = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    *export = (struct export){0};
    if (greet(fd))
        return -1;
    while (more > 0)
        more = hear(fd, export);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
    return more || !export->size ? -1 : 0;
}
