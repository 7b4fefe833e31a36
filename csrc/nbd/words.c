#define NBDKIT_API_VERSION 2
#include "words.h"

#include <nbdkit-plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1e9

char *words_copy(const char *key, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        nbdkit_error("%s=%s: no memory", key, text);
    return copy;
}

static int seconds(const char *key, const char *text, int64_t *ns)
{
    char *end;
    double s = strtod(text, &end);
    if (end == text || *end || !(s >= 0 && s <= OPTION_SECONDS_MAX)) {
        nbdkit_error("%s=%s is not a number of seconds", key, text);
        return -1;
    }
    *ns = (int64_t)(s * SECOND_NS);
    return 0;
}

static int seconds_or_none(const char *key, const char *text, int64_t *ns)
{
    if (strcmp(text, "none"))
        return seconds(key, text, ns);
    *ns = -1;
    return 0;
}

static int flag(const char *text, uint32_t *flag)
{
    int is = nbdkit_parse_bool(text);
    *flag = is == 1;
    return is < 0 ? -1 : 0;
}

static int choice(const char *key, const char *text, const char *const *words, uint32_t *chosen)
{
    char known[128] = "";
    for (*chosen = 0; words[*chosen]; (*chosen)++) {
        if (!strcmp(text, words[*chosen]))
            return 0;
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, " %s", words[*chosen]);
    }
    nbdkit_error("%s=%s is not one of:%s", key, text, known);
    return -1;
}

static int command_word(const char *key, const char *text, char **words)
{
    uint32_t count = 0;
    while (words[count])
        count++;
    if (count == FENCE_MAX) {
        nbdkit_error("%s: more than %d words", key, FENCE_MAX);
        return -1;
    }
    words[count] = words_copy(key, text);
    return words[count] ? 0 : -1;
}

static int set(struct options *how, const struct option *option, const char *text)
{
    void *value = (char *)how + option->at;
    switch (option->kind) {
    case OPTION_SECONDS:
        return seconds(option->key, text, value);
    case OPTION_SECONDS_OR_NONE:
        return seconds_or_none(option->key, text, value);
    case OPTION_FLAG:
        return flag(text, value);
    case OPTION_CHOICE:
        return choice(option->key, text, option->words, value);
    case OPTION_COMMAND:
        return command_word(option->key, text, value);
    }
    return -1;
}

int words_set(struct options *how, const char *key, const char *text)
{
    for (size_t i = 0; i < sizeof option_table / sizeof *option_table; i++)
        if (!strcmp(key, option_table[i].key))
            return set(how, &option_table[i], text);
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
}

void words_free(struct options *how)
{
    for (char **word = how->fence; *word; word++)
        free(*word);
}
