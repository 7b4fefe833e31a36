/* What the kernel is told of an NBD device: generic netlink, as linux/nbd-netlink.h has it. */
#include "door.h"

#include <assert.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MESSAGE_MAX = 512, ANSWER_MAX = 4096 };
#define FOR_EVER_S 1000000000ull /* what waits for a door waits for so long */

struct message {
    struct nlmsghdr head;
    struct genlmsghdr generic;
    uint8_t attributes[MESSAGE_MAX];
};

static void begin(struct message *m, uint16_t family, uint8_t command)
{
    memset(m, 0, sizeof *m);
    m->head = (struct nlmsghdr){.nlmsg_len = NLMSG_LENGTH(GENL_HDRLEN), .nlmsg_type = family,
                                .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK, .nlmsg_seq = 1};
    m->generic = (struct genlmsghdr){.cmd = command, .version = NBD_GENL_VERSION};
}

static struct nlattr *end_of(struct message *m) { return (struct nlattr *)((uint8_t *)m + m->head.nlmsg_len); }

static void put(struct message *m, uint16_t type, const void *data, size_t size)
{
    struct nlattr *at = end_of(m);
    at->nla_type = type;
    at->nla_len = (uint16_t)(NLA_HDRLEN + size);
    memcpy((uint8_t *)at + NLA_HDRLEN, data, size);
    m->head.nlmsg_len += NLA_ALIGN(at->nla_len);
    assert(m->head.nlmsg_len <= sizeof *m);
}

static void put_32(struct message *m, uint16_t type, uint32_t value) { put(m, type, &value, sizeof value); }
static void put_64(struct message *m, uint16_t type, uint64_t value) { put(m, type, &value, sizeof value); }

static void put_socket(struct message *m, int fd)
{
    struct nlattr *all = end_of(m);
    put(m, NBD_ATTR_SOCKETS, "", 0);
    struct nlattr *one = end_of(m);
    put(m, NBD_SOCK_ITEM, "", 0);
    put_32(m, NBD_SOCK_FD, (uint32_t)fd);
    one->nla_len = (uint16_t)((uint8_t *)end_of(m) - (uint8_t *)one);
    all->nla_len = (uint16_t)((uint8_t *)end_of(m) - (uint8_t *)all);
}

/* `take` gets what is no acknowledgement. */
static int ask(struct netlink *n, const struct message *m, void (*take)(struct netlink *n, struct nlmsghdr *h))
{
    union {
        struct nlmsghdr head;
        uint8_t bytes[ANSWER_MAX];
    } answer;
    if (send(n->fd, m, m->head.nlmsg_len, 0) < 0)
        return -errno;
    for (;;) {
        ssize_t got = recv(n->fd, &answer, sizeof answer, 0);
        if (got < 0 && errno != EINTR)
            return -errno;
        for (struct nlmsghdr *h = &answer.head; got > 0 && NLMSG_OK(h, (uint32_t)got); h = NLMSG_NEXT(h, got)) {
            if (h->nlmsg_type == NLMSG_ERROR)
                return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
            if (take)
                take(n, h);
        }
    }
}

static void take_family(struct netlink *n, struct nlmsghdr *h)
{
    struct nlattr *at = (struct nlattr *)((uint8_t *)NLMSG_DATA(h) + GENL_HDRLEN);
    uint8_t *end = (uint8_t *)h + h->nlmsg_len;
    while ((uint8_t *)at + NLA_HDRLEN <= end && at->nla_len >= NLA_HDRLEN) {
        if (at->nla_type == CTRL_ATTR_FAMILY_ID)
            memcpy(&n->family, (uint8_t *)at + NLA_HDRLEN, sizeof n->family);
        at = (struct nlattr *)((uint8_t *)at + NLA_ALIGN(at->nla_len));
    }
}

int netlink_open(struct netlink *n)
{
    struct sockaddr_nl us = {.nl_family = AF_NETLINK};
    struct message m;
    *n = (struct netlink){.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC)};
    if (n->fd < 0 || bind(n->fd, (struct sockaddr *)&us, sizeof us))
        return -errno;
    begin(&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
    put(&m, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME, sizeof NBD_GENL_FAMILY_NAME);
    int bad = ask(n, &m, take_family);
    return bad ? bad : n->family ? 0 : -ENOENT;
}

/* One socket and no time-out: else a server that is only slow would be cut. No client flags: what leaves the initramfs
 * closes the device. */
int netlink_connect(struct netlink *n, uint32_t device, const struct export *export, uint32_t block, int fd)
{
    struct message m;
    begin(&m, n->family, NBD_CMD_CONNECT);
    put_32(&m, NBD_ATTR_INDEX, device);
    put_64(&m, NBD_ATTR_SIZE_BYTES, export->size);
    put_64(&m, NBD_ATTR_BLOCK_SIZE_BYTES, block);
    put_64(&m, NBD_ATTR_SERVER_FLAGS, export->flags);
    put_64(&m, NBD_ATTR_TIMEOUT, 0);
    put_64(&m, NBD_ATTR_DEAD_CONN_TIMEOUT, FOR_EVER_S);
    put_socket(&m, fd);
    return ask(n, &m, NULL);
}

/* Without NBD_ATTR_TIMEOUT, which would set queue/io_timeout back. Where the old socket is not known to be dead yet, it
 * succeeds and the new one is not used. */
int netlink_reconnect(struct netlink *n, uint32_t device, int fd)
{
    struct message m;
    begin(&m, n->family, NBD_CMD_RECONFIGURE);
    put_32(&m, NBD_ATTR_INDEX, device);
    put_socket(&m, fd);
    return ask(n, &m, NULL);
}

int netlink_resize(struct netlink *n, uint32_t device, uint64_t size)
{
    struct message m;
    begin(&m, n->family, NBD_CMD_RECONFIGURE);
    put_32(&m, NBD_ATTR_INDEX, device);
    put_64(&m, NBD_ATTR_SIZE_BYTES, size);
    return ask(n, &m, NULL);
}

int netlink_disconnect(struct netlink *n, uint32_t device)
{
    struct message m;
    begin(&m, n->family, NBD_CMD_DISCONNECT);
    put_32(&m, NBD_ATTR_INDEX, device);
    return ask(n, &m, NULL);
}
