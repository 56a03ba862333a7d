/*
 * Error handling: what calls return, what they say, and what to do next. Two ranks by fork.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <syncline.h>

static void report(const char *what, syncline_status_t status)
{
    syncline_rank_t ranks[8];
    size_t blamed = syncline_last_error_ranks(ranks, 8);

    printf("%s: %s\n", what, syncline_status_name(status));
    if (!status)
        return;
    /* For people: who, where, what now. */
    fprintf(stderr, "  %s\n", syncline_last_error());
    /* For programs: the status, and the ranks. */
    for (size_t i = 0; i < blamed && i < 8; i++)
        printf("  because of rank %u\n", ranks[i]);
}

static int run(const char *file, unsigned rank)
{
    float data[4] = {1, 2, 3, 4};
    syncline_options_t options = SYNCLINE_OPTIONS_INIT;
    syncline_comm_t *comm;
    syncline_work_t *work;
    syncline_status_t status;

    options.timeout_s = 1;
    if ((status = syncline_comm_init_file(file, rank, 2, &options, &comm))) {
        report("init", status);
        return 1;
    }

    /* A wrong argument is refused before anything is sent: the communicator works on. */
    status = syncline_all_reduce(comm, data, data + 1, 3, SYNCLINE_F32, SYNCLINE_SUM, NULL, NULL);
    if (status != SYNCLINE_ERROR_INVALID_ARGUMENT)
        return 1;
    if (rank == 0)
        report("overlapping buffers", status);
    status = syncline_all_reduce(comm, data, data, 4, SYNCLINE_F32, SYNCLINE_SUM, NULL, NULL);
    if (rank == 0)
        report("all_reduce", status);

    if (rank == 1) {
        /* This rank does not take part in the barrier below. */
        sleep(2);
        return syncline_comm_destroy(comm) != SYNCLINE_OK;
    }

    /* A wait may be limited; the operation goes on. */
    if ((status = syncline_barrier(comm, &work)))
        return 1;
    report("a tenth of a second", syncline_work_wait(work, 0.1));

    /* No call hangs: after the communicator's timeout it fails and names who has not come. */
    status = syncline_work_wait(work, SYNCLINE_WAIT_FOREVER);
    report("the end", status);

    /* Now the communicator takes no more calls; its end is always the same. */
    syncline_work_free(work);
    report("destroy", syncline_comm_destroy(comm));
    return status != SYNCLINE_ERROR_TIMEOUT;
}

int main(void)
{
    char folder[] = "/tmp/syncline-errors-XXXXXX", file[64];
    int ended, failed;

    if (!mkdtemp(folder))
        return 1;
    snprintf(file, sizeof file, "%s/job", folder);
    pid_t child = fork();
    if (child < 0)
        return 1;
    if (child == 0)
        return run(file, 1);
    failed = run(file, 0);
    if (wait(&ended) < 0 || ended != 0)
        failed = 1;
    rmdir(folder);
    return failed;
}
