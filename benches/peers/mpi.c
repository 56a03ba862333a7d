/* MPI as a contestant of `collbench compare`. Compiled once for each MPI. */

#include "contestant.h"

#include <limits.h>
#include <mpi.h>
#include <string.h>

static MPI_Datatype datatype(enum type type)
{
    switch (type) {
    case F64: return MPI_DOUBLE;
    case I32: return MPI_INT32_T;
    case I64: return MPI_INT64_T;
    default: return MPI_FLOAT;
    }
}

static const char *refuse(const struct call *call)
{
    return call->count > INT_MAX ? "MPI counts this with an int" : NULL;
}

static void run(const struct call *call)
{
    MPI_Datatype type = datatype(call->type);
    int count = (int)call->count;
    switch (call->collective) {
    case ALL_REDUCE:
        MPI_Allreduce(call->input, call->output, count, type, MPI_SUM, MPI_COMM_WORLD);
        break;
    case REDUCE_SCATTER:
        MPI_Reduce_scatter_block(call->input, call->output, count, type, MPI_SUM, MPI_COMM_WORLD);
        break;
    case ALL_GATHER:
        MPI_Allgather(call->input, count, type, call->output, count, type, MPI_COMM_WORLD);
        break;
    case BROADCAST:
        MPI_Bcast(call->output, count, type, 0, MPI_COMM_WORLD);
        break;
    case ALL_TO_ALL:
        MPI_Alltoall(call->input, count, type, call->output, count, type, MPI_COMM_WORLD);
        break;
    }
}

static void barrier(void)
{
    MPI_Barrier(MPI_COMM_WORLD);
}

/* Keeps the first line up to a comma, with single blanks. */
static void tidy(char *text)
{
    char *end = text;
    text[strcspn(text, "\n,")] = '\0';
    for (const char *c = text; *c; c++) {
        char plain = *c == '\t' ? ' ' : *c;
        if (plain != ' ' || (end > text && end[-1] != ' '))
            *end++ = plain;
    }
    *end = '\0';
}

int main(int argc, char **argv)
{
    static const char *const rank_names[] = {"OMPI_COMM_WORLD_RANK", "PMI_RANK", NULL};
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    struct library library = {.refuse = refuse, .run = run, .barrier = barrier, .version = version};
    int length;
    contest_begin(number_from_environment(rank_names));
    if (MPI_Init(&argc, &argv) != MPI_SUCCESS)
        fail("MPI_Init failed");
    MPI_Comm_rank(MPI_COMM_WORLD, &library.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &library.ranks);
    MPI_Get_library_version(version, &length);
    tidy(version);
    contest(&library);
    MPI_Finalize();
    return 0;
}
