/*
 * all_reduce across processes.
 *
 *   all_reduce 4               starts 4 ranks on this host by fork
 *   all_reduce RANK RANKS FILE joins a job that meets at FILE; start one per rank
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <syncline.h>

/* Prints why a call failed. The text names the rank and what to do next. */
static int failed(const char *what, syncline_status_t status)
{
    fprintf(stderr, "%s: %s: %s\n", what, syncline_status_name(status), syncline_last_error());
    return 1;
}

static int run(syncline_comm_t *comm)
{
    enum { N = 1000 };
    static float data[N];
    syncline_rank_t rank, ranks;
    syncline_status_t status;

    if ((status = syncline_comm_rank(comm, &rank)) || (status = syncline_comm_ranks(comm, &ranks)))
        return failed("rank", status);
    for (int i = 0; i < N; i++)
        data[i] = (float)(rank + 1);

    /* In place: input and output are the same. Blocking: no place for a work handle. */
    status = syncline_all_reduce(comm, data, data, N, SYNCLINE_F32, SYNCLINE_SUM, NULL, NULL);
    if (status)
        return failed("all_reduce", status);

    float expected = (float)(ranks * (ranks + 1)) / 2;
    for (int i = 0; i < N; i++)
        if (data[i] != expected) {
            fprintf(stderr, "rank %u: element %d is %g, not %g\n", rank, i, data[i], expected);
            return 1;
        }
    if (rank == 0)
        printf("%u ranks: every element is %g\n", ranks, expected);
    return 0;
}

static int join(const char *id, const char *file, unsigned rank, unsigned ranks)
{
    syncline_options_t options = SYNCLINE_OPTIONS_INIT;
    syncline_comm_t *comm;
    syncline_status_t status;

    options.timeout_s = 30;
    status = id ? syncline_comm_init_id(id, rank, ranks, &options, &comm)
                : syncline_comm_init_file(file, rank, ranks, &options, &comm);
    if (status)
        return failed("init", status);
    int result = run(comm);
    if ((status = syncline_comm_destroy(comm)))
        return failed("destroy", status);
    return result;
}

/* One process per rank. Fork before the first communicator: a child cannot use its parent's. The
 * process that makes the unique id takes part itself, as rank 0. */
static int start(unsigned ranks)
{
    char id[SYNCLINE_UNIQUE_ID_BYTES];
    int pipes[2];

    if (pipe(pipes))
        return 1;
    for (unsigned rank = 1; rank < ranks; rank++) {
        pid_t child = fork();
        if (child < 0)
            return 1;
        if (child == 0) {
            /* Any way of carrying the text will do: a file, MPI, ssh, an environment variable. */
            close(pipes[1]);
            ssize_t length = read(pipes[0], id, sizeof id);
            exit(length == (ssize_t)sizeof id ? join(id, NULL, rank, ranks) : 1);
        }
    }
    close(pipes[0]);
    syncline_status_t status = syncline_unique_id_create(NULL, id, sizeof id);
    if (status)
        return failed("unique_id_create", status);
    for (unsigned rank = 1; rank < ranks; rank++)
        if (write(pipes[1], id, sizeof id) != (ssize_t)sizeof id)
            return 1;
    close(pipes[1]);
    int result = join(id, NULL, 0, ranks);
    for (unsigned rank = 1; rank < ranks; rank++) {
        int ended;
        if (wait(&ended) < 0 || ended != 0)
            result = 1;
    }
    return result;
}

int main(int argc, char **argv)
{
    if (argc == 2 && atoi(argv[1]) > 0)
        return start((unsigned)atoi(argv[1]));
    if (argc == 4)
        return join(NULL, argv[3], (unsigned)atoi(argv[1]), (unsigned)atoi(argv[2]));
    fprintf(stderr, "usage: %s RANKS | %s RANK RANKS FILE\n", argv[0], argv[0]);
    return 2;
}
