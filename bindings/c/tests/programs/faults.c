/* What goes wrong between two ranks, and that everything ends: faults CASE TRANSPORT. Rank 0
 * prints one line per case. */
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "common.h"

static const char *what;
static int32_t transport;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The ranks that the latest error names. */
static void show_ranks(void)
{
    syncline_rank_t ranks[4];
    size_t count = syncline_last_error_ranks(ranks, 4);
    printf("ranks:");
    for (size_t i = 0; i < count && i < 4; i++)
        printf(" %u", ranks[i]);
    printf("\n");
}

static int mismatch(syncline_comm_t *comm, unsigned rank)
{
    float data[8] = {0};
    syncline_status_t status = syncline_all_reduce(comm, data, data, rank == 0 ? 4 : 8,
                                                   SYNCLINE_F32, SYNCLINE_SUM, NULL, NULL);
    CHECK(status == SYNCLINE_ERROR_MISMATCH);
    if (rank == 0) {
        show("mismatch", status);
        show_ranks();
        status = syncline_barrier(comm, NULL);
        CHECK(status != SYNCLINE_OK);
        show("after mismatch", status);
    }
    return 0;
}

/* Rank 1 does not come to the collective. */
static int timeout(syncline_comm_t *comm, unsigned rank)
{
    if (rank == 0) {
        show("timeout", syncline_barrier(comm, NULL));
        show_ranks();
    } else {
        usleep(2500000);
    }
    return 0;
}

/* Rank 1 dies while rank 0 waits for it. */
static int killed(syncline_comm_t *comm, unsigned rank)
{
    float data[4] = {0};
    syncline_work_t *work;

    OK(syncline_barrier(comm, NULL));
    if (rank == 1) {
        usleep(100000); /* so that rank 0 has left the barrier */
        raise(SIGKILL);
    }
    OK(syncline_all_reduce(comm, data, data, 4, SYNCLINE_F32, SYNCLINE_SUM, NULL, &work));
    double start = now();
    show("killed", syncline_work_wait(work, SYNCLINE_WAIT_FOREVER));
    show_ranks();
    CHECK(now() - start < 1.5);
    OK(syncline_work_free(work));
    return 0;
}

/* Rank 0 destroys its communicator while an operation waits for rank 1, which never comes. */
static int destroyed(syncline_comm_t *comm, unsigned rank)
{
    static float data[4];
    syncline_work_t *work;

    if (rank == 1) {
        usleep(2500000);
        return 0;
    }
    OK(syncline_recv(comm, data, 4, SYNCLINE_F32, 1, &work));
    double start = now();
    show("destroy with pending work", syncline_comm_destroy(comm));
    CHECK(now() - start < 5);
    show("its work", syncline_work_wait(work, 0));
    OK(syncline_work_free(work));
    return 1;
}

static void *abort_soon(void *comm)
{
    usleep(100000);
    OK(syncline_comm_abort((syncline_comm_t *)comm, "from another thread"));
    return NULL;
}

/* Another thread ends a blocking call. */
static int aborted(syncline_comm_t *comm, unsigned rank)
{
    pthread_t thread;

    if (rank == 1) {
        usleep(1000000);
        return 0;
    }
    CHECK(pthread_create(&thread, NULL, abort_soon, comm) == 0);
    double start = now();
    show("aborted", syncline_barrier(comm, NULL));
    CHECK(now() - start < 0.8);
    CHECK(pthread_join(thread, NULL) == 0);
    return 0;
}

/* Several threads use one communicator and its duplicates. */
static void *many_calls(void *comm)
{
    for (int i = 0; i < 200; i++) {
        int64_t data[3] = {i, 1, 2};
        syncline_work_t *work;
        OK(syncline_all_reduce((syncline_comm_t *)comm, data, data, 3, SYNCLINE_I64, SYNCLINE_SUM,
                               NULL, i % 2 ? &work : NULL));
        if (i % 2) {
            OK(syncline_work_wait(work, SYNCLINE_WAIT_FOREVER));
            OK(syncline_work_free(work));
        }
        CHECK(data[0] == 2 * i && data[2] == 4);
    }
    return NULL;
}

static int threads(syncline_comm_t *comm, unsigned rank)
{
    pthread_t running[3];
    syncline_comm_t *own[3];

    for (int i = 0; i < 3; i++) {
        OK(syncline_comm_duplicate(comm, &own[i]));
    }
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&running[i], NULL, many_calls, own[i]) == 0);
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_join(running[i], NULL) == 0);
        OK(syncline_comm_destroy(own[i]));
    }
    if (rank == 0)
        printf("threads: done\n");
    return 0;
}

static int lines;

static void count_line(int32_t level, const char *target, const char *text, void *user_data)
{
    CHECK(level >= SYNCLINE_LOG_ERROR && level <= SYNCLINE_LOG_TRACE);
    CHECK(strstr(target, "syncline") == target && strlen(text) > 0);
    CHECK(user_data == &lines);
    __atomic_fetch_add(&lines, 1, __ATOMIC_RELAXED);
}

static int body(const char *id, unsigned rank, unsigned ranks)
{
    static const struct {
        const char *name;
        int (*body)(syncline_comm_t *comm, unsigned rank);
        double timeout_s;
    } cases[] = {
        {"mismatch", mismatch, 20}, {"timeout", timeout, 1},  {"killed", killed, 20},
        {"destroyed", destroyed, 1}, {"aborted", aborted, 20}, {"threads", threads, 20},
    };
    OK(syncline_set_log_callback(count_line, SYNCLINE_LOG_TRACE, &lines));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(cases[i].name, what))
            continue;
        syncline_comm_t *comm = join(id, rank, ranks, cases[i].timeout_s, transport);
        if (!cases[i].body(comm, rank))
            OK(syncline_comm_destroy(comm));
        OK(syncline_set_log_callback(NULL, 0, NULL));
        return 0;
    }
    return 2;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    what = argv[1];
    transport = atoi(argv[2]);
    int failed = fork_ranks(2, body);
    /* The rank that was killed has failed, and nothing else. */
    return failed != (strcmp(what, "killed") == 0);
}
