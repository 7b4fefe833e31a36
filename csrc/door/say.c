/* Lines. The kernel's log takes one line with each write, and other programs write there, too. */
#include "door.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE = 800 /* the kernel cuts a longer one off */, KNOWN = 32 };
#define MINUTE_NS 60000000000ll

static int kernel_fd = -1, error_fd = STDERR_FILENO;

void say_to_kernel(int fd) { kernel_fd = fd; }

/* A pipe or terminal is opened once more, so that we alone do not wait there; others may have it open, too. */
void say_here(void)
{
    char path[32];
    struct stat is;
    if (error_fd != STDERR_FILENO)
        close(error_fd);
    error_fd = STDERR_FILENO;
    if (fstat(STDERR_FILENO, &is) || !(S_ISFIFO(is.st_mode) || S_ISCHR(is.st_mode)))
        return;
    snprintf(path, sizeof path, "/proc/self/fd/%d", STDERR_FILENO);
    int again = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC), moved = fcntl(again, F_DUPFD_CLOEXEC, FIRST_FD);
    if (again >= 0)
        close(again);
    error_fd = moved < 0 ? STDERR_FILENO : moved;
}

static int line_of(char *line, size_t room, const char *level, const char *text)
{
    return snprintf(line, room, "%saoe-door: %.*s\n", level, LINE, text);
}

/* That never waits, and has no poll for what is written. */
static void put_to_kernel(const char *text)
{
    char line[LINE + 64];
    if (write(kernel_fd, line, (size_t)line_of(line, sizeof line, "<5>", text)) < 0)
        errno = 0;
}

/* Where that cannot be written now, nothing waits for it. */
static void put_here(const char *text)
{
    char line[LINE + 64];
    size_t length = (size_t)line_of(line, sizeof line, "", text);
    struct pollfd room = {error_fd, POLLOUT, 0};
    if (send(error_fd, line, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != ENOTSOCK)
        return;
    if (poll(&room, 1, 0) <= 0 || write(error_fd, line, length) < 0)
        errno = 0;
}

static struct known {
    uint64_t what;
    int64_t delay_ns, due_ns; /* how long it is not said again; until when */
} known[KNOWN];

void say_all_anew(void) { memset(known, 0, sizeof known); }

/* FNV-1a */
static uint64_t hash(const char *text)
{
    uint64_t made = 0xcbf29ce484222325;
    for (; *text; text++)
        made = (made ^ (uint8_t)*text) * 0x100000001b3;
    return made;
}

/* Where it is, or could be. */
static struct known *known_of(uint64_t what)
{
    struct known *free_place = known;
    for (struct known *it = known; it < known + KNOWN; it++) {
        if (it->what == what)
            return it;
        if (it->due_ns < free_place->due_ns)
            free_place = it;
    }
    *free_place = (struct known){.what = what};
    return free_place;
}

/* Without a disk, each door that comes says the same: after one minute, two, four, eight, and then ten, it is said again. */
static int is_news(const char *text)
{
    int64_t now = boottime_ns();
    if (d.is_attached && !d.lost_ns)
        return 1;
    struct known *k = known_of(hash(text));
    if (now < k->due_ns)
        return 0;
    k->delay_ns = !k->delay_ns ? MINUTE_NS : k->delay_ns < 5 * MINUTE_NS ? 2 * k->delay_ns : 10 * MINUTE_NS;
    k->due_ns = now + k->delay_ns;
    return 1;
}

/* What started us reads standard error until the device is there. */
static void put(const char *text)
{
    if (!is_news(text))
        return;
    if (kernel_fd >= 0)
        put_to_kernel(text);
    if (kernel_fd < 0 || d.parent >= 0)
        put_here(text);
}

void say(const char *format, ...)
{
    char text[LINE + 1];
    va_list words;
    va_start(words, format);
    vsnprintf(text, sizeof text, format, words);
    va_end(words);
    put(text);
}

static const char *behind(const char *text, const char *prefix)
{
    size_t length = strlen(prefix);
    return strncmp(text, prefix, length) ? text : text + length;
}

/* nbdkit names itself, its plugin and that it is an error. */
static void put_of_door(char *text)
{
    const char *rest = behind(text, "@nbdkit: "), *colon;
    rest = behind(rest, "nbdkit: ");
    colon = strstr(rest, "error: ");
    put(colon && colon - rest < 16 ? colon + strlen("error: ") : rest);
}

static struct {
    char text[LINE + 1];
    size_t length;
} kept; /* of a line that is not whole yet */

/* What follows one that was cut off may be nothing. */
static void end_line(size_t length, size_t newline)
{
    kept.text[length] = 0;
    if (length)
        put_of_door(kept.text);
    kept.length -= length + newline;
    memmove(kept.text, kept.text + length + newline, kept.length);
}

void say_what_comes(int fd)
{
    for (ssize_t got; (got = read(fd, kept.text + kept.length, LINE - kept.length)) > 0;) {
        kept.length += (size_t)got;
        for (char *end; (end = memchr(kept.text, '\n', kept.length)) || kept.length == LINE;)
            end_line(end ? (size_t)(end - kept.text) : LINE, end != NULL);
    }
}

void say_last_of(int fd)
{
    say_what_comes(fd);
    end_line(kept.length, 0);
}
