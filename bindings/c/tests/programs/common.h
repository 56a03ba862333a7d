/* What the test programs share: ranks by fork, and checks that say what they found. */
#ifndef COMMON_H
#define COMMON_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <syncline.h>

/* Ends the process when a call that must succeed fails. */
#define OK(call)                                                                                \
    do {                                                                                        \
        syncline_status_t status_ = (call);                                                     \
        if (status_) {                                                                          \
            fprintf(stderr, "%s:%d: %s\n  %s: %s\n", __FILE__, __LINE__, #call,                 \
                    syncline_status_name(status_), syncline_last_error());                      \
            exit(1);                                                                            \
        }                                                                                       \
    } while (0)

/* Ends the process when a condition does not hold. */
#define CHECK(condition)                                                                        \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);             \
            exit(1);                                                                            \
        }                                                                                       \
    } while (0)

/* Prints a case, the status of its call and the text that the call left. */
static inline void show(const char *what, syncline_status_t status)
{
    printf("%s: %s: %s\n", what, syncline_status_name(status),
           status ? syncline_last_error() : "");
    fflush(stdout);
}

/* Runs `body` in `ranks` processes that meet by a unique id; rank 0 is this process. Returns the
 * number of ranks that failed. */
static inline int fork_ranks(unsigned ranks, int (*body)(const char *id, unsigned rank,
                                                         unsigned ranks))
{
    char id[SYNCLINE_UNIQUE_ID_BYTES];
    syncline_options_t options = SYNCLINE_OPTIONS_INIT;
    pid_t children[64];
    int ends[2], failed = 0;

    CHECK(ranks <= 64 && pipe(ends) == 0);
    for (unsigned rank = 1; rank < ranks; rank++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            CHECK(read(ends[0], id, sizeof id) == (ssize_t)sizeof id);
            exit(body(id, rank, ranks));
        }
        children[rank] = child;
    }
    memset(id, 0, sizeof id);
    options.network_interface = "lo";
    OK(syncline_unique_id_create(&options, id, sizeof id));
    for (unsigned rank = 1; rank < ranks; rank++)
        CHECK(write(ends[1], id, sizeof id) == (ssize_t)sizeof id);
    failed += body(id, 0, ranks) != 0;
    for (unsigned rank = 1; rank < ranks; rank++) {
        int ended;
        CHECK(waitpid(children[rank], &ended, 0) == children[rank]);
        failed += ended != 0;
    }
    return failed;
}

/* Joins with a timeout that ends a test which would hang. */
static inline syncline_comm_t *join(const char *id, unsigned rank, unsigned ranks,
                                    double timeout_s, int32_t transport)
{
    syncline_options_t options = SYNCLINE_OPTIONS_INIT;
    syncline_comm_t *comm;

    options.timeout_s = timeout_s;
    options.transport = transport;
    options.network_interface = "lo";
    OK(syncline_comm_init_id(id, rank, ranks, &options, &comm));
    return comm;
}

#endif
