/* See contestant.h, and README.md for the protocol. */

#define _GNU_SOURCE

#include "contestant.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PROTOCOL 1
#define BUFFER_ALIGNMENT 64

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* Starting. */

int number_from_environment(const char *const *names)
{
    for (const char *const *name = names; *name; name++) {
        const char *value = getenv(*name);
        if (value && *value)
            return atoi(value);
    }
    fail("%s is not set: is this program started by collbench?", names[0]);
}

const char *text_from_environment(const char *name)
{
    const char *value = getenv(name);
    if (!value)
        fail("%s is not set: is this program started by collbench?", name);
    return value;
}

/* The processors of all ranks, as 0,1/2,3: rank 0 has 0 and 1. */
static void bind_to_processors(int rank)
{
    const char *list = getenv("COLLBENCH_RANK_CPUS");
    if (!list || !*list)
        return;
    for (; rank > 0; rank--) {
        list = strchr(list, '/');
        if (!list)
            return;
        list++;
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    while (*list >= '0' && *list <= '9') {
        char *end;
        unsigned long cpu = strtoul(list, &end, 10);
        if (cpu < CPU_SETSIZE)
            CPU_SET(cpu, &set);
        list = *end == ',' ? end + 1 : end;
    }
    if (CPU_COUNT(&set) > 0 && sched_setaffinity(0, sizeof set, &set) != 0)
        fprintf(stderr, "cannot bind to processors: %s\n", strerror(errno));
}

void contest_begin(int rank)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    bind_to_processors(rank);
}

void contest_begin_by_environment(struct library *library)
{
    static const char *const rank[] = {"RANK", NULL}, *const ranks[] = {"WORLD_SIZE", NULL};
    library->rank = number_from_environment(rank);
    library->ranks = number_from_environment(ranks);
    contest_begin(library->rank);
}

/* The conversation: one line per command and per answer. */

static FILE *commands, *answers;

static void connect_to_collbench(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = getenv("COLLBENCH_CONTROL");
    if (!path || strlen(path) >= sizeof address.sun_path)
        fail("COLLBENCH_CONTROL must be the path of collbench's socket");
    strcpy(address.sun_path, path);
    int control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (control < 0 || connect(control, (struct sockaddr *)&address, sizeof address) != 0)
        fail("cannot connect to %s: %s", path, strerror(errno));
    commands = fdopen(control, "r");
    answers = fdopen(dup(control), "w");
    if (!commands || !answers)
        fail("no memory for streams");
}

/* Sends what was written to `answers`; nobody there any more means that there is nothing to do. */
static void end_answer(void)
{
    fputc('\n', answers);
    if (fflush(answers) != 0)
        _exit(1);
}

/* Buffers. The element i of rank r's input is a small number, so that sums are exact in every type. */

static int64_t pattern(size_t rank, size_t index)
{
    return (int64_t)((index * 7 + rank * 3) % 11 + 1);
}

static size_t type_bytes(enum type type)
{
    return type == F64 || type == I64 ? 8 : 4;
}

static size_t input_count(const struct library *library, const struct call *call)
{
    int cut = call->collective == REDUCE_SCATTER || call->collective == ALL_TO_ALL;
    return call->collective == BROADCAST ? 0 : call->count * (cut ? library->ranks : 1);
}

static size_t output_count(const struct library *library, const struct call *call)
{
    int whole = call->collective == ALL_GATHER || call->collective == ALL_TO_ALL;
    return call->count * (whole ? library->ranks : 1);
}

static void *allocate(size_t bytes)
{
    void *memory = NULL;
    if (posix_memalign(&memory, BUFFER_ALIGNMENT, bytes ? bytes : 1) != 0)
        fail("no memory for a buffer of %zu bytes", bytes);
    return memory;
}

static void put(enum type type, void *buffer, size_t at, int64_t value)
{
    switch (type) {
    case F32: ((float *)buffer)[at] = (float)value; break;
    case F64: ((double *)buffer)[at] = (double)value; break;
    case I32: ((int32_t *)buffer)[at] = (int32_t)value; break;
    case I64: ((int64_t *)buffer)[at] = value; break;
    }
}

static int holds(enum type type, const void *buffer, size_t at, int64_t value)
{
    switch (type) {
    case F32: return ((const float *)buffer)[at] == (float)value;
    case F64: return ((const double *)buffer)[at] == (double)value;
    case I32: return ((const int32_t *)buffer)[at] == (int32_t)value;
    case I64: return ((const int64_t *)buffer)[at] == value;
    }
    return 0;
}

static void fill(const struct library *library, struct call *call)
{
    size_t inputs = input_count(library, call), outputs = output_count(library, call);
    call->input_bytes = inputs * type_bytes(call->type);
    call->output_bytes = outputs * type_bytes(call->type);
    call->input = allocate(call->input_bytes);
    call->output = allocate(call->output_bytes);
    for (size_t i = 0; i < inputs; i++)
        put(call->type, call->input, i, pattern(library->rank, i));
    memset(call->output, 0xff, call->output_bytes);
    if (call->collective == BROADCAST && library->rank == 0)
        for (size_t i = 0; i < outputs; i++)
            put(call->type, call->output, i, pattern(0, i));
}

static int64_t expected(const struct library *library, const struct call *call, size_t i)
{
    size_t rank = library->rank, count = call->count;
    size_t at = call->collective == REDUCE_SCATTER ? rank * count + i : i;
    int64_t sum = 0;
    switch (call->collective) {
    case ALL_GATHER: return pattern(i / count, i % count);
    case ALL_TO_ALL: return pattern(i / count, rank * count + i % count);
    case BROADCAST: return pattern(0, i);
    case ALL_REDUCE:
    case REDUCE_SCATTER:
        for (int from = 0; from < library->ranks; from++)
            sum += pattern(from, at);
    }
    return sum;
}

static size_t wrong_elements(const struct library *library, const struct call *call)
{
    size_t wrong = 0, outputs = library->is_yardstick ? 0 : output_count(library, call);
    for (size_t i = 0; i < outputs; i++)
        wrong += !holds(call->type, call->output, i, expected(library, call, i));
    return wrong;
}

/* The timed loop. */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Iterations back to back: one time for all of them. */
static void time_block(const struct library *library, const struct call *call, long warmup, long n)
{
    library->barrier();
    for (long i = 0; i < warmup; i++)
        library->run(call);
    uint64_t start = now_ns();
    for (long i = 0; i < n; i++)
        library->run(call);
    fprintf(answers, "timed %" PRIu64, now_ns() - start);
}

/* A barrier before each iteration: one time for each. */
static void time_each(const struct library *library, const struct call *call, long warmup, long n)
{
    uint64_t *times = allocate(n * sizeof *times);
    for (long i = -warmup; i < n; i++) {
        library->barrier();
        uint64_t start = now_ns();
        library->run(call);
        if (i >= 0)
            times[i] = now_ns() - start;
    }
    fputs("timed", answers);
    for (long i = 0; i < n; i++)
        fprintf(answers, " %" PRIu64, times[i]);
    free(times);
}

/* The commands. */

static int one_of(const char *word, const char *const *words)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(word, words[i]) == 0)
            return i;
    fail("collbench asks for '%s', which this program does not know", word);
}

static void prepare(const struct library *library, struct call *call, const char *what, const char *type)
{
    static const char *const collectives[] = {"all_reduce", "reduce_scatter", "all_gather",
                                              "broadcast",  "all_to_all",     NULL};
    static const char *const types[] = {"f32", "f64", "i32", "i64", NULL};
    call->collective = (enum collective)one_of(what, collectives);
    call->type = (enum type)one_of(type, types);
    const char *reason = library->refuse(call);
    if (reason) {
        fprintf(answers, "refused %s", reason);
        return;
    }
    fill(library, call);
    library->run(call);
    fprintf(answers, "prepared %zu", wrong_elements(library, call));
}

static void finish(const struct library *library, struct call *call)
{
    fprintf(answers, "finished %zu", wrong_elements(library, call));
    free(call->input);
    free(call->output);
    memset(call, 0, sizeof *call);
}

void contest(const struct library *library)
{
    struct call call = {0};
    char *line = NULL, what[32], type[16];
    size_t capacity = 0;
    long warmup, n;
    connect_to_collbench();
    fprintf(answers, "ready %d %d %d %d %s", PROTOCOL, library->rank, library->ranks, (int)getpid(),
            library->version);
    end_answer();
    for (;;) {
        /* Asleep in read(2) until it is this contestant's turn. */
        if (getline(&line, &capacity, commands) < 0)
            _exit(1);
        if (sscanf(line, "prepare %31s %15s %zu", what, type, &call.count) == 3)
            prepare(library, &call, what, type);
        else if (sscanf(line, "time block %ld %ld", &warmup, &n) == 2 && n > 0)
            time_block(library, &call, warmup, n);
        else if (sscanf(line, "time each %ld %ld", &warmup, &n) == 2 && n > 0)
            time_each(library, &call, warmup, n);
        else if (strcmp(line, "finish\n") == 0)
            finish(library, &call);
        else if (strcmp(line, "quit\n") == 0)
            break;
        else
            fail("collbench says '%s', which this program does not understand", line);
        end_answer();
    }
    free(line);
}
