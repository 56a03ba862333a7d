/* Ranks that meet through what the host program brings: rendezvous HOW FOLDER. */
#include <sched.h>
#include <sys/mman.h>

#include "common.h"

static char folder[256];

/* A store of one file per key; the key's slashes become dashes. */
static void path_of(const char *key, char *path, size_t capacity)
{
    snprintf(path, capacity, "%s/%s", folder, key);
    for (char *c = path + strlen(folder) + 1; *c; c++)
        if (*c == '/')
            *c = '-';
}

static int32_t file_set(const char *key, const void *value, size_t bytes, void *user_data)
{
    char path[512], beside[520];
    path_of(key, path, sizeof path);
    snprintf(beside, sizeof beside, "%s.new", path);
    FILE *file = fopen(beside, "w");
    CHECK(user_data == folder && file);
    CHECK(fwrite(value, 1, bytes, file) == bytes && fclose(file) == 0);
    return rename(beside, path);
}

static int32_t file_get(const char *key, void *value, size_t capacity, size_t *bytes,
                        void *user_data)
{
    char path[512];
    path_of(key, path, sizeof path);
    FILE *file = fopen(path, "r");
    CHECK(user_data == folder);
    *bytes = file ? fread(value, 1, capacity, file) : 0;
    if (file)
        fclose(file);
    return 0;
}

static int32_t bad_set(const char *key, const void *value, size_t bytes, void *user_data)
{
    (void)key, (void)value, (void)bytes, (void)user_data;
    return 5;
}

/* An all-gather of two processes over memory that they share. */
struct meeting {
    unsigned char bytes[2][4096];
    int there;
};

struct member {
    struct meeting *at;
    unsigned rank;
};

static int32_t gather(const void *mine, void *all, size_t bytes, void *user_data)
{
    struct member *me = (struct member *)user_data;
    CHECK(bytes <= sizeof me->at->bytes[0]);
    memcpy(me->at->bytes[me->rank], mine, bytes);
    __atomic_fetch_add(&me->at->there, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&me->at->there, __ATOMIC_SEQ_CST) < 2)
        sched_yield();
    memcpy(all, me->at->bytes[0], bytes);
    memcpy((unsigned char *)all + bytes, me->at->bytes[1], bytes);
    return 0;
}

static int32_t bad_gather(const void *mine, void *all, size_t bytes, void *user_data)
{
    (void)mine, (void)all, (void)bytes, (void)user_data;
    return 7;
}

static syncline_options_t options = SYNCLINE_OPTIONS_INIT;
static syncline_store_t store = {sizeof store, file_set, file_get, folder};

static void use(syncline_comm_t *comm)
{
    int32_t one = 1;
    OK(syncline_all_reduce(comm, &one, &one, 1, SYNCLINE_I32, SYNCLINE_SUM, NULL, NULL));
    CHECK(one == 2);
    OK(syncline_comm_destroy(comm));
}

static void bad(void)
{
    syncline_store_t half = store;
    syncline_comm_t *comm;

    show("null store", syncline_comm_init_store(NULL, NULL, 0, 2, &options, &comm));
    half.get = NULL;
    show("null get", syncline_comm_init_store(&half, NULL, 0, 2, &options, &comm));
    show("null gather", syncline_comm_init_all_gather(NULL, NULL, 0, 2, &options, &comm));
    half = store;
    half.set = bad_set;
    show("bad set", syncline_comm_init_store(&half, "bad", 0, 2, &options, &comm));
    show("bad gather", syncline_comm_init_all_gather(bad_gather, NULL, 1, 2, &options, &comm));
    CHECK(comm == NULL);
}

int main(int argc, char **argv)
{
    syncline_comm_t *comm;
    int ended;

    CHECK(argc == 3);
    snprintf(folder, sizeof folder, "%s", argv[2]);
    options.timeout_s = 20;
    options.network_interface = "lo";
    if (!strcmp(argv[1], "environment")) {
        syncline_status_t status = syncline_comm_init_environment(&options, &comm);
        if (status) {
            show("alone", status);
            return 0;
        }
        use(comm);
        printf("joined\n");
        return 0;
    }
    if (!strcmp(argv[1], "bad")) {
        bad();
        return 0;
    }
    struct meeting *at = (struct meeting *)mmap(NULL, sizeof *at, PROT_READ | PROT_WRITE,
                                                MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(at != MAP_FAILED);
    pid_t child = fork();
    CHECK(child >= 0);
    struct member me = {at, child == 0};
    if (!strcmp(argv[1], "store"))
        OK(syncline_comm_init_store(&store, "job", me.rank, 2, &options, &comm));
    else
        OK(syncline_comm_init_all_gather(gather, &me, me.rank, 2, &options, &comm));
    use(comm);
    if (child == 0)
        return 0;
    CHECK(waitpid(child, &ended, 0) == child && ended == 0);
    printf("joined\n");
    return 0;
}
