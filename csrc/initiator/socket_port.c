/* One port of an initiator: a packet socket with its ring, or a socket for datagrams. */
#include "remote.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* As limits.sectors_per_frame in Python. */
static uint32_t sectors_per_frame(uint32_t mtu)
{
    if (mtu < ATA_HEADER + SECTOR)
        return mtu >= MTU_MIN;
    uint32_t fit = (mtu - ATA_HEADER) / SECTOR;
    fit = fit < SECTORS_PER_FRAME_MAX ? fit : SECTORS_PER_FRAME_MAX;
    return fit < 8 ? fit : fit & ~7u;
}

/* Interfaces */

struct interface {
    int number, up, ethernet;
    uint32_t mtu;
    uint8_t mac[6];
};

static int ask_for(int query, const char *name, unsigned long what, struct ifreq *answer)
{
    memset(answer, 0, sizeof *answer);
    memcpy(answer->ifr_name, name, IFNAMSIZ);
    return ioctl(query, what, answer) ? -errno : 0;
}

static struct interface look_up(int query, const char *name)
{
    struct interface now = {0};
    struct ifreq number, flags, mtu, hardware;
    if (ask_for(query, name, SIOCGIFINDEX, &number) || ask_for(query, name, SIOCGIFFLAGS, &flags) ||
        ask_for(query, name, SIOCGIFMTU, &mtu) || ask_for(query, name, SIOCGIFHWADDR, &hardware))
        return now;
    now.number = number.ifr_ifindex;
    now.up = flags.ifr_flags & IFF_UP && flags.ifr_flags & IFF_RUNNING;
    now.ethernet = hardware.ifr_hwaddr.sa_family == ARPHRD_ETHER || hardware.ifr_hwaddr.sa_family == ARPHRD_LOOPBACK;
    now.mtu = (uint32_t)mtu.ifr_mtu;
    memcpy(now.mac, hardware.ifr_hwaddr.sa_data, sizeof now.mac);
    return now;
}

static int bind_to(int fd, int number)
{
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE), .sll_ifindex = number};
    return bind(fd, (struct sockaddr *)&to, sizeof to) ? -errno : 0;
}

static int bound_to(int fd)
{
    struct sockaddr_ll to = {0};
    socklen_t size = sizeof to;
    return getsockname(fd, (struct sockaddr *)&to, &size) ? 0 : to.sll_ifindex;
}

/* The MTU may have become larger than the ring has room for. */
static aoe_core_port facts_of(const struct socket_port *p, const struct interface *it)
{
    aoe_core_port facts = {.window = p->ring.slots};
    uint32_t fits = p->room - ETHERNET_HEADER;
    facts.sectors = (uint16_t)sectors_per_frame(it->mtu < fits ? it->mtu : fits);
    facts.up = it->up && facts.sectors;
    memcpy(facts.mac, it->mac, sizeof facts.mac);
    return facts;
}

/* An interface is followed by its number, whatever it is called by now; one that was away, by its last name or by the
 * one that it was given. */
static struct interface find_again(struct socket_port *p, int query)
{
    struct ifreq bound = {.ifr_ifindex = bound_to(p->fd)};
    if (bound.ifr_ifindex > 0 && !ioctl(query, SIOCGIFNAME, &bound))
        memcpy(p->name, bound.ifr_name, sizeof p->name);
    struct interface now = look_up(query, p->name), given = look_up(query, p->given);
    if (now.number || !given.number)
        return now;
    memcpy(p->name, p->given, sizeof p->name);
    return given;
}

int port_look_again(struct socket_port *p, int query)
{
    aoe_core_port before = p->facts;
    if (p->in)
        return 0;
    struct interface now = find_again(p, query);
    /* One that was away is bound to nothing, even if it came back with its old number. */
    if (!now.number || (bound_to(p->fd) != now.number && bind_to(p->fd, now.number)))
        p->facts.up = 0;
    else
        p->facts = facts_of(p, &now);
    p->number = now.number;
    return memcmp(&before, &p->facts, sizeof before) != 0;
}

/* Opening */

static void enlarge(int fd)
{
    int size = SEND_BUFFER;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size))
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

int port_open_ethernet(struct socket_port *p, const char *name, int query, const aoe_core_settings *set)
{
    if (strlen(name) >= sizeof p->name)
        return -ENODEV;
    strcpy(p->name, name);
    strcpy(p->given, name);
    struct interface it = look_up(query, p->name);
    if (!it.number || !it.ethernet)
        return it.number ? -EAFNOSUPPORT : -ENODEV;
    p->room = it.mtu + ETHERNET_HEADER > FRAME_ROOM ? it.mtu + ETHERNET_HEADER : FRAME_ROOM;
    /* Of no protocol until it is bound: it would take the frames of all interfaces. */
    p->fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0)
        return -errno;
    p->owned = 1;
    enlarge(p->fd);
    uint32_t slots = RING_BUFFER / p->room;
    slots = slots > RING_FRAMES_MIN ? slots : RING_FRAMES_MIN;
    int bad = ring_make(p->fd, p->room, slots);
    if (!bad)
        bad = ring_open(&p->ring, p->fd, p->room, slots, 0);
    if (!bad)
        bad = ring_filter_replies(p->fd, set->address, set->addresses);
    if (!bad)
        bad = bind_to(p->fd, it.number);
    p->number = it.number;
    p->facts = facts_of(p, &it);
    return bad;
}

/* As Link.frames_that_fit in Python: the kernel charges a frame's memory rounded up to a power of two. */
static uint32_t frames_that_fit(int fd, uint32_t mtu)
{
    int size = 0;
    socklen_t length = sizeof size;
    uint32_t charged = 1;
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, &length);
    while (charged <= mtu + 64)
        charged *= 2;
    uint32_t fit = (uint32_t)size / (charged + 1024);
    return fit ? fit : 1;
}

static int make_buffers(struct socket_port *p)
{
    struct datagrams *in = p->in = calloc(1, sizeof *in);
    if (!in || !(in->buffers = malloc((size_t)FRAMES * p->room)))
        return -ENOMEM;
    for (uint32_t i = 0; i < FRAMES; i++) {
        in->parts[i] = (struct iovec){in->buffers + (size_t)i * p->room, p->room};
        in->messages[i].msg_hdr = (struct msghdr){.msg_iov = &in->parts[i],
                                                  .msg_iovlen = 1,
                                                  .msg_name = &in->from[i],
                                                  .msg_namelen = sizeof in->from[i]};
    }
    return 0;
}

int port_open_datagrams(struct socket_port *p, const aoe_remote_port *with)
{
    p->fd = with->socket;
    p->room = with->mtu + ETHERNET_HEADER;
    p->peers = with->peers;
    p->peer = calloc(with->peers + 1, sizeof *p->peer);
    if (!p->peer)
        return -ENOMEM;
    for (uint32_t i = 0; i < with->peers; i++)
        p->peer[i] = (struct sockaddr_in){
            .sin_family = AF_INET, .sin_port = with->peer[i].port, .sin_addr.s_addr = with->peer[i].host};
    p->facts.sectors = (uint16_t)sectors_per_frame(with->mtu);
    p->facts.window = frames_that_fit(p->fd, with->mtu);
    p->facts.up = p->facts.sectors > 0;
    memcpy(p->facts.mac, with->mac, sizeof p->facts.mac);
    return make_buffers(p);
}

void port_close(struct socket_port *p)
{
    ring_close(&p->ring);
    if (p->owned)
        close(p->fd);
    if (p->in)
        free(p->in->buffers);
    free(p->in);
    free(p->peer);
}

/* Receiving */

static int fill(struct socket_port *p)
{
    struct datagrams *in = p->in;
    for (uint32_t i = 0; i < in->count; i++) /* the kernel wrote there */
        in->messages[i].msg_hdr.msg_namelen = sizeof in->from[i];
    int got = recvmmsg(p->fd, in->messages, FRAMES, MSG_DONTWAIT, NULL);
    in->next = 0;
    assert(got <= FRAMES);
    in->count = got > 0 ? (uint32_t)got : 0;
    return got > 0;
}

int port_ready(struct socket_port *p)
{
    return p->in ? p->in->next < p->in->count || fill(p) : ring_ready(&p->ring);
}

static int from_a_peer(const struct socket_port *p, const struct sockaddr_in *from)
{
    for (uint32_t i = 0; i < p->peers; i++)
        if (p->peer[i].sin_port == from->sin_port && p->peer[i].sin_addr.s_addr == from->sin_addr.s_addr)
            return 1;
    return !p->peers;
}

static struct arrival next_datagram(struct socket_port *p)
{
    struct datagrams *in = p->in;
    uint32_t i = in->next++;
    assert(i < in->count);
    return (struct arrival){
        .frame = in->parts[i].iov_base,
        .length = in->messages[i].msg_len,
        .for_us = !(in->messages[i].msg_hdr.msg_flags & MSG_TRUNC) && from_a_peer(p, &in->from[i]),
    };
}

uint32_t port_take(struct socket_port *p, uint32_t most, aoe_core *core, uint32_t number, int64_t now_ns)
{
    uint32_t taken = 0;
    while ((taken < most || (p->in && p->in->next < p->in->count)) && port_ready(p)) {
        struct arrival a = p->in ? next_datagram(p) : ring_peek(&p->ring);
        if (a.for_us)
            aoe_core_receive(core, number, a.frame, a.length, now_ns);
        else
            p->unfit++;
        if (!p->in)
            ring_next(&p->ring);
        taken++;
    }
    return taken;
}

/* Sending */

struct batch {
    uint32_t count;
    struct mmsghdr messages[FRAMES];
    struct iovec parts[FRAMES][3];
};

/* What is refused is lost, and the core sends it again. One refused because of what it is (ENOBUFS of a veth: larger
 * than the other end takes), or because of an error left from before, tells nothing about those behind it. */
static void send_batch(struct socket_port *p, struct batch *b)
{
    uint32_t sent = 0;
    while (sent < b->count) {
        int number = sendmmsg(p->fd, b->messages + sent, b->count - sent, MSG_DONTWAIT);
        assert(number <= (int)(b->count - sent));
        if (number > 0) {
            sent += (uint32_t)number;
        } else if (errno == EAGAIN) {
            p->unsent += b->count - sent;
            return;
        } else if (errno != EINTR) {
            p->unsent++;
            sent++;
        }
    }
}

static void send_to(struct socket_port *p, struct batch *b)
{
    if (!p->in)
        send_batch(p, b);
    else if (!p->peers)
        p->unsent += b->count;
    for (uint32_t i = 0; i < p->peers; i++) {
        for (uint32_t m = 0; m < b->count; m++) {
            b->messages[m].msg_hdr.msg_name = &p->peer[i];
            b->messages[m].msg_hdr.msg_namelen = sizeof p->peer[i];
        }
        send_batch(p, b);
    }
    b->count = 0;
}

static void gather(struct batch *b, const aoe_out *out)
{
    assert(b->count < FRAMES && out->head_length <= sizeof out->head && out->tail_length <= sizeof out->tail);
    struct iovec *part = b->parts[b->count];
    part[0] = (struct iovec){(void *)out->head, out->head_length};
    part[1] = (struct iovec){(void *)out->data, out->data_length};
    part[2] = (struct iovec){(void *)out->tail, out->tail_length};
    size_t parts = out->tail_length ? 3 : out->data_length ? 2 : 1;
    b->messages[b->count++] = (struct mmsghdr){.msg_hdr = {.msg_iov = part, .msg_iovlen = parts}};
}

void port_send(struct socket_port *p, uint32_t number, const aoe_out *out, uint32_t count)
{
    struct batch b;
    b.count = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (out[i].port != number)
            continue;
        if (out[i].head_length + out[i].data_length + out[i].tail_length > p->room) {
            p->unsent++;
            continue;
        }
        gather(&b, &out[i]);
        if (b.count == FRAMES)
            send_to(p, &b);
    }
    if (b.count)
        send_to(p, &b);
}
