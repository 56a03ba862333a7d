/* A yardstick for `collbench compare`, not a library: what plain TCP sockets carry. In every call each rank
 * sends the next one as many bytes as the collective must move per rank, and receives as many from the
 * previous one at the same time; nothing is computed, so there is no result. */

#define _GNU_SOURCE

#include "contestant.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bytes per call of send and recv: the two directions take turns. */
#define PIECE_BYTES ((size_t)256 << 10)
/* Tries before a rank sleeps, where it has a core of its own. */
#define TRIES 200
/* How long the previous rank may take to appear. */
#define PATIENCE_MS 30000

static struct library library = {.is_yardstick = 1, .version = "plain TCP sockets, one per direction"};
static int to_next, from_previous;
static int tries;

/* What one direction of a call has left; the buffer is used from its start again where it is shorter. */
struct flow {
    char *buffer;
    size_t bytes;
    size_t at;
    size_t left;
};

static size_t piece(const struct flow *flow)
{
    size_t most = flow->bytes - flow->at;
    most = most < PIECE_BYTES ? most : PIECE_BYTES;
    return most < flow->left ? most : flow->left;
}

/* Whether `count` bytes moved, as send and recv say it. */
static int moved(struct flow *flow, ssize_t count, const char *what)
{
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (count <= 0)
        fail("cannot %s: %s", what, count < 0 ? strerror(errno) : "the other rank is gone");
    flow->left -= count;
    flow->at = (flow->at + count) % flow->bytes;
    return 1;
}

static void sleep_until_ready(const struct flow *out, const struct flow *in)
{
    struct pollfd fds[2] = {
        {.fd = out->left ? to_next : -1, .events = POLLOUT},
        {.fd = in->left ? from_previous : -1, .events = POLLIN},
    };
    if (poll(fds, 2, -1) < 0 && errno != EINTR)
        fail("poll: %s", strerror(errno));
}

static void exchange(struct flow out, struct flow in)
{
    int in_vain = 0;
    while (out.left || in.left) {
        int any = 0;
        if (out.left)
            any |= moved(&out, send(to_next, out.buffer + out.at, piece(&out), MSG_DONTWAIT | MSG_NOSIGNAL), "send");
        if (in.left)
            any |= moved(&in, recv(from_previous, in.buffer + in.at, piece(&in), MSG_DONTWAIT), "receive");
        in_vain = any ? 0 : in_vain + 1;
        if (in_vain > tries)
            sleep_until_ready(&out, &in);
    }
}

static const char *refuse(const struct call *call)
{
    (void)call;
    return library.ranks < 2 ? "one rank has nobody to send to" : NULL;
}

static void run(const struct call *call)
{
    size_t ranks = library.ranks, others = ranks - 1;
    struct flow out = {.buffer = call->input, .bytes = call->input_bytes};
    struct flow in = {.buffer = call->output, .bytes = call->output_bytes};
    switch (call->collective) {
    case ALL_REDUCE: out.left = in.left = 2 * others * call->input_bytes / ranks; break;
    case REDUCE_SCATTER: out.left = in.left = others * call->output_bytes; break;
    case ALL_GATHER: out.left = in.left = others * call->input_bytes; break;
    case ALL_TO_ALL: out.left = in.left = others * (call->input_bytes / ranks); break;
    case BROADCAST:
        /* Along a chain, and nobody waits for what it hands on. */
        out.buffer = call->output;
        out.bytes = call->output_bytes;
        out.left = library.rank + 1 < library.ranks ? out.bytes : 0;
        in.left = library.rank > 0 ? in.bytes : 0;
        break;
    }
    exchange(out, in);
}

/* After so many rounds everybody has heard of everybody. */
static void barrier(void)
{
    char out = 0, in = 0;
    for (int round = 1; round < library.ranks; round++) {
        struct flow to = {.buffer = &out, .bytes = 1, .left = 1}, from = {.buffer = &in, .bytes = 1, .left = 1};
        exchange(to, from);
    }
}

/* Meeting: every rank listens, and writes where into a file in a folder that all share. */

static struct in_addr own_address(void)
{
    const char *name = text_from_environment("COLLBENCH_INTERFACE");
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0)
        fail("getifaddrs: %s", strerror(errno));
    for (struct ifaddrs *each = all; each; each = each->ifa_next)
        if (each->ifa_addr && each->ifa_addr->sa_family == AF_INET && strcmp(each->ifa_name, name) == 0) {
            struct in_addr found = ((struct sockaddr_in *)each->ifa_addr)->sin_addr;
            freeifaddrs(all);
            return found;
        }
    fail("the interface %s has no IPv4 address", name);
}

static void path_of(char *path, int rank, const char *suffix)
{
    int length = snprintf(path, PATH_MAX, "%s/%d%s", text_from_environment("COLLBENCH_STORE"), rank, suffix);
    if (length >= PATH_MAX)
        fail("COLLBENCH_STORE is too long");
}

static void publish(const struct sockaddr_in *address)
{
    char path[PATH_MAX], unfinished[PATH_MAX];
    path_of(path, library.rank, "");
    path_of(unfinished, library.rank, ".new");
    FILE *file = fopen(unfinished, "w");
    if (!file || fwrite(address, sizeof *address, 1, file) != 1 || fclose(file) != 0 || rename(unfinished, path) != 0)
        fail("cannot write %s: %s", path, strerror(errno));
}

static struct sockaddr_in look_up(int rank)
{
    char path[PATH_MAX];
    struct sockaddr_in address;
    path_of(path, rank, "");
    for (int waited_ms = 0; waited_ms < PATIENCE_MS; waited_ms++) {
        FILE *file = fopen(path, "r");
        if (file) {
            if (fread(&address, sizeof address, 1, file) != 1)
                fail("%s is too short", path);
            fclose(file);
            return address;
        }
        usleep(1000);
    }
    fail("rank %d did not come", rank);
}

static int tcp_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket: %s", strerror(errno));
    return fd;
}

static void connect_ring(void)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr = own_address()};
    socklen_t length = sizeof own;
    int listener = tcp_socket(), yes = 1;
    if (bind(listener, (struct sockaddr *)&own, sizeof own) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&own, &length) != 0)
        fail("cannot listen: %s", strerror(errno));
    publish(&own);
    struct sockaddr_in next = look_up((library.rank + 1) % library.ranks);
    to_next = tcp_socket();
    if (connect(to_next, (struct sockaddr *)&next, sizeof next) != 0)
        fail("cannot connect to the next rank: %s", strerror(errno));
    struct pollfd waiting = {.fd = listener, .events = POLLIN};
    if (poll(&waiting, 1, PATIENCE_MS) != 1 || (from_previous = accept(listener, NULL, NULL)) < 0)
        fail("the previous rank did not connect");
    if (setsockopt(to_next, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        fail("TCP_NODELAY: %s", strerror(errno));
    /* As Syncline does on loopbacks: BBR, where the host is set to it, would pace them. */
    if (own.sin_addr.s_addr == next.sin_addr.s_addr &&
        setsockopt(to_next, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno")) != 0)
        fail("TCP_CONGESTION: %s", strerror(errno));
    close(listener);
}

int main(void)
{
    contest_begin_by_environment(&library);
    library.refuse = refuse;
    library.run = run;
    library.barrier = barrier;
    tries = library.ranks <= sysconf(_SC_NPROCESSORS_ONLN) ? TRIES : 0;
    connect_ring();
    contest(&library);
    return 0;
}
