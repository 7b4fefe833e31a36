#include "ring.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "wire.h"

enum { BLOCK_MIN = 1 << 16, SHELVES_MAX = 200, ADDRESSES_MAX = 200, LINK_HEADROOM = 64 };

_Static_assert(SHELVES_MAX <= UINT8_MAX && ADDRESSES_MAX <= UINT8_MAX, "a jump over the list is one of a byte");

static struct tpacket2_hdr *slot_of(const struct ring *ring, uint32_t number)
{
    uint32_t in_block = ring->block / ring->slot;
    size_t at = (size_t)(number / in_block) * ring->block + (size_t)(number % in_block) * ring->slot;
    return (struct tpacket2_hdr *)(ring->map + at);
}

static struct tpacket2_hdr *slot_at(const struct ring *ring) { return slot_of(ring, ring->head); }

static struct tpacket_req request(uint32_t frame_max, uint32_t slots)
{
    uint32_t slot = TPACKET_ALIGN((uint32_t)TPACKET2_HDRLEN + LINK_HEADROOM + frame_max);
    uint32_t block = BLOCK_MIN;
    while (block < slot)
        block *= 2;
    uint32_t blocks = (slots + block / slot - 1) / (block / slot);
    return (struct tpacket_req){
        .tp_block_size = block, .tp_block_nr = blocks, .tp_frame_size = slot, .tp_frame_nr = blocks * (block / slot)};
}

int ring_make(int fd, uint32_t frame_max, uint32_t slots)
{
    int version = TPACKET_V2;
    struct tpacket_req wanted = request(frame_max, slots);
    int bad = setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
              setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &wanted, sizeof wanted);
    return bad ? -errno : 0;
}

int ring_open(struct ring *ring, int fd, uint32_t frame_max, uint32_t slots, int was_used)
{
    struct tpacket_req req = request(frame_max, slots);
    ring->map_length = (size_t)req.tp_block_size * req.tp_block_nr;
    ring->map = mmap(NULL, ring->map_length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ring->map == MAP_FAILED) {
        ring->map = NULL;
        return -errno;
    }
    ring->fd = fd;
    ring->block = req.tp_block_size;
    ring->slot = req.tp_frame_size;
    ring->slots = req.tp_frame_nr;
    ring->frame_max = frame_max;
    ring->head = 0;
    ring->strange = was_used;
    return 0;
}

void ring_close(struct ring *ring)
{
    if (ring->map)
        munmap(ring->map, ring->map_length);
    ring->map = NULL;
}

uint32_t ring_lost(const struct ring *ring)
{
    struct tpacket_stats seen = {0};
    socklen_t size = sizeof seen;
    return ring->map && !getsockopt(ring->fd, SOL_PACKET, PACKET_STATISTICS, &seen, &size) ? seen.tp_drops : 0;
}

static int is_full(const struct ring *ring, uint32_t number)
{
    return (__atomic_load_n(&slot_of(ring, number)->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER) != 0;
}

static uint64_t stamp_of(const struct tpacket2_hdr *slot) { return slot->tp_sec * 1000000000ull + slot->tp_nsec; }

/* The kernel fills one slot after the other: what it filled begins behind an empty one, or else with the oldest. */
static int find_head(struct ring *ring)
{
    int before = is_full(ring, ring->slots - 1), found = 0;
    for (uint32_t i = 0; i < ring->slots; i++) {
        int full = is_full(ring, i);
        if (full && !before) {
            ring->head = i;
            return 1;
        }
        if (full && (!found || stamp_of(slot_of(ring, i)) < stamp_of(slot_at(ring))))
            ring->head = i;
        found |= full;
        before = full;
    }
    return found;
}

int ring_ready(struct ring *ring)
{
    if (__builtin_expect(ring->strange, 0))
        ring->strange = !find_head(ring);
    return is_full(ring, ring->head) && !ring->strange;
}

/* To this host, or to ff:ff:ff:ff:ff:ff: on the loopback interface, whose broadcast address is another one, the kernel
 * calls that a multicast. */
static int is_for_us(uint8_t pkttype, const uint8_t *destination)
{
    int to_many = pkttype == PACKET_BROADCAST || pkttype == PACKET_MULTICAST;
    return pkttype == PACKET_HOST || (to_many && same_mac(destination, wire_all()));
}

struct arrival ring_peek(const struct ring *ring)
{
    const struct tpacket2_hdr *slot = slot_at(ring);
    assert(is_full(ring, ring->head) && slot->tp_mac + slot->tp_snaplen <= ring->slot);
    const struct sockaddr_ll *from = (const void *)((const uint8_t *)slot + TPACKET_ALIGN(sizeof *slot));
    return (struct arrival){
        .frame = (const uint8_t *)slot + slot->tp_mac,
        .length = slot->tp_snaplen,
        .stamp_ns = stamp_of(slot),
        .for_us = slot->tp_snaplen == slot->tp_len && slot->tp_len <= ring->frame_max && /* a slot has a rest */
                  is_for_us(from->sll_pkttype, wire_of((const uint8_t *)slot + slot->tp_mac)->dst),
    };
}

void ring_next(struct ring *ring)
{
    __atomic_store_n(&slot_at(ring)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
    ring->head = ring->head + 1 == ring->slots ? 0 : ring->head + 1;
    assert(ring->head < ring->slots);
}

uint32_t ring_owner(uint16_t shelf, uint8_t slot, uint32_t threads)
{
    assert(threads);
    return shelf == SHELF_ALL || slot == SLOT_ALL ? 0 : (shelf * 257u + slot) % threads;
}

#define JUMP(op, k, yes, no) ((struct sock_filter)BPF_JUMP(BPF_JMP | (op) | BPF_K, k, yes, no))
#define DO(code, k) ((struct sock_filter)BPF_STMT(code, k))
#define LOAD(size, field) DO(BPF_LD | (size) | BPF_ABS, offsetof(struct wire, field))
#define IS_REPLY(yes, no) JUMP(BPF_JSET, FLAG_RESPONSE, yes, no)

static int attach(int fd, struct sock_filter *code, unsigned short length)
{
    struct sock_fprog program = {.len = length, .filter = code};
    return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) ? -errno : 0;
}

int ring_filter(int fd, const uint16_t *shelves, uint32_t count, uint32_t index, uint32_t threads)
{
    struct sock_filter code[SHELVES_MAX + 32];
    unsigned short n = 0;
    uint32_t listed = count <= SHELVES_MAX ? count : 0;
    code[n++] = LOAD(BPF_B, verfl);
    code[n++] = IS_REPLY(0, 1);
    code[n++] = DO(BPF_RET | BPF_K, 0);
    code[n++] = LOAD(BPF_B, slot); /* any slot: for thread 0 */
    code[n++] = JUMP(BPF_JEQ, SLOT_ALL, 0, 1);
    code[n++] = DO(BPF_RET | BPF_K, index ? 0 : 0xFFFFFFFF);
    code[n++] = LOAD(BPF_H, shelf); /* any shelf: likewise */
    code[n++] = JUMP(BPF_JEQ, SHELF_ALL, 0, 1);
    code[n++] = DO(BPF_RET | BPF_K, index ? 0 : 0xFFFFFFFF);
    for (uint32_t i = 0; i < listed; i++)
        code[n++] = JUMP(BPF_JEQ, shelves[i], (uint8_t)(listed - i), 0);
    if (listed)
        code[n++] = DO(BPF_RET | BPF_K, 0);
    code[n++] = DO(BPF_ALU | BPF_MUL | BPF_K, 257);
    code[n++] = DO(BPF_MISC | BPF_TAX, 0);
    code[n++] = LOAD(BPF_B, slot);
    code[n++] = DO(BPF_ALU | BPF_ADD | BPF_X, 0);
    code[n++] = DO(BPF_ALU | BPF_MOD | BPF_K, threads);
    code[n++] = JUMP(BPF_JEQ, index, 0, 1);
    code[n++] = DO(BPF_RET | BPF_K, 0xFFFFFFFF);
    code[n++] = DO(BPF_RET | BPF_K, 0);
    assert(n <= sizeof code / sizeof *code);
    return attach(fd, code, n);
}

int ring_filter_all(int fd) { return attach(fd, (struct sock_filter[]){DO(BPF_RET | BPF_K, 0)}, 1); }

int ring_filter_replies(int fd, const uint32_t *address, uint32_t count)
{
    struct sock_filter code[ADDRESSES_MAX + 8];
    unsigned short n = 0;
    uint32_t listed = count <= ADDRESSES_MAX ? count : 0;
    code[n++] = LOAD(BPF_B, verfl);
    code[n++] = IS_REPLY(1, 0);
    code[n++] = DO(BPF_RET | BPF_K, 0);
    code[n++] = LOAD(BPF_W, shelf); /* and the slot, and the command */
    code[n++] = DO(BPF_ALU | BPF_RSH | BPF_K, 8);
    for (uint32_t i = 0; i < listed; i++)
        code[n++] = JUMP(BPF_JEQ, address[i], (uint8_t)(listed - i), 0);
    if (listed)
        code[n++] = DO(BPF_RET | BPF_K, 0);
    code[n++] = DO(BPF_RET | BPF_K, 0xFFFFFFFF);
    assert(n <= sizeof code / sizeof *code);
    return attach(fd, code, n);
}
