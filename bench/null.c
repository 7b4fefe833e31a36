/* The null target: answers AoE reads and writes without a disk. The limit of recvmmsg and sendmmsg here.
 *
 *   null IF SHELF SLOT
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "../csrc/shared/wire.h"

enum { BATCH = 64, FRAME = ATA_HEADER + SECTORS_PER_FRAME_MAX * SECTOR };

static uint8_t in[BATCH][FRAME], out[BATCH][FRAME];

static unsigned answer(const uint8_t *f, unsigned length, uint8_t *r, const uint8_t *mac)
{
    unsigned size = ATA_HEADER;
    struct wire *reply = wire_at(r);
    if (length < ATA_HEADER || wire_is_reply(f))
        return 0;
    memcpy(r, f, ATA_HEADER);
    memcpy(reply->dst, wire_of(f)->src, MAC_BYTES);
    memcpy(reply->src, mac, MAC_BYTES);
    reply->verfl = VERSION << 4 | FLAG_RESPONSE;
    if (reply->command == COMMAND_ATA) {
        if (reply->ata.opcode == READ_SECTORS_EXT)
            size += reply->ata.count * SECTOR;
        reply->ata.status = READY;
    }
    return size < FRAME_MIN ? FRAME_MIN : size;
}

int main(int argc, char **argv)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE)};
    struct mmsghdr get[BATCH] = {0}, put[BATCH];
    struct iovec from[BATCH], to[BATCH];
    struct ifreq request = {0};
    int fd = socket(AF_PACKET, SOCK_RAW, 0), big = 16 << 20;
    if (argc < 2 || fd < 0)
        return 2;
    snprintf(request.ifr_name, IFNAMSIZ, "%s", argv[1]);
    address.sll_ifindex = (int)if_nametoindex(argv[1]);
    if (ioctl(fd, SIOCGIFHWADDR, &request) || bind(fd, (struct sockaddr *)&address, sizeof address))
        return 2;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof big);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof big);
    memset(out, 0x5A, sizeof out);
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            from[i] = (struct iovec){in[i], FRAME};
            get[i].msg_hdr = (struct msghdr){.msg_iov = &from[i], .msg_iovlen = 1};
        }
        int got = recvmmsg(fd, get, BATCH, MSG_WAITFORONE, NULL), n = 0;
        for (int i = 0; i < got; i++) {
            unsigned size = answer(in[i], get[i].msg_len, out[n], (uint8_t *)request.ifr_hwaddr.sa_data);
            if (!size)
                continue;
            to[n] = (struct iovec){out[n], size};
            put[n++].msg_hdr = (struct msghdr){.msg_iov = &to[n - 1], .msg_iovlen = 1};
        }
        for (int done = 0; done < n;) {
            int sent = sendmmsg(fd, put + done, (unsigned)(n - done), 0);
            done += sent > 0 ? sent : 1;
        }
    }
}
