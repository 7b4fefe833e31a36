/* Replies on their way out: gathered, and sent many at a time. */
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int full(const struct outlet *out) { return out->count == OUTLET; }

static void sent(struct thread *t, struct outlet *out, uint32_t number)
{
    for (; number; number--, out->sent++) {
        struct reply *reply = &out->replies[out->sent];
        if (reply->op)
            op_free(t, reply->op);
    }
    if (out->sent == out->count)
        out->sent = out->count = out->mapped = 0;
}

/* Copy what a reply wants from a map: the request that comes next may change it. 0 if it cannot be read. */
static int unmap(struct thread *t, struct reply *reply)
{
    struct export *x = reply->mapped;
    struct iovec *part = &reply->part[1];
    struct op *op = op_new(t);
    if (op && pread(x->now->fd, op->data, part->iov_len, (off_t)reply->offset) == (ssize_t)part->iov_len) {
        part->iov_base = op->data;
        reply->op = op;
        reply->mapped = NULL;
        return 1;
    }
    if (op)
        op_free(t, op);
    return 0;
}

/* A map that ends early: the request goes up again, where the error is told properly. */
static void ask_python(struct thread *t, uint32_t port, const struct reply *reply)
{
    uint8_t request[ATA_HEADER];
    memcpy(request, reply->head, ATA_HEADER);
    memcpy(request, reply->head + 6, 6);
    memcpy(request + 6, reply->head, 6);
    request[14] = 0x10;
    request[26] = (uint8_t)(reply->part[1].iov_len / SECTOR);
    request[27] = reply->opcode;
    count(t, AOE_DISK_ERRORS);
    aoe_up up = {.stamp_ns = t->now_ns,
                 .port = port,
                 .export_index = reply->mapped->index,
                 .error = EIO,
                 .length = ATA_HEADER};
    hand_up(t, &up, request);
}

/* Unmap what has to stay, or put an empty message in its place. */
static void unmap_rest(struct thread *t, uint32_t port)
{
    struct outlet *out = &t->ports[port].out;
    for (uint32_t i = out->sent; i < out->count; i++) {
        struct reply *reply = &out->replies[i];
        if (reply->mapped && !unmap(t, reply)) {
            ask_python(t, port, reply);
            reply->mapped = NULL;
            out->messages[i].msg_hdr.msg_iovlen = 0; /* refused by the socket, and so left out */
        }
    }
    out->mapped = 0;
}

/* A file that was cut off within a page reads as zeroes through its map. */
static int ends_early(const struct export *x)
{
    struct stat now;
    return fstat(x->now->fd, &now) || (size_t)now.st_size < x->map_length;
}

static void check_maps(struct thread *t, uint32_t port)
{
    struct outlet *out = &t->ports[port].out;
    const struct export *good = NULL;
    for (uint32_t i = out->sent; i < out->count; i++) {
        const struct export *x = out->replies[i].mapped;
        if (!x || x == good)
            continue;
        if (ends_early(x)) {
            unmap_rest(t, port);
            return;
        }
        good = x;
    }
}

static void flush(struct thread *t, uint32_t port)
{
    struct outlet *out = &t->ports[port].out;
    out->blocked = 0;
    if (out->mapped)
        check_maps(t, port);
    while (out->count) {
        struct reply *next = &out->replies[out->sent];
        int number = sendmmsg(t->ports[port].ring.fd, out->messages + out->sent, out->count - out->sent, MSG_DONTWAIT);
        if (number > 0) {
            sent(t, out, (uint32_t)number);
        } else if (errno == EAGAIN) {
            out->blocked = 1;
            unmap_rest(t, port);
            return;
        } else if (errno == EFAULT && next->mapped) {
            ask_python(t, port, next);
            sent(t, out, 1);
        } else if (errno != EINTR) {
            count(t, AOE_SEND_LOST);
            sent(t, out, 1);
        }
    }
}

void outlets_flush(struct thread *t)
{
    for (uint32_t p = 0; p < t->engine->set.ports; p++)
        flush(t, p);
}

void outlets_unmap(struct thread *t)
{
    for (uint32_t p = 0; p < t->engine->set.ports; p++)
        if (t->ports[p].out.mapped)
            flush(t, p);
}

static struct reply *reply_new(struct thread *t, uint32_t port, const uint8_t *request)
{
    struct outlet *out = &t->ports[port].out;
    uint8_t mac[6];
    uint32_t sectors;
    if (out->count >= BATCH && !out->blocked)
        flush(t, port);
    if (full(out)) {
        count(t, AOE_SEND_LOST);
        return NULL;
    }
    struct reply *reply = &out->replies[out->count];
    port_facts(t->engine, port, mac, &sectors);
    reply->op = NULL;
    reply->mapped = NULL;
    reply->opcode = request[27];
    memset(reply->head + ATA_HEADER, 0, FRAME_MIN - ATA_HEADER);
    parse_reply(reply->head, request, mac);
    reply->part[0] = (struct iovec){reply->head, FRAME_MIN};
    out->messages[out->count].msg_hdr.msg_iovlen = 1;
    out->count++;
    return reply;
}

static void attach(struct thread *t, uint32_t port, struct reply *reply, uint8_t *bytes, uint32_t sectors)
{
    struct outlet *out = &t->ports[port].out;
    reply->part[0].iov_len = ATA_HEADER;
    reply->part[1] = (struct iovec){bytes, (size_t)sectors * SECTOR};
    out->messages[reply - out->replies].msg_hdr.msg_iovlen = 2;
}

int reply_plain(struct thread *t, uint32_t port, const uint8_t *request)
{
    return reply_new(t, port, request) != NULL;
}

int reply_op(struct thread *t, struct op *op)
{
    struct reply *reply = reply_new(t, op->port, op->data - ATA_HEADER);
    if (!reply)
        return 0;
    reply->op = op;
    if (op->kind == K_READ)
        attach(t, op->port, reply, op->data + op->skip, op->count);
    return 1;
}

int reply_mapped(struct thread *t, uint32_t port, const uint8_t *request, struct export *x, uint64_t offset,
                 uint32_t sectors)
{
    struct reply *reply = reply_new(t, port, request);
    if (!reply)
        return 0;
    reply->mapped = x;
    reply->offset = offset;
    attach(t, port, reply, x->map + offset, sectors);
    t->ports[port].out.mapped++;
    return 1;
}
