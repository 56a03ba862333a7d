/* What the contestants of `collbench compare` share: the conversation with collbench, the buffers, the
 * timed loop and the check of the results. A contestant brings a `library`, and calls `contest`.
 * README.md has the protocol. */
#ifndef SYNCLINE_BENCHES_PEERS_CONTESTANT_H
#define SYNCLINE_BENCHES_PEERS_CONTESTANT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum collective { ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, BROADCAST, ALL_TO_ALL };
enum type { F32, F64, I32, I64 };

/* One call, as the library shall make it. `count` is the number of elements of the vector of all_reduce
 * and broadcast, received per rank by reduce_scatter, sent per rank by all_gather and per pair by
 * all_to_all. The operator is the sum. `broadcast` sends rank 0's output buffer. */
struct call {
    enum collective collective;
    enum type type;
    size_t count;
    size_t input_bytes;
    size_t output_bytes;
    void *input;
    void *output;
};

struct library {
    int rank;
    int ranks;
    /* It leaves no result: none is checked. */
    int is_yardstick;
    /* One line. */
    const char *version;
    /* NULL, or why the library cannot make this call. */
    const char *(*refuse)(const struct call *call);
    void (*run)(const struct call *call);
    void (*barrier)(void);
};

/* Keeps this process to the processors that COLLBENCH_RANK_CPUS gives to `rank`, and ties its life to
 * that of the process that started it. Call it before anything else. */
void contest_begin(int rank);

/* The number in the first of the environment variables `names` (NULL ends the list) that is set; ends
 * the process when none is. */
int number_from_environment(const char *const *names);

/* The text in an environment variable; ends the process when it is not set. */
const char *text_from_environment(const char *name);

/* `contest_begin` for a program that collbench starts once per rank; tells `library` which rank of how
 * many it is. */
void contest_begin_by_environment(struct library *library);

/* Answers collbench's commands until there are no more. */
void contest(const struct library *library);

/* Says on stderr what went wrong and ends the process. */
#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 1, 2)))
#endif
void fail(const char *format, ...);

#ifdef __cplusplus
}
#endif

#endif
