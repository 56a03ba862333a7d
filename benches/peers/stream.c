/* A yardstick for `collbench compare`, not a library: the limit that the memory sets. In every call each
 * rank reads its input once and writes its output once, around the caches where the processor can (stores
 * that are not temporal), while the others do the same. Nothing is combined, so there is no result; what
 * is left to say is only beyond the caches. */

#define _GNU_SOURCE

#include "contestant.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define LINE_BYTES 64

static struct library library = {.is_yardstick = 1, .version = "reads its input and writes its output once"};

/* Shared by all ranks. */
static struct meeting {
    atomic_uint arrived;
    atomic_uint rounds;
} *meeting;

/* What was read, so that it has to be. */
static volatile uint64_t sink;

static size_t whole_lines(size_t bytes)
{
    return bytes / LINE_BYTES * LINE_BYTES;
}

#ifdef __SSE2__
static void store_line(char *to, __m128i a, __m128i b, __m128i c, __m128i d)
{
    _mm_stream_si128((__m128i *)to, a);
    _mm_stream_si128((__m128i *)(to + 16), b);
    _mm_stream_si128((__m128i *)(to + 32), c);
    _mm_stream_si128((__m128i *)(to + 48), d);
}

static void copy_around(char *to, const char *from, size_t bytes)
{
    for (size_t at = 0; at < whole_lines(bytes); at += LINE_BYTES) {
        const __m128i *line = (const __m128i *)(from + at);
        store_line(to + at, line[0], line[1], line[2], line[3]);
    }
    memcpy(to + whole_lines(bytes), from + whole_lines(bytes), bytes - whole_lines(bytes));
}

static void fill_around(char *to, size_t bytes)
{
    __m128i zero = _mm_setzero_si128();
    size_t head = -(uintptr_t)to % LINE_BYTES;
    head = head < bytes ? head : bytes;
    memset(to, 0, head);
    size_t end = head + whole_lines(bytes - head);
    for (size_t at = head; at < end; at += LINE_BYTES)
        store_line(to + at, zero, zero, zero, zero);
    memset(to + end, 0, bytes - end);
}

static void fence(void)
{
    _mm_sfence();
}
#else
static void copy_around(char *to, const char *from, size_t bytes)
{
    memcpy(to, from, bytes);
}

static void fill_around(char *to, size_t bytes)
{
    memset(to, 0, bytes);
}

static void fence(void)
{
}
#endif

static void read_through(const char *from, size_t bytes)
{
    uint64_t sum = 0;
    for (size_t at = 0; at + sizeof sum <= bytes; at += sizeof sum) {
        uint64_t word;
        memcpy(&word, from + at, sizeof word);
        sum += word;
    }
    sink = sum;
}

static const char *refuse(const struct call *call)
{
    (void)call;
    return NULL;
}

static void run(const struct call *call)
{
    size_t in = call->input_bytes, out = call->output_bytes;
    if (call->collective == BROADCAST) {
        /* One buffer: the root reads it, the others write it. */
        if (library.rank == 0)
            read_through(call->output, out);
        else
            fill_around(call->output, out);
    } else {
        size_t both = in < out ? in : out;
        copy_around(call->output, call->input, both);
        read_through((char *)call->input + both, in - both);
        fill_around((char *)call->output + both, out - both);
    }
    fence();
}

static void barrier(void)
{
    unsigned round = atomic_load(&meeting->rounds);
    if (atomic_fetch_add(&meeting->arrived, 1) + 1 == (unsigned)library.ranks) {
        atomic_store(&meeting->arrived, 0);
        atomic_store(&meeting->rounds, round + 1);
    }
    while (atomic_load(&meeting->rounds) == round)
        sched_yield();
}

/* All ranks map one file, which begins as zeros. */
static void meet(void)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/meeting", text_from_environment("COLLBENCH_STORE")) >= PATH_MAX)
        fail("COLLBENCH_STORE is too long");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof *meeting) != 0)
        fail("cannot make %s: %s", path, strerror(errno));
    void *mapped = mmap(NULL, sizeof *meeting, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        fail("cannot map %s: %s", path, strerror(errno));
    meeting = mapped;
    close(fd);
}

int main(void)
{
    contest_begin_by_environment(&library);
    library.refuse = refuse;
    library.run = run;
    library.barrier = barrier;
    meet();
    contest(&library);
    return 0;
}
