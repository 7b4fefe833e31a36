/* A door that a supervisor keeps: it takes over what the last one had under way, and tells the next (csrc/door). */
#ifndef AOE_HEIR_H
#define AOE_HEIR_H

#include "shared.h"

/* Map what the supervisor holds; NULL, or why not. From then on memory is locked as it is used, and no parent's end ends us. */
const char *heir_open(int fd);
/* Whether there is a supervisor. */
int heir_is_one(void);
/* What the last door left, to the settings; and its owner's address goes first. */
void heir_take_over(struct shared_settings *set, uint32_t *addresses);
/* Wait until what that one had under way is over; NULL, or why there is none. */
void heir_settle(struct shared *disk);
/* Whether the user says that it is over, since this was last asked. */
int heir_is_over(void);
/* NULL, or why it is not the disk that the last door had. */
const char *heir_meet(struct shared *disk);
/* Now and then: what the supervisor is to know. */
void heir_report(struct shared *disk);

#endif
