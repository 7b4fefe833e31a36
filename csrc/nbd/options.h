/* Made of aoe/initiator/options.py by `python -m csrc.generate`: change that. */
#ifndef AOE_OPTIONS_H
#define AOE_OPTIONS_H

#include <stddef.h>
#include <stdint.h>

#define OPTION_SECONDS_MAX 1e+09
enum { FENCE_MAX = 64 };

enum { VERIFY_TRUST, VERIFY_REQUIRE };
static const char *const verify_words[] = {"trust", "require", NULL};

struct options {
    int64_t timeout_ns; /* negative: none */
    uint32_t spread;
    uint32_t hold;
    char *fence[FENCE_MAX + 1]; /* and NULL */
    int64_t failback_ns; /* negative: none */
    int64_t find_ns;
    uint32_t verify;
    uint32_t background;
};

enum option_kind { OPTION_SECONDS, OPTION_SECONDS_OR_NONE, OPTION_FLAG, OPTION_CHOICE, OPTION_COMMAND };

struct option {
    const char *key;
    enum option_kind kind;
    size_t at;                /* where its value is in `struct options` */
    const char *const *words; /* what a choice may be, and NULL */
};

static const struct option option_table[] = {
    {"timeout", OPTION_SECONDS_OR_NONE, offsetof(struct options, timeout_ns), NULL},
    {"spread", OPTION_FLAG, offsetof(struct options, spread), NULL},
    {"hold", OPTION_FLAG, offsetof(struct options, hold), NULL},
    {"fence", OPTION_COMMAND, offsetof(struct options, fence), NULL},
    {"failback", OPTION_SECONDS_OR_NONE, offsetof(struct options, failback_ns), NULL},
    {"find", OPTION_SECONDS, offsetof(struct options, find_ns), NULL},
    {"verify", OPTION_CHOICE, offsetof(struct options, verify), verify_words},
    {"background", OPTION_FLAG, offsetof(struct options, background), NULL},
};

#define OPTIONS_DEFAULT {.timeout_ns = -1, .spread = 0, .hold = 0, .failback_ns = -1, .find_ns = 5000000000, .verify = VERIFY_TRUST, .background = 0}

#define OPTIONS_HELP \
    "timeout=SECONDS|none  how long a request is repeated before it fails; none: for\n                      ever\n" \
    "spread=true           read over all proved paths; a read that overlaps a write\n                      still goes to the owner\n" \
    "hold=true             keep ranges of unknown fate closed until the server answers\n                      or is fenced, not only for a time\n" \
    "fence=COMMAND         a command that makes sure that a lost server does nothing\n                      any more (power switch, DRBD, RBD blocklist); it gets the\n                      server's MAC and address, and opens the ranges when it ends\n                      with status 0\n" \
    "failback=SECONDS|none go back to a proved path whose address is named earlier once\n                      it was usable for so long; none: never\n" \
    "find=SECONDS          how long the disk is looked for at first\n" \
    "verify=trust|require  when the owner is lost and no other server was proved to\n                      have the disk: trust lets one that was not take over,\n                      require waits for one that was\n" \
    "background=true       let what is asked for wait while other hosts ask the same\n                      server, if that is aoe-target\n"

#endif
