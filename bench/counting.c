/* What the numbers of a target cost: the processor's time of writes into memory that are counted, and of others that
 * are not, in turn.
 *
 *   counting BYTES BATCH
 *
 * Each write copies so many bytes; BATCH of them are answered at once, for which the clock is read once. Prints the
 * nanoseconds of one that is not counted; how many more it is as for a store in memory; and as for a disk, with how
 * long that took and how many are under way: medians of rounds that follow each other.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../csrc/target/clocks.h"
#include "../csrc/target/work.h"

enum { ROUNDS = 400, BATCHES = 400, BATCH_MAX = 64, CLIENTS = 4, RING = 4 << 20, STORE = 64 << 20 };

static struct work work;
static struct crowd crowd;
static uint8_t ring[RING], store[STORE];
static uint64_t stamps[BATCH_MAX];
static const uint8_t macs[CLIENTS][MAC_BYTES] = {{2, 1}, {2, 2}, {2, 3}, {2, 4}};
static uint32_t done;

enum { NOT, MEMORY, DISK, WAYS };

static void batch(size_t bytes, uint32_t size, int way)
{
    uint64_t boot_ns = clock_ns(CLOCK_BOOTTIME);
    for (uint32_t i = 0; i < size; i++) {
        done++;
        memcpy(store + done * 2654435761u % (STORE - bytes), ring + done * bytes % (RING - bytes), bytes);
        stamps[i] = boot_ns - done % 1000 * 1000;
        if (way != NOT) {
            struct asked asked = {macs[done % CLIENTS], done, AOE_CLIENT_WRITTEN_BYTES, bytes};
            work_asked(&work, &crowd, &asked, boot_ns);
        }
        if (way == DISK)
            work_pending(&work, i + 1);
    }
    if (way == NOT)
        return;
    uint64_t now_ns = clock_ns(CLOCK_REALTIME);
    struct answers all = {0, 0, 0};
    for (uint32_t i = 0; way == DISK && i < size; i++) {
        work_time(&work, AOE_EXPORT_DISK, boot_ns - stamps[i]);
        work_pending(&work, size - i);
    }
    for (uint32_t i = 0; i < size; i++)
        work_answered(&work, &all, bytes, now_ns > stamps[i] ? now_ns - stamps[i] : 0);
    work_sum_up(&work, K_WRITE, &all);
}

static double round_ns(size_t bytes, uint32_t size, int way)
{
    uint64_t before_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < BATCHES; i++)
        batch(bytes, size, way);
    return (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns) / BATCHES / size;
}

static int by_size(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

static double median(double *of)
{
    qsort(of, ROUNDS, sizeof *of, by_size);
    return of[ROUNDS / 2];
}

int main(int count, char **words)
{
    size_t bytes = count == 3 ? strtoul(words[1], NULL, 10) : 0;
    uint32_t size = count == 3 ? (uint32_t)strtoul(words[2], NULL, 10) : 0;
    if (!bytes || bytes > RING / 2 || !size || size > BATCH_MAX) {
        fprintf(stderr, "usage: counting BYTES BATCH\n");
        return 2;
    }
    memset(ring, 1, sizeof ring);
    memset(store, 1, sizeof store);
    static double took_ns[WAYS][ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        for (int way = 0; way < WAYS; way++)
            took_ns[way][i] = round_ns(bytes, size, way) - (way == NOT ? 0 : took_ns[NOT][i]);
    printf("%.2f %.2f %.2f\n", median(took_ns[NOT]), median(took_ns[MEMORY]), median(took_ns[DISK]));
    return 0;
}
