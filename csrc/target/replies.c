#include "replies.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "clocks.h"
#include "handed_up.h"
#include "map.h"
#include "ports.h"
#include "requests.h"

static int full(const struct outlet *out) { return out->count == OUTLET; }

static int alike(const struct answer *one, const struct answer *other)
{
    return one->export == other->export && one->kind == other->kind;
}

/* These are on their way now. Those of one kind that follow each other are added up first. */
static void answered(const struct outlet *out, uint32_t number, uint64_t now_ns)
{
    const struct reply *next = &out->replies[out->sent], *end = next + number;
    while (next < end) {
        const struct answer *first = &next->answer;
        struct work *work = first->export ? &first->export->work : NULL;
        struct answers all = {0, 0, 0};
        assert(first->kind < K_UP_READ);
        for (; next < end && alike(&next->answer, first); next++) {
            const struct answer *a = &next->answer;
            if (work)
                work_answered(work, &all, a->bytes, now_ns > a->stamp_ns ? now_ns - a->stamp_ns : 0);
        }
        if (work)
            work_sum_up(work, first->kind, &all);
    }
}

static void sent(struct thread *t, struct outlet *out, uint32_t number)
{
    assert(out->sent + number <= out->count);
    for (; number; number--, out->sent++) {
        struct reply *reply = &out->replies[out->sent];
        if (reply->op)
            op_free(t, reply->op);
    }
    if (out->sent == out->count)
        out->sent = out->count = out->mapped = out->reads = 0;
}

static int reads_map(const struct outlet *out, uint32_t i)
{
    return out->replies[i].mapped && out->messages[i].msg_hdr.msg_iovlen == 2;
}

/* Copy what a reply wants from a map: the request that comes next may change it. 0 if it cannot be read. */
static int unmap(struct thread *t, uint32_t port, struct reply *reply)
{
    struct export *x = reply->mapped;
    struct iovec *part = &reply->part[1];
    assert(!reply->op && x->now); /* it lives in a map alone, and its export waits for it */
    struct op *op = op_new(t);
    if (op)
        op_by(t, op, port);
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
    assert(reply->mapped);
    memcpy(request, reply->head, ATA_HEADER);
    const struct wire *sent = wire_of(reply->head);
    struct wire *f = wire_at(request);
    memcpy(f->dst, sent->src, MAC_BYTES);
    memcpy(f->src, sent->dst, MAC_BYTES);
    f->verfl = VERSION << 4;
    f->ata.count = (uint8_t)(reply->part[1].iov_len / SECTOR);
    f->ata.opcode = reply->opcode;
    count(t, AOE_ENGINE_DISK_ERRORS);
    aoe_up up = {.stamp_ns = t->now_ns,
                 .port = port,
                 .export_index = reply->mapped->index,
                 .error = EIO,
                 .length = ATA_HEADER};
    hand_up(t, &up, request);
}

/* Not sent: refused by the socket, and so left out. */
static void empty(struct outlet *out, uint32_t i) { out->messages[i].msg_hdr.msg_iovlen = 0; }

/* Let no reply that is kept refer to a map. What was written to one that was cut may be lost: no answer, and the
 * client asks again. */
static void unmap_rest(struct thread *t, uint32_t port, int cut)
{
    struct outlet *out = &t->ports[port].out;
    for (uint32_t i = out->sent; i < out->count; i++) {
        struct reply *reply = &out->replies[i];
        if (reads_map(out, i)) {
            if (!unmap(t, port, reply)) {
                ask_python(t, port, reply);
                reply->mapped = NULL;
                empty(out, i);
            }
        } else if (reply->mapped) {
            reply->mapped = NULL;
            if (cut)
                empty(out, i);
        }
    }
    out->mapped = out->reads = 0;
}

static void check_maps(struct thread *t)
{
    if (!maps_cut(t))
        return;
    for (uint32_t p = 0; p < t->ports_used; p++)
        unmap_rest(t, p, 1);
    maps_drop_cut(t);
}

static void lost(struct thread *t, struct export *x)
{
    count(t, AOE_SEND_LOST);
    if (x)
        work_add(&x->work, AOE_EXPORT_SEND_LOST, 1);
}

/* One that is not sent. A read that was handed up instead is answered all the same. */
static void lose(struct thread *t, const struct outlet *out, uint32_t i)
{
    if (out->messages[i].msg_hdr.msg_iovlen || out->replies[i].part[0].iov_len != ATA_HEADER)
        lost(t, out->replies[i].answer.export);
}

static void flush(struct thread *t, uint32_t port)
{
    struct outlet *out = &t->ports[port].out;
    uint64_t now_ns = out->count ? clock_ns(CLOCK_REALTIME) : 0;
    out->blocked = 0;
    if (out->mapped)
        check_maps(t);
    while (out->count) {
        struct reply *next = &out->replies[out->sent];
        int number = sendmmsg(t->ports[port].ring.fd, out->messages + out->sent, out->count - out->sent, MSG_DONTWAIT);
        if (number > 0) {
            answered(out, (uint32_t)number, now_ns);
            sent(t, out, (uint32_t)number);
        } else if (errno == EAGAIN) {
            out->blocked = 1;
            unmap_rest(t, port, 0);
            return;
        } else if (errno == EFAULT && reads_map(out, out->sent)) {
            ask_python(t, port, next);
            sent(t, out, 1);
        } else if (errno != EINTR) {
            lose(t, out, out->sent);
            sent(t, out, 1);
        }
    }
    assert(!out->sent && !out->mapped && !out->reads);
}

void outlets_flush(struct thread *t)
{
    for (uint32_t p = 0; p < t->ports_used; p++)
        flush(t, p);
}

void outlets_unmap(struct thread *t)
{
    for (uint32_t p = 0; p < t->ports_used; p++)
        if (t->ports[p].out.mapped)
            flush(t, p);
}

void outlet_drop(struct thread *t, uint32_t port)
{
    struct outlet *out = &t->ports[port].out;
    for (uint32_t i = out->sent; i < out->count; i++)
        lose(t, out, i);
    sent(t, out, out->count - out->sent);
    out->blocked = 0;
}

void outlets_forget(struct thread *t, const struct export *x)
{
    for (uint32_t p = 0; p < t->ports_used; p++) {
        struct outlet *out = &t->ports[p].out;
        for (uint32_t i = out->sent; i < out->count; i++)
            if (out->replies[i].answer.export == x)
                out->replies[i].answer.export = NULL;
    }
}

static int reads_part(const struct outlet *out, uint32_t i, const struct export *x, uint64_t offset, size_t length)
{
    const struct reply *reply = &out->replies[i];
    return reads_map(out, i) && reply->mapped == x && reply->offset < offset + length &&
           offset < reply->offset + reply->part[1].iov_len;
}

void outlets_unmap_part(struct thread *t, const struct export *x, uint64_t offset, size_t length)
{
    for (uint32_t p = 0; p < t->ports_used; p++) {
        struct outlet *out = &t->ports[p].out;
        for (uint32_t i = out->reads ? out->sent : out->count; i < out->count; i++)
            if (reads_part(out, i, x, offset, length)) {
                flush(t, p);
                break;
            }
    }
}

void outlet_room(struct thread *t, uint32_t port)
{
    struct outlet *out = &t->ports[port].out;
    if (out->count >= BATCH && !out->blocked)
        flush(t, port);
}

static struct reply *reply_new(struct thread *t, uint32_t port, const uint8_t *request, const struct answer *answer)
{
    struct outlet *out = &t->ports[port].out;
    uint8_t mac[6];
    uint32_t sectors;
    if (full(out)) {
        lost(t, answer->export);
        return NULL;
    }
    struct reply *reply = &out->replies[out->count];
    port_facts(t->engine, port, mac, &sectors);
    reply->op = NULL;
    reply->answer = *answer;
    reply->mapped = NULL;
    reply->opcode = wire_of(request)->ata.opcode;
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
    assert(sectors && reply == &out->replies[out->count - 1]);
    reply->part[0].iov_len = ATA_HEADER;
    reply->part[1] = (struct iovec){bytes, (size_t)sectors * SECTOR};
    out->messages[reply - out->replies].msg_hdr.msg_iovlen = 2;
}

int reply_plain(struct thread *t, uint32_t port, const uint8_t *request, const struct answer *answer)
{
    return reply_new(t, port, request, answer) != NULL;
}

int reply_op(struct thread *t, struct op *op)
{
    assert(op->kind < K_UP_READ && op->port < t->ports_used);
    struct answer answer = {op->export, op->stamp_ns, op->count * SECTOR, op->kind};
    struct reply *reply = reply_new(t, op->port, op->data - ATA_HEADER, &answer);
    if (!reply)
        return 0;
    reply->op = op;
    if (op->kind == K_READ)
        attach(t, op->port, reply, op->data + op->skip, op->count);
    return 1;
}

int reply_mapped(struct thread *t, uint32_t port, const uint8_t *request, const struct answer *answer, uint64_t offset)
{
    struct export *x = answer->export;
    assert(x->map && offset + answer->bytes <= x->map_length);
    struct reply *reply = reply_new(t, port, request, answer);
    if (!reply)
        return 0;
    reply->mapped = x;
    reply->offset = offset;
    attach(t, port, reply, x->map + offset, answer->bytes / SECTOR);
    t->ports[port].out.mapped++;
    t->ports[port].out.reads++;
    return 1;
}

int reply_map_written(struct thread *t, uint32_t port, const uint8_t *request, const struct answer *answer)
{
    assert(answer->export->map && answer->export->map_access & PROT_WRITE);
    struct reply *reply = reply_new(t, port, request, answer);
    if (!reply)
        return 0;
    reply->mapped = answer->export;
    t->ports[port].out.mapped++;
    return 1;
}
