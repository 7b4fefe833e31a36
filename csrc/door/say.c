/* Lines. The kernel's log takes one line with each write, and other programs write there, too. */
#include "door.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { LINE = 800 }; /* the kernel cuts a longer one off */

static int kernel_fd = -1;

void say_to_kernel(int fd) { kernel_fd = fd; }

/* Where that cannot be written, nothing waits for it. */
static void put_to(int fd, const char *level, const char *text)
{
    char line[LINE + 64];
    int length = snprintf(line, sizeof line, "%saoe-door: %.*s\n", level, LINE, text);
    if (write(fd, line, (size_t)length) < 0)
        errno = 0;
}

/* What started us reads standard error until the device is there. */
static void put(const char *text)
{
    if (kernel_fd >= 0)
        put_to(kernel_fd, "<5>", text);
    if (kernel_fd < 0 || d.parent >= 0)
        put_to(STDERR_FILENO, "", text);
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

void say_what_comes(int fd)
{
    static char kept[LINE + 1];
    static size_t length;
    for (ssize_t got; (got = read(fd, kept + length, LINE - length)) > 0;) {
        length += (size_t)got;
        kept[length] = 0;
        for (char *end; (end = memchr(kept, '\n', length)) || length == LINE;) {
            size_t used = end ? (size_t)(end - kept) + 1 : length;
            kept[end ? used - 1 : used] = 0;
            put_of_door(kept);
            memmove(kept, kept + used, length -= used);
        }
    }
}
