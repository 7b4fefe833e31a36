/* What the numbers of a target cost: the processor's time of writes into memory that are counted, and of others that
 * are not, in turn.
 *
 *   counting BYTES BATCH
 *
 * Each write copies so many bytes; BATCH of them are answered at once, for which the clock is read once. Prints the
 * nanoseconds of one in both ways, of the quickest rounds.
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

static void batch(size_t bytes, uint32_t size, int counts)
{
    uint64_t boot_ns = clock_ns(CLOCK_BOOTTIME);
    for (uint32_t i = 0; i < size; i++) {
        done++;
        memcpy(store + done * 2654435761u % (STORE - bytes), ring + done * bytes % (RING - bytes), bytes);
        stamps[i] = boot_ns - done % 1000 * 1000;
        if (counts) {
            struct asked asked = {macs[done % CLIENTS], done, AOE_CLIENT_WRITTEN_BYTES, bytes};
            work_asked(&work, &crowd, &asked, boot_ns);
        }
    }
    if (!counts)
        return;
    uint64_t now_ns = clock_ns(CLOCK_REALTIME);
    for (uint32_t i = 0; i < size; i++) {
        work_answered(&work, K_WRITE, bytes, now_ns > stamps[i] ? now_ns - stamps[i] : 0);
        work_time(&work, AOE_EXPORT_DISK, boot_ns - stamps[i]);
        work_pending(&work, i);
    }
}

static double round_ns(size_t bytes, uint32_t size, int counts)
{
    uint64_t before_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (int i = 0; i < BATCHES; i++)
        batch(bytes, size, counts);
    return (double)(clock_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns) / BATCHES / size;
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
    double least[2] = {1e9, 1e9};
    for (int i = 0; i < 2 * ROUNDS; i++) {
        double ns = round_ns(bytes, size, i % 2);
        least[i % 2] = ns < least[i % 2] ? ns : least[i % 2];
    }
    printf("%.2f %.2f\n", least[0], least[1]);
    return 0;
}
