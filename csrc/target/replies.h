/* Replies on their way out: gathered, and sent many at a time. */
#ifndef AOE_REPLIES_H
#define AOE_REPLIES_H

#include "state.h"

/* To requests, given by their first ATA_HEADER bytes; 0, and counted, where there is no room. */
int reply_plain(struct thread *t, uint32_t port, const uint8_t *request, const struct answer *answer);
int reply_op(struct thread *t, struct op *op);
int reply_mapped(struct thread *t, uint32_t port, const uint8_t *request, const struct answer *answer, uint64_t offset);
int reply_map_written(struct thread *t, uint32_t port, const uint8_t *request, const struct answer *answer);
/* An export goes: count nothing of it any more. */
void outlets_forget(struct thread *t, const struct export *x);
/* Send no more of what is kept for a port. */
void outlet_drop(struct thread *t, uint32_t port);
/* Make room for one more; a map may go with that. */
void outlet_room(struct thread *t, uint32_t port);
/* Send what is there; or only so much that no reply refers to a map, or to this part of it, any more. */
void outlets_flush(struct thread *t);
void outlets_unmap(struct thread *t);
void outlets_unmap_part(struct thread *t, const struct export *x, uint64_t offset, size_t length);

#endif
