/* How we are called. */
#include "door.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "Usage: aoe-door [OPTION...] /dev/nbdN NBDKIT ARGUMENT...\n"
    "\n"
    "Attach /dev/nbdN to the disk that NBDKIT serves with the plugin of aoe, and keep it attached: where nbdkit\n"
    "dies, what was under way waits, another one is started, and nothing is lost.\n"
    "Returns when the device is there, and leaves a process behind. SIGTERM detaches a device that nothing uses,\n"
    "and has no effect on one that is in use.\n"
    "\n"
    "  -f, --foreground       stay in the foreground, and tell a service manager when the device is there\n"
    "  -r, --root DIRECTORY   where NBDKIT and all that it opens is, as its root directory; with it nothing outside\n"
    "                         is opened after the device is there\n"
    "  -R, --ready FD         write a byte to this descriptor, and close it, when the device is there\n"
    "  -k, --kernel-log       write messages to /dev/kmsg\n"
    "  -b, --block BYTES      logical block of the device: 512 to 4096 (512)\n"
    "  -m, --max-kib KIB      most that a request of the kernel carries (512)\n"
    "  -t, --io-timeout MS    after which the kernel repeats what a dead connection had under way (2000)\n"
    "  -h, --help\n"
    "\n"
    "NBDKIT is a path, and its arguments are those of nbdkit(1) without a socket, for example\n"
    "  aoe-door -k -r /aoe /dev/nbd0 /usr/sbin/nbdkit --threads=16 /lib/aoe_nbd_plugin.so address=e0.5 \\\n"
    "           address=e1.5 interface=eth0 timeout=none\n"
    "Exit status: 0 the device is there (or, in the foreground, was detached), 1 it is not, 2 wrong arguments.\n";

enum { FAILED = 1, WRONG = 2 };

static const struct option words[] = {
    {"foreground", no_argument, NULL, 'f'},      {"root", required_argument, NULL, 'r'},
    {"kernel-log", no_argument, NULL, 'k'},      {"block", required_argument, NULL, 'b'},
    {"max-kib", required_argument, NULL, 'm'},   {"io-timeout", required_argument, NULL, 't'},
    {"ready", required_argument, NULL, 'R'},     {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static int number(const char *text, uint32_t least, uint32_t most, uint32_t *value)
{
    char *end;
    errno = 0;
    unsigned long got = strtoul(text, &end, 10);
    if (errno || *end || end == text || got < least || got > most) {
        fprintf(stderr, "aoe-door: '%s' is not a number from %u to %u\n", text, least, most);
        return 1;
    }
    *value = (uint32_t)got;
    return 0;
}

static int block(const char *text, uint32_t *value)
{
    if (number(text, 512, 4096, value))
        return 1;
    if (*value & (*value - 1))
        fprintf(stderr, "aoe-door: '%s' is not a power of two\n", text);
    return (*value & (*value - 1)) != 0;
}

static int take(struct options *o, int option)
{
    switch (option) {
    case 'f': return o->foreground = 1, 0;
    case 'k': return o->kernel_log = 1, 0;
    case 'r': return o->root = optarg, 0;
    case 'R': return number(optarg, 3, 1 << 20, &o->ready);
    case 'b': return block(optarg, &o->block);
    case 'm': return number(optarg, 4, 32 << 10, &o->sectors_kib);
    case 't': return number(optarg, 100, 3600000, &o->io_timeout_ms);
    default: return 1;
    }
}

/* What exits with 0, 1 or 2 is told as 1, 2 or 3. */
int options_of(int argc, char **argv, struct options *o)
{
    int end = 0;
    *o = (struct options){.block = 512, .sectors_kib = 512, .io_timeout_ms = 2000, .notify = getenv("NOTIFY_SOCKET")};
    for (int option; (option = getopt_long(argc, argv, "+fr:R:kb:m:t:h", words, NULL)) != -1;) {
        if (option == 'h')
            return printf("%s", usage), 1;
        if (take(o, option))
            return 1 + WRONG;
    }
    if (argc - optind < 3 || sscanf(argv[optind], "/dev/nbd%4u%n", &o->number, &end) != 1 || argv[optind][end]) {
        fprintf(stderr, "aoe-door: /dev/nbdN, the path of nbdkit and its arguments are needed; see aoe-door --help\n");
        return 1 + WRONG;
    }
    if (*argv[optind + 1] != '/') {
        fprintf(stderr, "aoe-door: '%s' is not a path of nbdkit; write it from / on\n", argv[optind + 1]);
        return 1 + WRONG;
    }
    o->device = argv[optind] + strlen("/dev/");
    o->command = argv + optind + 1;
    return 0;
}
