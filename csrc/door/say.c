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

enum { LINE = 800 }; /* the kernel cuts a longer one off */

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

/* What started us reads standard error until the device is there. */
static void put(const char *text)
{
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
