/* Stands before each engine file of the fuzz build: its system calls go to the world of world.c. */
#ifndef AOE_FUZZ_CALLS_H
#define AOE_FUZZ_CALLS_H

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "small.h"

int world_clock_gettime(clockid_t clock, struct timespec *now);
int world_ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask);
int world_getsockopt(int fd, int level, int name, void *value, socklen_t *size);
int world_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags);
ssize_t world_pread(int fd, void *buffer, size_t length, off_t offset);
ssize_t world_preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags);
ssize_t world_pwrite(int fd, const void *bytes, size_t length, off_t offset);
int world_inotify_init1(int flags);
int world_inotify_add_watch(int fd, const char *path, uint32_t events);
int world_pthread_create(pthread_t *id, const pthread_attr_t *how, void *(*run)(void *), void *argument);
int world_pthread_join(pthread_t id, void **result);

#define clock_gettime world_clock_gettime
#define ppoll world_ppoll
#define getsockopt world_getsockopt
#define sendmmsg world_sendmmsg
#define pread world_pread
#define preadv2 world_preadv2
#define pwrite world_pwrite
#define inotify_init1 world_inotify_init1
#define inotify_add_watch world_inotify_add_watch
#define pthread_create world_pthread_create
#define pthread_join world_pthread_join

#endif
