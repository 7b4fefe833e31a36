#include "sockets.h"

#include "replies.h"

/* Python's side */

/* A thread that does not run yet has looked at once. */
static void told(struct thread *t)
{
    if (t->engine->running)
        thread_wake(t);
    else
        sockets_adopt(t);
}

int aoe_engine_make_ring(const aoe_engine *e, int socket)
{
    return ring_make(socket, e->set.frame_max, e->set.ring_frames);
}

int aoe_engine_attach(aoe_engine *e, uint32_t thread, uint32_t port, int socket, int was_used)
{
    assert(thread < e->set.threads && port < e->set.ports);
    struct thread *t = &e->threads[thread];
    struct port *p = &t->ports[port];
    assert(atomic_load(&p->stage) == PORT_FREE);
    int bad = ring_open(&p->ring, socket, e->set.frame_max, e->set.ring_frames, was_used);
    if (bad)
        return bad;
    for (uint32_t m = 0; m < OUTLET; m++)
        p->out.messages[m].msg_hdr.msg_iov = p->out.replies[m].part;
    atomic_store(&p->stage, PORT_COMES);
    told(t);
    return 0;
}

void aoe_engine_detach(aoe_engine *e, uint32_t port)
{
    assert(port < e->set.ports);
    for (uint32_t i = 0; i < e->set.threads; i++) {
        struct thread *t = &e->threads[i];
        if (atomic_load(&t->ports[port].stage) != PORT_COMES)
            continue;
        ring_filter_all(t->ports[port].ring.fd);
        atomic_store(&t->ports[port].stage, PORT_LEAVES);
        told(t);
    }
}

uint64_t port_ring_full(struct port *port)
{
    if (atomic_load(&port->stage) != PORT_FREE)
        port->ring_full += ring_lost(&port->ring);
    return port->ring_full;
}

int aoe_engine_detached(aoe_engine *e, uint32_t port)
{
    assert(port < e->set.ports);
    for (uint32_t i = 0; i < e->set.threads; i++) {
        int stage = atomic_load_explicit(&e->threads[i].ports[port].stage, memory_order_acquire);
        if (stage != PORT_LEFT && stage != PORT_FREE)
            return 0;
    }
    for (uint32_t i = 0; i < e->set.threads; i++) {
        struct port *p = &e->threads[i].ports[port];
        port_ring_full(p);
        ring_close(&p->ring);
        atomic_store(&p->stage, PORT_FREE);
    }
    return 1;
}

/* The thread's side */

void sockets_adopt(struct thread *t)
{
    for (uint32_t p = 0; p < t->engine->set.ports; p++) {
        struct port *port = &t->ports[p];
        int stage = atomic_load_explicit(&port->stage, memory_order_acquire);
        if (stage == PORT_COMES && port->open == PORT_CLOSED)
            port->open = PORT_OPEN;
        if (stage == PORT_LEAVES && port->open != PORT_DRAINS) {
            port->open = PORT_DRAINS;
            t->ports_leave++;
        }
        if (port->open && t->ports_used <= p)
            t->ports_used = p + 1;
    }
}

static void leave(struct thread *t, struct port *port)
{
    assert(t->ports_leave && !port->held && !port->out.count);
    port->open = PORT_CLOSED;
    t->ports_leave--;
    while (t->ports_used && !t->ports[t->ports_used - 1].open)
        t->ports_used--;
    atomic_store_explicit(&port->stage, PORT_LEFT, memory_order_release);
    t->up_news = 1;
}

void sockets_let_go(struct thread *t)
{
    for (uint32_t p = t->ports_used; p-- > 0;) {
        struct port *port = &t->ports[p];
        if (port->open != PORT_DRAINS)
            continue;
        if (port->out.blocked)
            outlet_drop(t, p);
        if (!port->held && !port->out.count)
            leave(t, port);
    }
}
