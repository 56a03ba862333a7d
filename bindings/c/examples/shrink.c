/*
 * Going on after a failure: a rank dies, the others notice, shrink to a communicator without it,
 * and repeat the step that failed.
 *
 *   shrink 4   starts 4 ranks on this host by fork; rank 1 is killed on the way
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <syncline.h>

enum { STEPS = 6, N = 10000 };

static int failed(const char *what, syncline_status_t status)
{
    fprintf(stderr, "%s: %s: %s\n", what, syncline_status_name(status), syncline_last_error());
    return 1;
}

/* One step: the sum of ones is the number of ranks. */
static syncline_status_t step(syncline_comm_t *comm, float *data)
{
    for (int i = 0; i < N; i++)
        data[i] = 1;
    return syncline_all_reduce(comm, data, data, N, SYNCLINE_F32, SYNCLINE_SUM, NULL, NULL);
}

static int run(const char *file, unsigned rank, unsigned ranks)
{
    static float data[N];
    syncline_comm_t *comm, *smaller;
    syncline_rank_t left = ranks;
    syncline_status_t status;

    if ((status = syncline_comm_init_file(file, rank, ranks, NULL, &comm)))
        return failed("init", status);
    for (int number = 0; number < STEPS; number++) {
        if (number == STEPS / 2 && rank == 1 && left == ranks) {
            usleep(200000); /* so that all have done the step before */
            raise(SIGKILL);
        }
        if (!(status = step(comm, data)))
            continue;

        /* What this rank has computed so far is its own; only the communicator is lost. */
        if (rank == 0)
            printf("step %d failed: %s\n", number, syncline_status_name(status));
        fprintf(stderr, "%s\n", syncline_last_error());
        if ((status = syncline_comm_shrink(comm, &smaller)))
            return failed("shrink", status);
        syncline_comm_destroy(comm);
        comm = smaller;

        /* Ranks may have failed in different steps: go on from the first of them. */
        int32_t from = number;
        status = syncline_all_reduce(comm, &from, &from, 1, SYNCLINE_I32, SYNCLINE_MIN, NULL, NULL);
        if (status || (status = syncline_comm_ranks(comm, &left)))
            return failed("after shrink", status);
        if (rank == 0)
            printf("%u ranks go on from step %d\n", left, from);
        number = from - 1;
    }
    for (int i = 0; i < N; i++)
        if (data[i] != (float)left)
            return 1;
    if (rank == 0)
        printf("all %d steps done by %u ranks\n", (int)STEPS, left);
    return syncline_comm_destroy(comm) != SYNCLINE_OK;
}

int main(int argc, char **argv)
{
    unsigned ranks = argc == 2 ? (unsigned)atoi(argv[1]) : 0;
    char folder[] = "/tmp/syncline-shrink-XXXXXX", file[64];
    int result, died = 0;

    if (ranks < 2) {
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
    result = run(file, 0, ranks);
    for (unsigned rank = 1; rank < ranks; rank++) {
        int ended;
        if (wait(&ended) < 0)
            return 1;
        if (WIFSIGNALED(ended) && WTERMSIG(ended) == SIGKILL)
            died++;
        else if (ended != 0)
            result = 1;
    }
    rmdir(folder);
    return result || died != 1;
}
