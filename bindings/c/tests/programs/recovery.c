/* Three ranks: one revokes; all agree; one gives up; the others shrink, and invite a newcomer:
 * recovery TRANSPORT. */
#include "common.h"

static int32_t transport;
/* From the inviting rank to the newcomer. */
static int invitation[2];

static void add_up(syncline_comm_t *comm, int64_t ranks)
{
    int64_t one = 1;
    OK(syncline_all_reduce(comm, &one, &one, 1, SYNCLINE_I64, SYNCLINE_SUM, NULL, NULL));
    CHECK(one == ranks);
}

/* Ranks 0 and 2 tell rank 1 that they have come this far. What rank 1 does next may end the calls
 * of a rank that has not: also one that has told, but has not returned yet. */
static void tell_rank_1(syncline_comm_t *comm, unsigned rank)
{
    uint8_t here = 1;
    if (rank == 1) {
        OK(syncline_recv(comm, &here, 1, SYNCLINE_U8, 0, NULL));
        OK(syncline_recv(comm, &here, 1, SYNCLINE_U8, 2, NULL));
    } else {
        syncline_status_t status = syncline_send(comm, &here, 1, SYNCLINE_U8, 1, NULL);
        CHECK(status == SYNCLINE_OK || status == SYNCLINE_ERROR_ABORTED);
    }
}

/* Joins as rank 2 of 3. */
static int newcomer(void)
{
    char id[SYNCLINE_UNIQUE_ID_BYTES];
    /* So that nobody is waited for who has failed. */
    close(invitation[1]);
    CHECK(read(invitation[0], id, sizeof id) == (ssize_t)sizeof id);
    syncline_comm_t *comm = join(id, 2, 3, 20, transport);
    add_up(comm, 3);
    OK(syncline_comm_destroy(comm));
    return 0;
}

static int body(const char *id, unsigned rank, unsigned ranks)
{
    syncline_comm_t *comm = join(id, rank, ranks, 20, transport), *twin, *shrunk, *grown;
    syncline_rank_t failed[3] = {9, 9, 9}, named;
    size_t failed_count = 9;
    uint64_t flags = 7u ^ (1u << rank);
    float data[4];
    syncline_status_t status;

    OK(syncline_comm_duplicate(comm, &twin));
    tell_rank_1(comm, rank);
    if (rank == 1)
        OK(syncline_comm_revoke(twin, "no progress"));
    status = syncline_recv(twin, data, 4, SYNCLINE_F32, (rank + 1) % ranks, NULL);
    CHECK(status == SYNCLINE_ERROR_REVOKED);
    CHECK(strstr(syncline_last_error(), "no progress") != NULL);
    CHECK(syncline_last_error_ranks(&named, 1) == 1 && named == 1);
    CHECK(syncline_comm_failure(twin) == SYNCLINE_ERROR_REVOKED);
    OK(syncline_comm_agree(twin, &flags, failed, 3, &failed_count));
    CHECK(flags == 0 && failed_count == 0);
    OK(syncline_comm_destroy(twin));

    /* The others are not disturbed. */
    add_up(comm, 3);
    tell_rank_1(comm, rank);
    if (rank == 1) {
        OK(syncline_comm_abort(comm, "out of memory"));
        CHECK(syncline_barrier(comm, NULL) == SYNCLINE_ERROR_ABORTED);
        OK(syncline_comm_destroy(comm));
        return 0;
    }
    CHECK(syncline_barrier(comm, NULL) == SYNCLINE_ERROR_ABORTED);
    CHECK(strstr(syncline_last_error(), "rank 1") && strstr(syncline_last_error(), "out of memory"));
    flags = 5;
    OK(syncline_comm_agree(comm, &flags, failed, 3, &failed_count));
    CHECK(flags == 5 && failed_count == 1 && failed[0] == 1);
    OK(syncline_comm_shrink(comm, &shrunk));
    OK(syncline_comm_destroy(comm));
    OK(syncline_comm_rank(shrunk, &named));
    CHECK(named == rank / 2);
    add_up(shrunk, 2);

    char text[SYNCLINE_UNIQUE_ID_BYTES] = {0};
    if (rank == 0) {
        OK(syncline_comm_invite(shrunk, text, sizeof text));
        CHECK(write(invitation[1], text, sizeof text) == (ssize_t)sizeof text);
    }
    OK(syncline_comm_grow(shrunk, rank == 0 ? text : NULL, 3, &grown));
    add_up(grown, 3);
    add_up(shrunk, 2);
    OK(syncline_comm_destroy(shrunk));
    OK(syncline_comm_destroy(grown));
    return 0;
}

int main(int argc, char **argv)
{
    int ended;

    CHECK(argc == 2 && pipe(invitation) == 0);
    transport = atoi(argv[1]);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        exit(newcomer());
    int failed = fork_ranks(3, body);
    CHECK(waitpid(child, &ended, 0) == child);
    if (failed || ended)
        return 1;
    printf("revoked, agreed, shrunk, grown\n");
    return 0;
}
