/* Everything a caller can get wrong on its own rank: one line per case, as the test expects it. */
#include "common.h"

static void arguments(syncline_comm_t *comm)
{
    float data[16] = {0}, other[16] = {0};
    syncline_comm_t *result = comm;
    syncline_options_t options = SYNCLINE_OPTIONS_INIT;
    syncline_call_options_t call = SYNCLINE_CALL_OPTIONS_INIT;
    size_t counts[1] = {4};
    syncline_rank_t nine = 9;
    syncline_work_t *work;
    char id[SYNCLINE_UNIQUE_ID_BYTES], *text;
    int ended;

#define ALL_REDUCE(in, out, n, dtype, op)                                                       \
    syncline_all_reduce(comm, in, out, n, dtype, op, NULL, NULL)
    show("null comm", syncline_all_reduce(NULL, data, other, 4, SYNCLINE_F32, SYNCLINE_SUM, NULL,
                                          NULL));
    show("null input", ALL_REDUCE(NULL, data, 4, SYNCLINE_F32, SYNCLINE_SUM));
    show("null output", ALL_REDUCE(data, NULL, 4, SYNCLINE_F32, SYNCLINE_SUM));
    show("null message", syncline_send(comm, NULL, 4, SYNCLINE_F32, 0, NULL));
    show("null counts", syncline_all_gather_v(comm, data, other, NULL, SYNCLINE_F32, NULL, NULL));
    show("null result", syncline_comm_init_file("/tmp/x", 0, 1, NULL, NULL));
    show("null path", syncline_comm_init_file(NULL, 0, 1, NULL, &result));
    CHECK(result == NULL);
    show("null id", syncline_comm_init_id(NULL, 0, 1, NULL, &result));
    show("null rank", syncline_comm_rank(comm, NULL));
    show("null work", syncline_work_wait(NULL, 1));
    show("null ended", syncline_work_test(NULL, NULL));
    show("null group", syncline_group_send(NULL, data, 1, SYNCLINE_F32, 0));
    show("null of nothing", ALL_REDUCE(NULL, NULL, 0, SYNCLINE_F32, SYNCLINE_SUM));
    show("null destroy", syncline_comm_destroy(NULL));
    show("null free", syncline_work_free(NULL));

    show("bad dtype", ALL_REDUCE(data, data, 4, 12, SYNCLINE_SUM));
    show("bad op", ALL_REDUCE(data, data, 4, SYNCLINE_F32, -1));
    show("op of type", ALL_REDUCE(data, data, 4, SYNCLINE_F32, SYNCLINE_BIT_OR));
    show("premul without factor", ALL_REDUCE(data, data, 4, SYNCLINE_F32, SYNCLINE_PREMUL_SUM));
    show("bad root", syncline_broadcast(comm, data, data, 4, SYNCLINE_F32, 1, NULL, NULL));
    show("bad peer", syncline_send(comm, data, 4, SYNCLINE_F32, 5, NULL));
    show("bad subset", syncline_comm_subset(comm, &nine, 1, &result));
    show("bad collective", syncline_explain(comm, 11, 4, SYNCLINE_F32, SYNCLINE_SUM, 0, &text));
    CHECK(text == NULL);
    options.transport = 7;
    show("bad transport", syncline_comm_init_file("/tmp/x", 0, 1, &options, &result));

    show("overlap", ALL_REDUCE(data, data + 2, 4, SYNCLINE_F32, SYNCLINE_SUM));
    show("overlap by a byte", ALL_REDUCE(data, (char *)data + 15, 4, SYNCLINE_F32, SYNCLINE_SUM));
    show("side by side", ALL_REDUCE(data, data + 4, 4, SYNCLINE_F32, SYNCLINE_SUM));
    show("overlap started", syncline_all_gather_v(comm, data + 1, data, counts, SYNCLINE_F32, NULL,
                                                  &work));
    CHECK(work == NULL);
    show("v in place", syncline_all_to_all_v(comm, data, data, counts, counts, SYNCLINE_F32, NULL,
                                             NULL));
    show("count overflow", ALL_REDUCE(data, other, SIZE_MAX / 2, SYNCLINE_F32, SYNCLINE_SUM));
    show("message overflow", syncline_send(comm, data, SIZE_MAX / 2, SYNCLINE_F64, 0, NULL));

    options.transport = SYNCLINE_TRANSPORT_AUTO;
    options.size = 0;
    show("no size", syncline_comm_init_file("/tmp/x", 0, 1, &options, &result));
    options.size = sizeof options / 2 + 1;
    show("part of a field", syncline_comm_init_file("/tmp/x", 0, 1, &options, &result));
    call.size = 4097;
    show("absurd size", syncline_all_reduce(comm, data, data, 4, SYNCLINE_F32, SYNCLINE_SUM, &call,
                                            NULL));
    struct {
        syncline_call_options_t known;
        uint64_t later;
    } newer = {SYNCLINE_CALL_OPTIONS_INIT, 0};
    newer.known.size = sizeof newer;
    show("newer, unused", syncline_all_reduce(comm, data, data, 4, SYNCLINE_F32, SYNCLINE_SUM,
                                              &newer.known, NULL));
    newer.later = 1;
    show("newer, used", syncline_all_reduce(comm, data, data, 4, SYNCLINE_F32, SYNCLINE_SUM,
                                            &newer.known, NULL));

    show("short id", syncline_unique_id_create(NULL, id, 10));
    options.size = sizeof options;
    options.network_interface = "nonesuch0";
    show("no interface", syncline_unique_id_create(&options, id, sizeof id));
    options.network_interface = "lo";
    show("not an id", syncline_unique_id_check("hello"));
    OK(syncline_unique_id_create(&options, id, sizeof id));
    show("an id", syncline_unique_id_check(id));
    id[20] = id[20] == 'A' ? 'B' : 'A';
    show("damaged id", syncline_unique_id_check(id));
    show("fewer ranks", syncline_comm_grow(comm, NULL, 0, &result));
    show("nobody invited", syncline_comm_grow(comm, NULL, 2, &result));
    show("short invitation", syncline_comm_invite(comm, id, 128));
    show("null flags", syncline_comm_agree(comm, NULL, NULL, 0, NULL));
    show("no failure", syncline_comm_failure(comm));
    show("rank of ranks", syncline_comm_init_file("/tmp/x", 3, 2, NULL, &result));
    OK(syncline_recv(comm, data, 1, SYNCLINE_F32, 0, &work));
    show("wait for NaN", syncline_work_wait(work, (double)(0.0f / 0.0f)));
    OK(syncline_send(comm, other, 1, SYNCLINE_F32, 0, NULL));
    OK(syncline_work_wait(work, SYNCLINE_WAIT_FOREVER));
    OK(syncline_work_test(work, &ended));
    OK(syncline_work_free(work));
}

static void handles(syncline_comm_t *comm)
{
    float data[4] = {0}, sent[4] = {1, 2, 3, 4};
    syncline_comm_t *twin;
    syncline_group_t *group;
    syncline_work_t *work;
    int ended, on_the_stack = 0;

    OK(syncline_comm_duplicate(comm, &twin));
    OK(syncline_recv(twin, data, 4, SYNCLINE_F32, 0, &work));
    OK(syncline_work_test(work, &ended));
    CHECK(!ended);
    show("wait briefly", syncline_work_wait(work, 0.01));
    show("wait for nothing", syncline_work_wait(work, 0));
    show("free while running", syncline_work_free(work));
    OK(syncline_send(twin, sent, 4, SYNCLINE_F32, 0, NULL));
    OK(syncline_work_wait(work, SYNCLINE_WAIT_FOREVER));
    CHECK(data[3] == 4);
    OK(syncline_work_wait(work, 0));
    OK(syncline_work_free(work));
    show("free twice", syncline_work_free(work));
    show("wait after free", syncline_work_wait(work, 1));
    show("work for comm", syncline_barrier((syncline_comm_t *)work, NULL));
    show("comm for work", syncline_work_wait((syncline_work_t *)comm, 1));
    show("address for comm", syncline_barrier((syncline_comm_t *)&on_the_stack, NULL));

    OK(syncline_group_begin(twin, &group));
    OK(syncline_comm_destroy(twin));
    show("destroy twice", syncline_comm_destroy(twin));
    show("call after destroy", syncline_barrier(twin, NULL));
    OK(syncline_group_cancel(group));
    show("cancel twice", syncline_group_cancel(group));
    show("end after cancel", syncline_group_end(group, NULL));
}

static void abort_and_pending(syncline_comm_t *comm)
{
    float data[4];
    syncline_comm_t *twin;
    syncline_work_t *work;

    OK(syncline_comm_duplicate(comm, &twin));
    OK(syncline_recv(twin, data, 4, SYNCLINE_F32, 0, &work));
    OK(syncline_comm_abort(twin, "the user pressed a key"));
    show("failure after abort", syncline_comm_failure(twin));
    show("wait after abort", syncline_work_wait(work, SYNCLINE_WAIT_FOREVER));
    show("call after abort", syncline_barrier(twin, NULL));
    show("destroy after abort", syncline_comm_destroy(twin));
    show("wait after destroy", syncline_work_wait(work, SYNCLINE_WAIT_FOREVER));
    OK(syncline_work_free(work));
}

static void forked(syncline_comm_t *comm)
{
    float data[1] = {1};
    syncline_work_t *work;
    int ended;

    OK(syncline_recv(comm, data, 1, SYNCLINE_F32, 0, &work));
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        syncline_comm_t *own;
        char path[] = "/tmp/syncline-forked-XXXXXX";
        show("call after fork", syncline_barrier(comm, NULL));
        show("wait after fork", syncline_work_wait(work, SYNCLINE_WAIT_FOREVER));
        show("destroy after fork", syncline_comm_destroy(comm));
        /* A child may make its own. */
        CHECK(mkdtemp(path) != NULL);
        char file[64];
        snprintf(file, sizeof file, "%s/job", path);
        OK(syncline_comm_init_file(file, 0, 1, NULL, &own));
        OK(syncline_barrier(own, NULL));
        show("still after fork", syncline_barrier(comm, NULL));
        OK(syncline_comm_destroy(own));
        rmdir(path);
        exit(0);
    }
    CHECK(waitpid(child, &ended, 0) == child && ended == 0);
    OK(syncline_send(comm, data, 1, SYNCLINE_F32, 0, NULL));
    OK(syncline_work_wait(work, SYNCLINE_WAIT_FOREVER));
    OK(syncline_work_free(work));
}

static int body(const char *id, unsigned rank, unsigned ranks)
{
    syncline_comm_t *comm = join(id, rank, ranks, 20, SYNCLINE_TRANSPORT_AUTO);

    CHECK(strcmp(syncline_last_error(), "") == 0);
    arguments(comm);
    handles(comm);
    abort_and_pending(comm);
    forked(comm);
    OK(syncline_comm_destroy(comm));
    CHECK(strcmp(syncline_status_name(99), "unknown status") == 0);
    CHECK(atoi(syncline_version()) == SYNCLINE_VERSION_MAJOR);
    return 0;
}

int main(void) { return fork_ranks(1, body); }
