/* Maps of stores that are memory. */
#ifndef AOE_MAP_H
#define AOE_MAP_H

#include "state.h"

int maps_open(struct thread *t);
void map_store(struct thread *t, struct export *x);
void map_drop(struct export *x);
void map_forget(struct thread *t, struct export *x);
/* 0 where not all of it could be written. */
int map_write(struct export *x, uint64_t offset, const uint8_t *bytes, size_t length);
/* How many files have become shorter than their maps; those are not to be used any more, and then dropped. */
uint32_t maps_cut(struct thread *t);
void maps_drop_cut(struct thread *t);

#endif
