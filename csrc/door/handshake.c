/* An NBD client until the transmission phase (the NBD protocol's proto.md, fixed newstyle negotiation). */
#include "door.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <poll.h>
#include <sys/socket.h>

enum { GO = 7, ACK = 1, INFO = 3, INFO_EXPORT = 0, FIXED_NEWSTYLE = 1, NO_ZEROES = 2, ANSWER_MAX = 1024 };
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

/* When all of it is to be over. */
static int64_t until_ns;

static int wait_for_more(int fd)
{
    struct pollfd on = {fd, POLLIN, 0};
    int64_t left_ns = until_ns - boottime_ns();
    if (left_ns <= 0)
        return -ETIMEDOUT;
    return poll(&on, 1, (int)(left_ns / 1000000) + 1) < 0 && errno != EINTR ? -errno : 0;
}

static int take(int fd, void *to, size_t size)
{
    uint8_t *at = to;
    while (size) {
        ssize_t got = recv(fd, at, size, MSG_DONTWAIT);
        if (!got)
            return -ECONNRESET;
        int bad = got > 0 ? 0 : errno == EAGAIN ? wait_for_more(fd) : -errno;
        if (bad)
            return bad;
        at += got > 0 ? got : 0;
        size -= got > 0 ? (size_t)got : 0;
    }
    return 0;
}

static int greet(int fd)
{
    struct greeting g;
    int bad = take(fd, &g, sizeof g);
    if (bad)
        return bad;
    if (memcmp(g.magic, MAGIC, sizeof g.magic) || !(be16toh(g.flags) & FIXED_NEWSTYLE))
        return -EPROTO;
    struct question q = {htobe32(be16toh(g.flags) & (FIXED_NEWSTYLE | NO_ZEROES)), "", htobe32(GO),
                         htobe32(6), 0, 0};
    memcpy(q.magic, MAGIC + 8, sizeof q.magic);
    return send(fd, &q, sizeof q, MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof q ? 0 : -errno;
}

/* 1: more follows; 0: that was all. */
static int hear(int fd, struct export *export)
{
    struct answer a;
    uint8_t data[ANSWER_MAX];
    int bad = take(fd, &a, sizeof a);
    if (!bad && (be64toh(a.magic) != REPLY_MAGIC || be32toh(a.length) > sizeof data))
        bad = -EPROTO;
    uint32_t type = be32toh(a.type), length = be32toh(a.length);
    if (!bad)
        bad = take(fd, data, length);
    if (bad || type & OPTION_REFUSED)
        return bad ? bad : -EPROTO;
    struct told told;
    if (type == INFO && length >= sizeof told) {
        memcpy(&told, data, sizeof told);
        if (be16toh(told.type) == INFO_EXPORT)
            *export = (struct export){be64toh(told.size), be16toh(told.flags)};
    }
    return type != ACK;
}

int handshake(int fd, struct export *export, int64_t by_ns)
{
    until_ns = by_ns;
    *export = (struct export){0};
    int more = greet(fd);
    for (more = more ? more : 1; more > 0;)
        more = hear(fd, export);
    return more ? more : export->size ? 0 : -EPROTO;
}
