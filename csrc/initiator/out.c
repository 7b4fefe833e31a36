/* What a channel hands out: frames to be sent, and effects to be seen to. */
#include <string.h>

#include "channel.h"

struct effect *channel_effect(aoe_core *c)
{
    if (c->effects_count == c->effects_room) {
        c->effects_room = c->effects_room ? 2 * c->effects_room : 64;
        c->effects = must_allocate(c->effects, c->effects_room * sizeof *c->effects);
    }
    return &c->effects[c->effects_count++];
}

aoe_out *send_frame(aoe_core *c, uint32_t port, const uint8_t *mac, const uint8_t *own, uint32_t shelf, uint32_t slot,
                    uint32_t command, uint32_t tag, const struct body *body)
{
    if (c->out_count == c->out_room) {
        c->out_room = c->out_room ? 2 * c->out_room : 64;
        c->out = must_allocate(c->out, c->out_room * sizeof *c->out);
    }
    aoe_out *out = &c->out[c->out_count++];
    uint8_t *f = out->head;
    uint32_t head = AOE_HEADER + body->head_length;
    wire_put_header(f, mac, own, shelf, slot, command, tag);
    memcpy(f + AOE_HEADER, body->head, body->head_length);
    out->port = port;
    out->data = body->data;
    out->data_length = body->data_length;
    if (head + body->data_length < FRAME_MIN) {
        memset(f + head, 0, FRAME_MIN - head);
        if (body->data_length)
            memcpy(f + head, body->data, body->data_length);
        out->data_length = 0;
        head = FRAME_MIN;
    }
    out->head_length = head;
    out->tail_length = 0;
    return out;
}

void stamp_registers(struct wire_registers *registers, const struct stamp *stamp)
{
    if (registers->opcode == DATA_SET_MANAGEMENT)
        registers->lba[0] = stamp->epoch;
    else
        registers->feature = stamp->epoch;
    wire_put_big16(registers->stream, stamp->stream);
}

void stamp_trailer(uint8_t *at, const struct stamp *stamp)
{
    memcpy(at, STREAM_SIGNATURE, SIGNATURE_BYTES);
    wire_put_little(at + SIGNATURE_BYTES, INSTANCE_BYTES, stamp->instance);
}
