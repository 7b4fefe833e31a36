/* What the options of the command line mean. */
#ifndef AOE_WORDS_H
#define AOE_WORDS_H

#include "options.h"

/* To be freed; NULL where there is no memory, which is said. */
char *words_copy(const char *key, const char *text);
/* 0, or -1 where there is no such option or the text means nothing to it, which is said. */
int words_set(struct options *how, const char *key, const char *text);
void words_free(struct options *how);

#endif
