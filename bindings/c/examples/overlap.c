/*
 * Overlapping communication with computation by non-blocking calls, as a training step does it:
 * the gradient of a layer is reduced while those of the layers before it are computed.
 *
 *   overlap 4   starts 4 ranks on this host by fork
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <syncline.h>

enum { LAYERS = 8, WEIGHTS = 50000 };

#define CHECK(call)                                                                             \
    do {                                                                                        \
        syncline_status_t status = (call);                                                      \
        if (status) {                                                                           \
            fprintf(stderr, "%s: %s\n", syncline_status_name(status), syncline_last_error());   \
            exit(1);                                                                            \
        }                                                                                       \
    } while (0)

/* Stands for the backward pass of one layer. */
static void compute(float *gradient, int layer, unsigned rank)
{
    for (int i = 0; i < WEIGHTS; i++)
        gradient[i] = (float)(layer + 1) * (float)(rank + 1);
}

static int run(const char *file, unsigned rank, unsigned ranks)
{
    static float gradients[LAYERS][WEIGHTS];
    syncline_work_t *works[LAYERS];
    syncline_comm_t *comm;
    float average = (float)(ranks + 1) / 2;

    CHECK(syncline_comm_init_file(file, rank, ranks, NULL, &comm));
    for (int layer = LAYERS - 1; layer >= 0; layer--) {
        compute(gradients[layer], layer, rank);
        /* Started; from here on the gradient belongs to the operation. */
        CHECK(syncline_all_reduce(comm, gradients[layer], gradients[layer], WEIGHTS, SYNCLINE_F32,
                                  SYNCLINE_AVG, NULL, &works[layer]));
    }
    for (int layer = 0; layer < LAYERS; layer++) {
        CHECK(syncline_work_wait(works[layer], SYNCLINE_WAIT_FOREVER));
        CHECK(syncline_work_free(works[layer]));
        for (int i = 0; i < WEIGHTS; i++)
            if (gradients[layer][i] != (float)(layer + 1) * average) {
                fprintf(stderr, "layer %d, weight %d: %g\n", layer, i, gradients[layer][i]);
                return 1;
            }
    }
    CHECK(syncline_comm_destroy(comm));
    if (rank == 0)
        printf("%u ranks: %d layers averaged\n", ranks, (int)LAYERS);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned ranks = argc == 2 ? (unsigned)atoi(argv[1]) : 0;
    char folder[] = "/tmp/syncline-overlap-XXXXXX", file[64];
    int failed = 0;

    if (ranks == 0) {
        fprintf(stderr, "usage: %s RANKS\n", argv[0]);
        return 2;
    }
    if (!mkdtemp(folder))
        return 1;
    snprintf(file, sizeof file, "%s/job", folder);
    for (unsigned rank = 1; rank < ranks; rank++) {
        pid_t child = fork();
        if (child < 0)
            return 1;
        if (child == 0)
            exit(run(file, rank, ranks));
    }
    failed = run(file, 0, ranks);
    for (unsigned rank = 1; rank < ranks; rank++) {
        int ended;
        if (wait(&ended) < 0 || ended != 0)
            failed = 1;
    }
    rmdir(folder);
    return failed;
}
