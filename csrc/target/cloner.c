#include "cloner.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "clocks.h"

enum stage { RESTS, ASKED, WORKS, DONE };
enum { SECOND_NS = 1000000000 };

struct cloner {
    pthread_mutex_t lock;
    pthread_cond_t news;
    int of, into, event, stopping;
    uint64_t length, step;
    enum stage stage;
    uint32_t range;
    uint64_t begin_ns; /* CLOCK_MONOTONIC */
    struct cloned done;
};

static uint32_t ranges(const struct cloner *c, uint64_t bytes) { return (uint32_t)((bytes + c->step - 1) / c->step); }

static int clone_range(const struct cloner *c, uint64_t offset)
{
    uint64_t left = c->length - offset;
    struct file_clone_range range = {
        .src_fd = c->of, .src_offset = offset, .src_length = left < c->step ? left : c->step, .dest_offset = offset};
    return ioctl(c->into, FICLONERANGE, &range) ? errno : 0;
}

/* What was never written needs no call for each range. */
static void clone_from(const struct cloner *c, struct cloned *done)
{
    uint64_t offset = done->first * c->step;
    off_t found = lseek(c->of, (off_t)offset, SEEK_DATA);
    uint64_t data = found < 0 ? c->length : (uint64_t)found;
    if (found < 0 && errno != ENXIO)
        done->error = errno;
    else if (data >= c->length)
        done->last = ranges(c, c->length);
    else if (data >= offset + c->step)
        done->last = (uint32_t)(data / c->step);
    else
        done->error = clone_range(c, offset);
}

static void work(struct cloner *c)
{
    struct cloned done = {.first = c->range, .last = c->range + 1};
    c->stage = WORKS;
    pthread_mutex_unlock(&c->lock);
    uint64_t began_ns = clock_ns(CLOCK_MONOTONIC);
    clone_from(c, &done);
    done.took_ns = clock_ns(CLOCK_MONOTONIC) - began_ns;
    pthread_mutex_lock(&c->lock);
    c->done = done;
    c->stage = DONE;
    if (!c->stopping)
        eventfd_write(c->event, 1);
}

static void wait_for_work(struct cloner *c)
{
    struct timespec until = {.tv_sec = (time_t)(c->begin_ns / SECOND_NS), .tv_nsec = (long)(c->begin_ns % SECOND_NS)};
    if (c->stage != ASKED)
        pthread_cond_wait(&c->news, &c->lock);
    else
        pthread_cond_timedwait(&c->news, &c->lock, &until);
}

static void cloner_free(struct cloner *c)
{
    if (c->of >= 0)
        close(c->of);
    if (c->into >= 0)
        close(c->into);
    pthread_cond_destroy(&c->news);
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static void *run(void *argument)
{
    struct cloner *c = argument;
    pthread_mutex_lock(&c->lock);
    while (!c->stopping) {
        if (c->stage == ASKED && c->begin_ns <= clock_ns(CLOCK_MONOTONIC))
            work(c);
        else
            wait_for_work(c);
    }
    pthread_mutex_unlock(&c->lock);
    cloner_free(c);
    return NULL;
}

static int start_thread(struct cloner *c)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int bad = pthread_create(&thread, NULL, run, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!bad)
        pthread_detach(thread);
    return bad;
}

static int start(struct cloner *c)
{
    pthread_condattr_t clock;
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_cond_init(&c->news, &clock);
    pthread_condattr_destroy(&clock);
    return c->of < 0 || c->into < 0 ? EMFILE : start_thread(c);
}

struct cloner *cloner_open(int of, int into, uint64_t length, uint64_t step, int event, int *error)
{
    struct cloner *c = malloc(sizeof *c);
    *error = ENOMEM;
    if (!c)
        return NULL;
    *c = (struct cloner){.length = length, .step = step, .event = event};
    c->into = fcntl(into, F_DUPFD_CLOEXEC, 0);
    c->of = fcntl(of, F_DUPFD_CLOEXEC, 0);
    *error = start(c);
    if (!*error)
        return c;
    cloner_free(c);
    return NULL;
}

void cloner_ask(struct cloner *c, uint32_t range, uint64_t rest_ns)
{
    pthread_mutex_lock(&c->lock);
    if (c->stage == RESTS || (c->stage == ASKED && (!rest_ns || range != c->range))) {
        c->stage = ASKED;
        c->range = range;
        c->begin_ns = clock_ns(CLOCK_MONOTONIC) + rest_ns;
        pthread_cond_signal(&c->news);
    }
    pthread_mutex_unlock(&c->lock);
}

int cloner_take(struct cloner *c, struct cloned *done)
{
    pthread_mutex_lock(&c->lock);
    int is_done = c->stage == DONE;
    if (is_done) {
        *done = c->done;
        c->stage = RESTS;
    }
    pthread_mutex_unlock(&c->lock);
    return is_done;
}

void cloner_close(struct cloner *c)
{
    pthread_mutex_lock(&c->lock);
    c->stopping = 1;
    pthread_cond_signal(&c->news);
    pthread_mutex_unlock(&c->lock);
}
