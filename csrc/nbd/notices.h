/* What is said of paths: in nbdkit's log, and to the program that started us. */
#ifndef AOE_NOTICES_H
#define AOE_NOTICES_H

#include "shared.h"

/* The program that started us listens there. Fence commands do not get the descriptor. */
void notices_to(int announce);
/* Whose paths they are; the names stay. `disk` is NULL until it is open. */
void notices_all(void); /* in the log, also of a path that can be used again */
void notices_of(const char *name, char *const *port_names, uint32_t ports, struct shared *disk);
/* What an earlier door left is not over by time alone. */
void notices_hold(void);
/* The disk was found. */
void notices_found(int64_t size);

/* As shared_settings has them. */
void notices_state(const aoe_path *path);
void notices_unheeded(const aoe_path *path);
void notices_size(const aoe_path *path);
void notices_left(const aoe_debt *left, int is_known);
void notices_report(void);
void notices_hang_up(void);

/* No path leads to the disk: the reason of each. */
void notices_why_not(void);

#endif
