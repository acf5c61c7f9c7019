/* Fake of libnrt.so.1 for tests, with the interface of the public headers. It counts the live handles, records the
 * first misuse by a caller, and fails in the calls that a test chooses. The test sets the function that computes the
 * programs.
 *
 * -DOLD: the library of 2022. It has other type numbers, and no functions for virtual cores, version and instance.
 * -DLACKING: without nrt_execute. */

#define _GNU_SOURCE
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int32_t NRT_STATUS;
enum { SUCCESS = 0, INVALID = 2, INVALID_HANDLE = 3, UNINITIALIZED = 13, BAD_INPUT = 1002 };
enum { MOST = 64 };

typedef struct {
    char name[256];
    uint32_t usage;
    size_t size;
    uint32_t dtype;
    uint32_t *shape;
    uint32_t ndim;
} info_t;
typedef struct {
    uint64_t count;
    info_t entries[];
} infos_t;

/* The memory of these handles is never freed, so that a use after free is detected. */
typedef struct tensor {
    int alive, core, sets;
    size_t size;
    uint8_t *bytes;
} tensor_t;
typedef struct model {
    int alive, core, infos;
    const uint8_t *neff;
    size_t size, count;
    info_t tensors[MOST];
    uint32_t shapes[MOST][8];
} model_t;
typedef struct set {
    int alive;
    size_t count;
    char names[MOST][256];
    tensor_t *tensors[MOST];
    model_t *used_by;
} set_t;

typedef NRT_STATUS (*compute_t)(const uint8_t *neff, size_t size, size_t inputs, const uint8_t *const *input,
                                const size_t *input_size, size_t outputs, uint8_t *const *output,
                                const size_t *output_size);

static compute_t compute;
static int initialised, live[4], cores = 2, calls;
static pid_t caller;
static char wrong[512], failing[64];
static int fail_after, fail_for, fail_status;
enum { MODELS, TENSORS, SETS, INFOS };

/* ---- functions for tests ---- */

void standin_compute(compute_t function) { compute = function; }
int standin_live(int kind) { return live[kind]; }
int standin_calls(void) { return calls; }
const char *standin_wrong(void) { return wrong; }
/* Makes calls of `function` fail with `status`. The first `after` calls still pass, and the next `times` calls fail.
 * The name "" stands for every function. */
void standin_fail(const char *function, int after, int times, int status) {
    snprintf(failing, sizeof failing, "%s", function);
    fail_after = after, fail_for = times, fail_status = status;
}
int standin_failures_left(void) { return fail_for; }

__attribute__((constructor)) static void from_environment(void) {
    const char *output = getenv("STANDIN_FAIL"), *count = getenv("STANDIN_CORES");
    if (output) {
        fail_for = sscanf(output, "%63[^:]:%d", failing, &fail_status) == 2 ? 1 << 30 : 0;
    }
    if (count) {
        cores = atoi(count);
    }
}

/* ---- helpers ---- */

/* Records a misuse. Only the first one is kept. */
static void blame(const char *format, ...) {
    if (!wrong[0]) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(wrong, sizeof wrong, format, arguments);
        va_end(arguments);
    }
}

static bool fails(const char *function) {
    calls++;
    if (!caller) {
        caller = gettid();
    }
    if (initialised && caller != gettid()) {
        blame("%s: called from another thread", function);
    }
    if (!fail_for || (failing[0] && strcmp(failing, function))) {
        return false;
    }
    if (fail_after > 0) {
        fail_after--;
        return false;
    }
    fail_for--;
    return true;
}

#define ENTER(function)                                \
    do {                                               \
        if (fails(function)) {                         \
            return fail_status;                        \
        }                                              \
        if (!initialised) {                            \
            blame("%s: called before init", function); \
            return UNINITIALIZED;                      \
        }                                              \
    } while (0)
#define NEED(condition, status, ...) \
    do {                             \
        if (!(condition)) {          \
            blame(__VA_ARGS__);      \
            return status;           \
        }                            \
    } while (0)

static const char *const TYPES[] = {"f32", "f16", "bf16", "u8", "s32"};
static const uint32_t SIZES[] = {4, 2, 2, 1, 4};
#ifdef OLD
static const uint32_t NUMBERS[] = {1, 2, 3, 5, 8};
#else
static const uint32_t NUMBERS[] = {10, 7, 6, 3, 8};
#endif

/* Parses the lines `in NAME TYPE N N ..` and `out NAME TYPE N N ..` after the header. Skips lines that only the test
 * reads. */
static bool parse(model_t *model) {
    char *text = strndup((const char *)model->neff + 1024, model->size - 1024), *rest = text, *line;
    bool good = true;
    while ((line = strsep(&rest, "\n"))) {
        char *word = strsep(&line, " ");
        if (strcmp(word, "in") && strcmp(word, "out")) {
            continue;
        }
        info_t *info = &model->tensors[model->count];
        info->usage = strcmp(word, "in") ? 1 : 0;
        info->shape = model->shapes[model->count++];
        snprintf(info->name, sizeof info->name, "%s", (word = strsep(&line, " ")) ? word : "");
        size_t type = 0;
        word = strsep(&line, " ");
        while (type < 5 && word && strcmp(word, TYPES[type])) {
            type++;
        }
        good = good && type < 5 && word;
        info->dtype = good ? NUMBERS[type] : 0;
        info->size = good ? SIZES[type] : 0;
        while ((word = strsep(&line, " "))) {
            info->shape[info->ndim++] = (uint32_t)atoi(word);
            info->size *= (size_t)atoi(word);
        }
    }
    free(text);
    return good;
}

static tensor_t *find(const set_t *set, const char *name) {
    for (size_t at = 0; at < set->count; at++) {
        if (!strcmp(set->names[at], name)) {
            return set->tensors[at];
        }
    }
    return NULL;
}

/* ---- nrt.h ---- */

#ifdef OLD
NRT_STATUS nrt_get_visible_nc_count(uint32_t *count) {
#else
NRT_STATUS nrt_get_visible_vnc_count(uint32_t *count) {
#endif
    if (fails("count")) {
        return fail_status;
    }
    *count = (uint32_t)cores;
    return SUCCESS;
}

NRT_STATUS nrt_init(int framework, const char *version, const char *fal) {
    caller = gettid();
    if (fails("nrt_init")) {
        return fail_status;
    }
    NEED(!initialised, INVALID, "nrt_init: called twice");
    NEED(framework == 1, INVALID, "nrt_init: expected framework 1, got %d", framework);
    NEED(version && fal && !*version && !*fal, INVALID, "nrt_init: the strings must be empty");
    initialised = 1;
    return SUCCESS;
}

#ifndef OLD
typedef struct {
    uint64_t major, minor, patch, maintenance;
    char detail[128], git_hash[64];
} version_t;

NRT_STATUS nrt_get_version(version_t *version, size_t size) {
    ENTER("nrt_get_version");
    NEED(size == 224, INVALID, "nrt_get_version: expected size 224, got %zu", size);
    memset(version, 'x', sizeof *version);
    version->major = 2, version->minor = 32, version->patch = 7, version->maintenance = 0;
    return SUCCESS;
}

NRT_STATUS nrt_get_instance_info(uint32_t *info, size_t size) {
    ENTER("nrt_get_instance_info");
    NEED(size == 32, INVALID, "nrt_get_instance_info: expected size 32, got %zu", size);
    const char *family = getenv("STANDIN_FAMILY");
    memset(info, 'x', size);
    info[0] = family ? (uint32_t)atoi(family) : 2;
    return SUCCESS;
}
#endif

NRT_STATUS nrt_load(const void *neff, size_t size, int32_t core, int32_t count, model_t **model) {
    ENTER("nrt_load");
    NEED(count == -1, INVALID, "nrt_load: expected count -1, got %d", count);
    NEED(core >= 0 && core < cores, INVALID, "nrt_load: no core %d", core);
    model_t *made = calloc(1, sizeof *made);
    made->neff = neff, made->size = size, made->core = core;
    if (size < 1024 || !parse(made)) {
        return INVALID;
    }
    made->alive = 1;
    live[MODELS]++;
    *model = made;
    return SUCCESS;
}

NRT_STATUS nrt_unload(model_t *model) {
    ENTER("nrt_unload");
    NEED(model && model->alive, INVALID_HANDLE, "nrt_unload: the handle is not alive");
    model->alive = 0;
    live[MODELS]--;
    return SUCCESS;
}

NRT_STATUS nrt_get_model_tensor_info(model_t *model, infos_t **infos) {
    ENTER("nrt_get_model_tensor_info");
    NEED(model && model->alive, INVALID_HANDLE, "nrt_get_model_tensor_info: the handle is not alive");
    infos_t *made = malloc(sizeof *made + sizeof(info_t) * model->count + sizeof model);
    made->count = model->count;
    memcpy(made->entries, model->tensors, sizeof(info_t) * model->count);
    memcpy(&made->entries[model->count], &model, sizeof model);
    live[INFOS]++;
    *infos = made;
    return SUCCESS;
}

NRT_STATUS nrt_free_model_tensor_info(infos_t *infos) {
    ENTER("nrt_free_model_tensor_info");
    model_t *model;
    NEED(infos && infos->count <= MOST, INVALID_HANDLE, "nrt_free_model_tensor_info: already freed");
    memcpy(&model, &infos->entries[infos->count], sizeof model);
    NEED(!model->alive, INVALID, "nrt_free_model_tensor_info: called before the model is unloaded");
    infos->count = MOST + 1;
    live[INFOS]--;
    return SUCCESS;
}

NRT_STATUS nrt_tensor_allocate(int placement, int core, size_t size, const char *name, tensor_t **tensor) {
    ENTER("nrt_tensor_allocate");
    NEED(placement == 0 && core >= 0 && core < cores, INVALID, "nrt_tensor_allocate: placement %d on core %d",
         placement, core);
    NEED(size > 0 && name && *name, INVALID, "nrt_tensor_allocate: the size is 0 or the name is empty");
    tensor_t *made = calloc(1, sizeof *made);
    made->alive = 1, made->core = core, made->size = size, made->bytes = malloc(size);
    memset(made->bytes, 0xff, size);
    live[TENSORS]++;
    *tensor = made;
    return SUCCESS;
}

void nrt_tensor_free(tensor_t **tensor) {
    if (!tensor || !*tensor || !(*tensor)->alive) {
        blame("nrt_tensor_free: the handle is not alive");
        return;
    }
    if ((*tensor)->sets) {
        blame("nrt_tensor_free: the tensor is still in a set");
    }
    (*tensor)->alive = 0;
    free((*tensor)->bytes);
    live[TENSORS]--;
    *tensor = NULL;
}

static NRT_STATUS span(const char *function, const tensor_t *tensor, size_t offset, size_t size) {
    NEED(tensor && tensor->alive, INVALID_HANDLE, "%s: the handle is not alive", function);
    NEED(offset == 0 && size == tensor->size, INVALID, "%s: got %zu bytes, expected all %zu", function, size,
         tensor->size);
    return SUCCESS;
}

NRT_STATUS nrt_tensor_read(const tensor_t *tensor, void *bytes, size_t offset, size_t size) {
    ENTER("nrt_tensor_read");
    NRT_STATUS status = span("nrt_tensor_read", tensor, offset, size);
    if (status == SUCCESS) {
        memcpy(bytes, tensor->bytes, size);
    }
    return status;
}

NRT_STATUS nrt_tensor_write(tensor_t *tensor, const void *bytes, size_t offset, size_t size) {
    ENTER("nrt_tensor_write");
    NRT_STATUS status = span("nrt_tensor_write", tensor, offset, size);
    if (status == SUCCESS) {
        memcpy(tensor->bytes, bytes, size);
    }
    return status;
}

NRT_STATUS nrt_allocate_tensor_set(void **set) {
    ENTER("nrt_allocate_tensor_set");
    set_t *made = calloc(1, sizeof *made);
    made->alive = 1;
    live[SETS]++;
    *set = made;
    return SUCCESS;
}

void nrt_destroy_tensor_set(void **handle) {
    set_t *set = handle ? *handle : NULL;
    if (!set || !set->alive) {
        blame("nrt_destroy_tensor_set: the handle is not alive");
        return;
    }
    if (set->used_by && set->used_by->alive) {
        blame("nrt_destroy_tensor_set: called before the model is unloaded");
    }
    for (size_t at = 0; at < set->count; at++) {
        if (!set->tensors[at]->alive) {
            blame("nrt_destroy_tensor_set: a tensor of the set is already freed");
        }
        set->tensors[at]->sets--;
    }
    set->alive = 0;
    live[SETS]--;
    *handle = NULL;
}

NRT_STATUS nrt_add_tensor_to_tensor_set(void *handle, const char *name, tensor_t *tensor) {
    ENTER("nrt_add_tensor_to_tensor_set");
    set_t *set = handle;
    NEED(set && set->alive && tensor && tensor->alive, INVALID_HANDLE, "add: the handle is not alive");
    NEED(set->count < MOST && !find(set, name), INVALID, "add: the set is full or already has %s", name);
    snprintf(set->names[set->count], sizeof set->names[0], "%s", name);
    set->tensors[set->count++] = tensor;
    tensor->sets++;
    return SUCCESS;
}

#ifndef LACKING
NRT_STATUS nrt_execute(model_t *model, const void *input_set, void *output_set) {
    ENTER("nrt_execute");
    set_t *sets[2] = {(set_t *)input_set, output_set};
    NEED(model && model->alive, INVALID_HANDLE, "nrt_execute: the model is not alive");
    size_t counts[2] = {0, 0}, sizes[2][MOST];
    uint8_t *bytes[2][MOST];
    for (size_t at = 0; at < model->count; at++) {
        const info_t *info = &model->tensors[at];
        NEED(sets[info->usage]->alive, INVALID_HANDLE, "nrt_execute: the set is not alive");
        tensor_t *tensor = find(sets[info->usage], info->name);
        NEED(tensor && tensor->alive && tensor->size == info->size && tensor->core == model->core, BAD_INPUT,
             "nrt_execute: tensor %s is missing, or has another size or core than the model", info->name);
        sizes[info->usage][counts[info->usage]] = tensor->size;
        bytes[info->usage][counts[info->usage]++] = tensor->bytes;
    }
    sets[0]->used_by = sets[1]->used_by = model;
    if (!compute) {
        return 6;
    }
    return compute(model->neff, model->size, counts[0], (const uint8_t *const *)bytes[0], sizes[0], counts[1], bytes[1],
                   sizes[1]);
}
#endif
