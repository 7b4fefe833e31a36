/* What a supervisor is made of, before there is a door: a part of the kernel's I/O, and all that it opens outside of its root. */
#include "door.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#endif

enum { PLACES = 4 };

struct door d = {.socket = -1, .parent = -1, .canary = -1};

_Noreturn void must_end(const char *what, int bad)
{
    say("%s: %s", what, strerror(bad < 0 ? -bad : bad));
    if (!d.is_attached) /* nothing else would end it; one that is in use serves on */
        child_end(&d.child);
    exit(1);
}

/* What we are */

static char *copy(const char *format, const char *text)
{
    char *made;
    if (asprintf(&made, format, text) < 0)
        must_end("memory", ENOMEM);
    return made;
}

static void put_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        say("%s: %s", path, strerror(errno));
    if (fd >= 0)
        close(fd);
}

/* A program that a root stands on is known by an '@' (systemd's ROOT_STORAGE_DAEMONS.md). */
void take_our_name(char **argv)
{
    char *name = argv[0];
    if (*name == '@')
        return;
    argv[0] = copy("@%s", name);
    execvp(name, argv);
    say("%s: %s; it may be ended when the system shuts down", name, strerror(errno));
    argv[0] = name;
}

/* Writeback needs us, and must not wait for memory that needs writeback. */
void become_part_of_io(void)
{
    if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0))
        say("memory for I/O cannot be set aside: %s", strerror(errno));
    put_file("/proc/self/oom_score_adj", "-1000");
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT))
        say("memory cannot be locked: %s", strerror(errno));
}

int above(int fd, const char *what)
{
    int moved = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FD);
    if (moved < 0)
        must_end(what, errno);
    close(fd);
    return moved;
}

void watch_signals(void)
{
    sigset_t all, ours;
    sigfillset(&all);
    for (const int *fault = (int[]){SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, 0}; *fault; fault++)
        sigdelset(&all, *fault);
    sigprocmask(SIG_SETMASK, &all, NULL); /* a door inherits it */
    sigemptyset(&ours);
    sigaddset(&ours, SIGCHLD);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigaddset(&ours, SIGUSR1);
    d.signals = above(signalfd(-1, &ours, SFD_NONBLOCK), "signals");
}

void make_estate(void)
{
    d.child.estate_fd = above(memfd_create("aoe-door", MFD_CLOEXEC), "memory for the next door");
    if (ftruncate(d.child.estate_fd, sizeof *d.estate))
        must_end("memory for the next door", errno);
    d.estate = mmap(NULL, sizeof *d.estate, PROT_READ | PROT_WRITE, MAP_SHARED, d.child.estate_fd, 0);
    if (d.estate == MAP_FAILED)
        must_end("memory for the next door", errno);
    d.estate->signature = ESTATE_SIGNATURE;
}

/* A door never waits for its messages to be read. */
void make_log(void)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK))
        must_end("messages", errno);
    d.log = above(ends[0], "messages");
    d.child.log_fd = above(ends[1], "messages");
}

/* nbdkit opens /dev/null there. */
static int open_root(const char *path)
{
    int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root < 0)
        must_end(path, errno);
    if ((mkdirat(root, "dev", 0755) && errno != EEXIST) ||
        (mknodat(root, "dev/null", S_IFCHR | 0666, makedev(1, 3)) && errno != EEXIST))
        say("%s/dev/null: %s", path, strerror(errno));
    return root;
}

/* Else what is opened next would be in their place, and be lost with them. */
void fill_streams(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    d.nothing = above(fd, "/dev/null");
    say_here();
}

/* All that is outside of what may be our root. */
void open_outside(void)
{
    int bad = netlink_open(&d.kernel);
    if (bad)
        must_end(bad == -ENOENT ? "the kernel has no NBD devices; load the module nbd" : "generic netlink", bad);
    d.devices = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
    bad = device_open();
    if (bad)
        must_end(d.set.device, bad);
    d.child.root = d.set.root ? open_root(d.set.root) : -1;
    if (d.set.kernel_log)
        say_to_kernel(above(open("/dev/kmsg", O_WRONLY | O_CLOEXEC), "/dev/kmsg"));
}

/* What ends with .so among the arguments is the plugin, which is to come before the C library (csrc/nbd/vanished.c). */
static char *plugin_of(char **words)
{
    for (; *words; words++)
        if (strlen(*words) > 3 && !strcmp(*words + strlen(*words) - 3, ".so"))
            return *words;
    return NULL;
}

void make_command(char **words)
{
    extern char **environ;
    size_t count = 0, of_environment = 0;
    while (words[count])
        count++;
    while (environ[of_environment])
        of_environment++;
    d.child.words = calloc(count + 2, sizeof *words);
    d.child.environment = calloc(of_environment + PLACES, sizeof *words);
    if (!d.child.words || !d.child.environment)
        must_end("memory", ENOMEM);
    memcpy(d.child.words, words, count * sizeof *words);
    d.child.words[0] = copy("@%s", words[0]);
    d.child.words[count] = "supervised=4";
    size_t used = 0;
    for (char **it = environ; *it; it++)
        if (strncmp(*it, "LISTEN_", 7) && strncmp(*it, "NOTIFY_SOCKET=", 14) && strncmp(*it, "LD_PRELOAD=", 11))
            d.child.environment[used++] = *it;
    d.child.environment[used++] = "LISTEN_FDS=1";
    if (plugin_of(words) && !strpbrk(plugin_of(words), " :")) /* no such path can be preloaded (ld.so(8)) */
        d.child.environment[used++] = copy("LD_PRELOAD=%s", plugin_of(words));
}
