// Gloo as a contestant of `collbench compare`: over TCP, its ranks meet in a folder.

#include "contestant.h"

#include <gloo/allgather.h>
#include <gloo/allreduce.h>
#include <gloo/alltoall.h>
#include <gloo/barrier.h>
#include <gloo/broadcast.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/transport/tcp/device.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>

namespace {

std::shared_ptr<gloo::rendezvous::Context> context;
size_t ranks;

const char *refuse(const struct call *call)
{
    return call->collective == REDUCE_SCATTER
               ? "Gloo has no reduce_scatter that leaves its input alone"
               : nullptr;
}

template <typename T>
void run_as(const struct call *call)
{
    T *input = static_cast<T *>(call->input), *output = static_cast<T *>(call->output);
    size_t count = call->count;
    switch (call->collective) {
    case ALL_REDUCE: {
        gloo::AllreduceOptions options(context);
        options.setInput(input, count);
        options.setOutput(output, count);
        // Which overload: all_reduce takes it without a type.
        void (*sum)(void *, const void *, const void *, size_t) = &gloo::sum<T>;
        options.setReduceFunction(sum);
        gloo::allreduce(options);
        break;
    }
    case ALL_GATHER: {
        gloo::AllgatherOptions options(context);
        options.setInput(input, count);
        options.setOutput(output, count * ranks);
        gloo::allgather(options);
        break;
    }
    case BROADCAST: {
        gloo::BroadcastOptions options(context);
        options.setOutput(output, count);
        options.setRoot(0);
        gloo::broadcast(options);
        break;
    }
    case ALL_TO_ALL: {
        gloo::AlltoallOptions options(context);
        options.setInput(input, count * ranks);
        options.setOutput(output, count * ranks);
        gloo::alltoall(options);
        break;
    }
    case REDUCE_SCATTER:
        break;
    }
}

void run(const struct call *call)
{
    switch (call->type) {
    case F32: run_as<float>(call); break;
    case F64: run_as<double>(call); break;
    case I32: run_as<int32_t>(call); break;
    case I64: run_as<int64_t>(call); break;
    }
}

void barrier()
{
    gloo::BarrierOptions options(context);
    gloo::barrier(options);
}

void take_part()
{
    struct library library = {};
    contest_begin_by_environment(&library);
    library.version = "Gloo " GLOO_PACKAGE;
    library.refuse = refuse;
    library.run = run;
    library.barrier = barrier;
    ranks = library.ranks;
    gloo::transport::tcp::attr attributes;
    attributes.iface = text_from_environment("COLLBENCH_INTERFACE");
    auto device = gloo::transport::tcp::CreateDevice(attributes);
    gloo::rendezvous::FileStore store(text_from_environment("COLLBENCH_STORE"));
    context = std::make_shared<gloo::rendezvous::Context>(library.rank, library.ranks);
    context->setTimeout(std::chrono::seconds(60));
    context->connectFullMesh(store, device);
    contest(&library);
    context.reset();
}

} // namespace

int main()
{
    try {
        take_part();
    } catch (const std::exception &error) {
        fail("Gloo: %s", error.what());
    }
    return 0;
}
