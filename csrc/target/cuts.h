/* Snapshots of the exports of a thread: Python asks for them, the thread holds changes and lets them go. */
#ifndef AOE_CUTS_H
#define AOE_CUTS_H

#include "state.h"

/* Python has asked for something of an export. */
void cuts_adopt(struct thread *t, struct export *x);

/* Once around, where there are any, after everything that is due was begun; whether there was something to do. */
int cuts_look(struct thread *t);

/* An export goes, by its thread; and once no thread runs any more. */
void cuts_forget(struct thread *t, struct export *x);
void cuts_drop(struct export *x);

#endif
