/* Runs a fuzzer's inputs once each, without the fuzzer: for valgrind, a debugger, or a look at a finding. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void replay(const char *path)
{
    static uint8_t room[1 << 20];
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    size_t size = fread(room, 1, sizeof room, file);
    fclose(file);
    uint8_t *data = malloc(size ? size : 1); /* of just its size, so that reading on is noticed */
    for (size_t i = 0; i < size; i++)
        data[i] = room[i];
    LLVMFuzzerTestOneInput(data, size);
    free(data);
}

int main(int count, char **paths)
{
    for (int i = 1; i < count; i++)
        replay(paths[i]);
    printf("%d inputs replayed\n", count - 1);
    return 0;
}
