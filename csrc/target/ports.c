#include "ports.h"

void port_publish(aoe_engine *e, uint32_t port, const aoe_port *now)
{
    uint64_t fit = (e->set.frame_max - ATA_HEADER) / SECTOR; /* buffers are made for that */
    uint64_t facts = (now->sectors < fit ? now->sectors : fit) << 48;
    for (int i = 0; i < 6; i++)
        facts |= (uint64_t)now->mac[i] << 8 * i;
    atomic_store(&e->port_facts[port], facts);
}

void port_facts(const aoe_engine *e, uint32_t port, uint8_t mac[6], uint32_t *sectors)
{
    uint64_t facts = atomic_load_explicit(&e->port_facts[port], memory_order_relaxed);
    for (int i = 0; i < 6; i++)
        mac[i] = (uint8_t)(facts >> 8 * i);
    *sectors = (uint32_t)(facts >> 48);
}
