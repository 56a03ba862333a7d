/* Every collective, blocking and started, in place and not, over shared memory or TCP:
 * collectives RANKS TRANSPORT. Every rank checks every element it gets. */
#include "common.h"

enum { N = 1000 };

static unsigned me, all;
static int32_t transport;

/* What rank r contributes to element i. */
static float value(unsigned r, size_t i) { return (float)((r + 1) * (i % 7 + 1)); }

static float sum(size_t i)
{
    float total = 0;
    for (unsigned r = 0; r < all; r++)
        total += value(r, i);
    return total;
}

static void fill(float *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        data[i] = value(me, i);
}

/* Ends a call that was started. */
static void finish(syncline_work_t *work, int started)
{
    int ended = 0;
    if (!started)
        return;
    CHECK(work != NULL);
    while (!ended && rand() % 8)
        OK(syncline_work_test(work, &ended));
    OK(syncline_work_wait(work, SYNCLINE_WAIT_FOREVER));
    OK(syncline_work_test(work, &ended));
    CHECK(ended == 1);
    OK(syncline_work_free(work));
}

static void reductions(syncline_comm_t *comm, int started)
{
    float *input = (float *)malloc(all * N * sizeof *input);
    float *output = (float *)malloc(all * N * sizeof *output);
    syncline_work_t *work = NULL, **at = started ? &work : NULL;
    syncline_call_options_t half = SYNCLINE_CALL_OPTIONS_INIT;
    unsigned root = all - 1;

    fill(input, all * N);
    OK(syncline_all_reduce(comm, input, output, N, SYNCLINE_F32, SYNCLINE_SUM, NULL, at));
    finish(work, started);
    for (size_t i = 0; i < N; i++)
        CHECK(output[i] == sum(i) && input[i] == value(me, i));

    fill(output, N);
    half.premul_factor = 0.5;
    OK(syncline_all_reduce(comm, output, output, N, SYNCLINE_F32, SYNCLINE_PREMUL_SUM, &half, at));
    finish(work, started);
    for (size_t i = 0; i < N; i++)
        CHECK(output[i] == sum(i) / 2);

    memset(output, 0, N * sizeof *output);
    OK(syncline_reduce(comm, input, me == root ? output : NULL, N, SYNCLINE_F32, SYNCLINE_SUM,
                       root, NULL, at));
    finish(work, started);
    for (size_t i = 0; me == root && i < N; i++)
        CHECK(output[i] == sum(i));

    OK(syncline_reduce_scatter(comm, input, output, N, SYNCLINE_F32, SYNCLINE_SUM, NULL, at));
    finish(work, started);
    for (size_t i = 0; i < N; i++)
        CHECK(output[i] == sum(me * N + i));

    /* In place: the result lies in the own block of the input. */
    memcpy(output, input, all * N * sizeof *output);
    OK(syncline_reduce_scatter(comm, output, output + me * N, N, SYNCLINE_F32, SYNCLINE_MAX, NULL,
                               at));
    finish(work, started);
    for (size_t i = 0; i < N; i++)
        CHECK(output[me * N + i] == value(all - 1, me * N + i));

    OK(syncline_scan(comm, input, output, N, SYNCLINE_F32, SYNCLINE_SUM, NULL, at));
    finish(work, started);
    for (size_t i = 0; i < N; i++) {
        float prefix = 0;
        for (unsigned r = 0; r <= me; r++)
            prefix += value(r, i);
        CHECK(output[i] == prefix);
    }

    OK(syncline_exscan(comm, input, output, N, SYNCLINE_F32, SYNCLINE_SUM, NULL, at));
    finish(work, started);
    for (size_t i = 0; me > 0 && i < N; i++) {
        float prefix = 0;
        for (unsigned r = 0; r < me; r++)
            prefix += value(r, i);
        CHECK(output[i] == prefix);
    }
    free(input);
    free(output);
}

static void movements(syncline_comm_t *comm, int started)
{
    float *input = (float *)malloc(all * N * sizeof *input);
    float *output = (float *)malloc(all * N * sizeof *output);
    syncline_work_t *work = NULL, **at = started ? &work : NULL;
    unsigned root = all / 2;

    fill(input, all * N);
    OK(syncline_broadcast(comm, me == root ? input : NULL, output, N, SYNCLINE_F32, root, NULL,
                          at));
    finish(work, started);
    for (size_t i = 0; i < N; i++)
        CHECK(output[i] == value(root, i));

    OK(syncline_all_gather(comm, input, output, N, SYNCLINE_F32, NULL, at));
    finish(work, started);
    for (size_t i = 0; i < all * N; i++)
        CHECK(output[i] == value((unsigned)(i / N), i % N));

    /* In place: the input is the own block of the output. */
    memset(output, 0, all * N * sizeof *output);
    fill(output + me * N, N);
    OK(syncline_all_gather(comm, output + me * N, output, N, SYNCLINE_F32, NULL, at));
    finish(work, started);
    for (size_t i = 0; i < all * N; i++)
        CHECK(output[i] == value((unsigned)(i / N), i % N));

    OK(syncline_gather(comm, input, me == root ? output : NULL, N, SYNCLINE_F32, root, NULL, at));
    finish(work, started);
    OK(syncline_scatter(comm, me == root ? input : NULL, output, N, SYNCLINE_F32, root, NULL, at));
    finish(work, started);
    for (size_t i = 0; i < N; i++)
        CHECK(output[i] == value(root, me * N + i));

    OK(syncline_all_to_all(comm, input, output, N, SYNCLINE_F32, NULL, at));
    finish(work, started);
    for (size_t i = 0; i < all * N; i++)
        CHECK(output[i] == value((unsigned)(i / N), me * N + i % N));
    OK(syncline_barrier(comm, at));
    finish(work, started);
    free(input);
    free(output);
}

/* Blocks of r + 1 elements. */
static void uneven(syncline_comm_t *comm, int started)
{
    size_t total = (size_t)all * (all + 1) / 2, before = (size_t)me * (me + 1) / 2, mine = me + 1;
    size_t *counts = (size_t *)malloc(all * sizeof *counts);
    size_t *same = (size_t *)malloc(all * sizeof *same);
    double *input = (double *)malloc(total * sizeof *input);
    double *output = (double *)malloc(all * total * sizeof *output);
    syncline_work_t *work = NULL, **at = started ? &work : NULL;

    for (unsigned r = 0; r < all; r++)
        counts[r] = r + 1, same[r] = mine;
    for (size_t i = 0; i < total; i++)
        input[i] = (double)(me * 100 + i);

    OK(syncline_all_gather_v(comm, input, output, counts, SYNCLINE_F64, NULL, at));
    finish(work, started);
    for (size_t r = 0, i = 0; r < all; r++)
        for (size_t k = 0; k < counts[r]; k++, i++)
            CHECK(output[i] == (double)(r * 100 + k));

    OK(syncline_reduce_scatter_v(comm, input, output, counts, SYNCLINE_F64, SYNCLINE_MIN, NULL,
                                 at));
    finish(work, started);
    for (size_t i = 0; i < mine; i++)
        CHECK(output[i] == (double)(before + i));

    OK(syncline_gather_v(comm, input, output, counts, SYNCLINE_F64, 0, NULL, at));
    finish(work, started);
    OK(syncline_scatter_v(comm, input, output, counts, SYNCLINE_F64, 0, NULL, at));
    finish(work, started);
    for (size_t i = 0; i < mine; i++)
        CHECK(output[i] == (double)(before + i));

    /* Rank r sends s + 1 elements to rank s, and gets r + 1 from everybody. */
    OK(syncline_all_to_all_v(comm, input, output, counts, same, SYNCLINE_F64, NULL, at));
    finish(work, started);
    for (size_t r = 0, i = 0; r < all; r++)
        for (size_t k = 0; k < mine; k++, i++)
            CHECK(output[i] == (double)(r * 100 + before + k));
    free(counts);
    free(same);
    free(input);
    free(output);
}

/* Every type, at an address that no processor likes. */
static void types(syncline_comm_t *comm)
{
    static const size_t sizes[] = {1, 1, 4, 4, 8, 8, 2, 2, 4, 8, 1, 1};
    unsigned char memory[16 * 8 + 1], *data = memory + 1;

    for (int32_t dtype = 0; dtype < 12; dtype++) {
        memset(memory, 0, sizeof memory);
        OK(syncline_all_reduce(comm, data, data, 16, dtype, SYNCLINE_SUM, NULL, NULL));
        for (size_t i = 0; i < 16 * sizes[dtype]; i++)
            CHECK(data[i] == 0);
    }
    for (int32_t op = SYNCLINE_BIT_AND; op <= SYNCLINE_BIT_XOR; op++) {
        unsigned char bits = (unsigned char)(1 << me);
        unsigned char every = (unsigned char)((1 << all) - 1);
        OK(syncline_all_reduce(comm, &bits, &bits, 1, SYNCLINE_U8, op, NULL, NULL));
        CHECK(bits == (op == SYNCLINE_BIT_AND ? (all == 1 ? 1 : 0) : every));
    }
}

static void messages(syncline_comm_t *comm)
{
    unsigned next = (me + 1) % all, before = (me + all - 1) % all;
    int64_t out = me, in = -1, more[2] = {(int64_t)me, 1}, sums[2] = {(int64_t)me, 2};
    syncline_work_t *sent, *received, *work;
    syncline_group_t *group;

    OK(syncline_send(comm, &out, 1, SYNCLINE_I64, next, &sent));
    OK(syncline_recv(comm, &in, 1, SYNCLINE_I64, before, &received));
    finish(received, 1);
    finish(sent, 1);
    CHECK(in == (int64_t)before);

    /* Everybody sends first: as a group that does not block. */
    for (int started = 0; started < 2; started++) {
        float big[600], small[3] = {(float)me, 1, 2}, own[3] = {(float)me, 1, 2}, result[3];
        fill(big, 600);
        in = -1;
        OK(syncline_group_begin(comm, &group));
        OK(syncline_group_send(group, &out, 1, SYNCLINE_I64, next));
        OK(syncline_group_recv(group, &in, 1, SYNCLINE_I64, before));
        OK(syncline_group_all_reduce(group, small, small, 3, SYNCLINE_F32, SYNCLINE_SUM, NULL));
        OK(syncline_group_all_reduce(group, own, result, 3, SYNCLINE_F32, SYNCLINE_SUM, NULL));
        OK(syncline_group_all_reduce(group, big, big, 600, SYNCLINE_F32, SYNCLINE_SUM, NULL));
        OK(syncline_group_all_reduce(group, more, more, 2, SYNCLINE_I64, SYNCLINE_MAX, NULL));
        OK(syncline_group_end(group, started ? &work : NULL));
        finish(work, started);
        CHECK(in == (int64_t)before && more[0] == (int64_t)all - 1);
        CHECK(small[0] == (float)(all * (all - 1) / 2) && small[1] == (float)all);
        CHECK(memcmp(small, result, sizeof small) == 0 && own[0] == (float)me);
        for (size_t i = 0; i < 600; i++)
            CHECK(big[i] == sum(i));
    }
    for (int started = 0; started < 2; started++) {
        int64_t first[1] = {1}, second[2] = {2, (int64_t)me};
        void *const buffers[] = {first, second};
        const size_t counts[] = {1, 2};
        OK(syncline_all_reduce_coalesced(comm, buffers, counts, 2, SYNCLINE_I64, SYNCLINE_SUM,
                                         NULL, started ? &work : NULL));
        finish(work, started);
        CHECK(first[0] == (int64_t)all && second[0] == 2 * (int64_t)all);
        CHECK(second[1] == (int64_t)all * (all - 1) / 2);
    }
    CHECK(sums[1] == 2);
    OK(syncline_group_begin(comm, &group));
    OK(syncline_group_send(group, &out, 1, SYNCLINE_I64, next));
    OK(syncline_group_cancel(group));
}

static void children(syncline_comm_t *comm)
{
    syncline_comm_t *half, *twin, *pair, *none;
    syncline_rank_t rank, ranks, reversed[2] = {all - 1, 0};
    uint32_t one = 1, hosts;
    char *text;

    OK(syncline_comm_split(comm, (int32_t)(me % 2), -(int32_t)me, &half));
    OK(syncline_comm_rank(half, &rank));
    OK(syncline_comm_ranks(half, &ranks));
    CHECK(ranks == (all + 1 - me % 2) / 2);
    CHECK(rank == ranks - 1 - me / 2);
    OK(syncline_all_reduce(half, &one, &one, 1, SYNCLINE_U32, SYNCLINE_SUM, NULL, NULL));
    CHECK(one == ranks);
    OK(syncline_comm_destroy(half));

    OK(syncline_comm_split(comm, -1, 0, &none));
    CHECK(none == NULL);
    OK(syncline_comm_subset(comm, reversed, all > 1 ? 2 : 1, &pair));
    CHECK((pair != NULL) == (me == 0 || me == all - 1));
    if (pair) {
        OK(syncline_comm_rank(pair, &rank));
        CHECK(rank == (all > 1 && me == 0));
        OK(syncline_barrier(pair, NULL));
    }
    OK(syncline_comm_destroy(pair));
    OK(syncline_comm_duplicate(comm, &twin));
    OK(syncline_barrier(twin, NULL));
    OK(syncline_comm_destroy(twin));

    OK(syncline_comm_hosts(comm, &hosts));
    CHECK(hosts == 1);
    OK(syncline_comm_host_of(comm, all - 1, &text));
    CHECK(strlen(text) > 0);
    syncline_text_free(text);
    OK(syncline_explain(comm, SYNCLINE_ALL_REDUCE, 1 << 20, SYNCLINE_F32, SYNCLINE_SUM, 0, &text));
    CHECK(strstr(text, "all_reduce: ") == text && strstr(text, "predicted") != NULL);
    syncline_text_free(text);
    OK(syncline_comm_dump(comm, &text));
    CHECK(text[0] == '{' && strstr(text, "syncline-flight-dump") && strstr(text, "all_reduce"));
    syncline_text_free(text);
}

static int body(const char *id, unsigned rank, unsigned ranks)
{
    syncline_comm_t *comm = join(id, rank, ranks, 30, transport);

    me = rank, all = ranks;
    srand(1);
    for (int started = 0; started < 2; started++) {
        reductions(comm, started);
        movements(comm, started);
        uneven(comm, started);
    }
    types(comm);
    messages(comm);
    children(comm);
    OK(syncline_comm_destroy(comm));
    return 0;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    transport = atoi(argv[2]);
    return fork_ranks((unsigned)atoi(argv[1]), body);
}
