#include "ports.h"

#include <string.h>

void port_publish(aoe_engine *e, uint32_t port, const aoe_port *now)
{
    uint64_t fit = (e->set.frame_max - ATA_HEADER) / SECTOR; /* buffers are made for that */
    uint64_t facts = (now->sectors < fit ? now->sectors : fit) << 48;
    memcpy(&facts, now->mac, 6);
    atomic_store(&e->port_facts[port], facts);
}

void port_facts(const aoe_engine *e, uint32_t port, uint8_t mac[6], uint32_t *sectors)
{
    uint64_t facts = atomic_load_explicit(&e->port_facts[port], memory_order_relaxed);
    memcpy(mac, &facts, 6); /* the lowest byte is the first */
    *sectors = (uint32_t)(facts >> 48);
}
