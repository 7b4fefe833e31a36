#include "link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int endpoint(const char *text, aoe_peer *peer)
{
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    char *end;
    if (!colon || (size_t)(colon - text) >= sizeof host)
        return 0;
    memcpy(host, text, (size_t)(colon - text));
    host[colon - text] = 0;
    unsigned long port = strtoul(colon + 1, &end, 10);
    peer->port = htons((uint16_t)port);
    return colon[1] && !*end && port <= 65535 && inet_pton(AF_INET, host, &peer->host) == 1;
}

/* The same for this host's link of this name every time, or mask lists and reservations would not know it again. */
static void stable_mac(uint8_t *mac, const char *text)
{
    uint64_t hash = 0xCBF29CE484222325u;
    FILE *machine = fopen("/etc/machine-id", "re");
    for (int byte; machine && (byte = getc(machine)) != EOF;)
        hash = (hash ^ (uint64_t)byte) * 0x100000001B3u;
    if (machine)
        fclose(machine);
    for (; *text && *text != ','; text++)
        hash = (hash ^ (uint8_t)*text) * 0x100000001B3u;
    mac[0] = 2;
    for (int i = 1; i < 6; i++)
        mac[i] = (uint8_t)(hash >> 8 * i);
}

static const char *option(aoe_remote_port *port, const char *text)
{
    char *end;
    if (!strncmp(text, "mtu=", 4)) {
        unsigned long mtu = strtoul(text + 4, &end, 10);
        port->mtu = (uint32_t)mtu;
        return *end || mtu < MTU_MIN || mtu > UDP_MTU_MAX ? "mtu= is not a number that fits" : NULL;
    }
    aoe_peer *peers = realloc((void *)port->peer, (port->peers + 1) * sizeof *peers);
    if (!peers)
        return "no memory";
    port->peer = peers;
    if (strncmp(text, "peer=", 5) || !endpoint(text + 5, &peers[port->peers]))
        return "neither peer=ADDRESS:PORT nor mtu=N";
    port->peers++;
    return NULL;
}

static const char *bind_to(aoe_remote_port *port, const aoe_peer *own)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = own->port, .sin_addr.s_addr = own->host};
    int size = RECEIVE_BUFFER;
    port->socket = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (port->socket < 0)
        return strerror(errno);
    setsockopt(port->socket, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    return bind(port->socket, (struct sockaddr *)&to, sizeof to) ? strerror(errno) : NULL;
}

const char *link_open(aoe_remote_port *port, const char *text)
{
    aoe_peer own;
    *port = (aoe_remote_port){.mtu = UDP_MTU_DEFAULT, .socket = -1};
    if (strncmp(text, "udp:", 4))
        return "it does not begin with udp:";
    char *copy = strdup(text + 4), *rest = copy;
    if (!copy)
        return "no memory";
    const char *word = strsep(&rest, ","), *wrong = endpoint(word, &own) ? NULL : "it does not begin with an address";
    while (!wrong && (word = strsep(&rest, ",")))
        wrong = option(port, word);
    free(copy);
    stable_mac(port->mac, text);
    if (!wrong)
        wrong = port->peers ? bind_to(port, &own) : "it names no peer=";
    return wrong;
}

void link_close(aoe_remote_port *port)
{
    if (!port->interface && port->socket >= 0)
        close(port->socket);
    free((void *)port->peer);
}
