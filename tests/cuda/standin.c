// Stand-in for the CUDA driver, with two devices. Device memory is host memory. A launch runs no kernel and has no
// effect, with one exception: a launch of softmax of f32 without a mask reports that row 1 is fully masked. The
// stand-in has only the functions that the tests in standin.rs and engine.rs need. Functions return 0, which means
// success, unless a comment says otherwise. Functions that use a device return an error unless the context of a device
// is current.

#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long Address;

static _Thread_local void *current;
static char contexts[2];
static int captured;
static int synchronized;
static int waited;
static int fails_waits;

// Variable whose address represents the kernels of unmasked softmax of f32.
static char counting;

// Returns 201, the error for an invalid context, unless the context of a device is current.
static int check_context(void) {
    return current == &contexts[0] || current == &contexts[1] ? 0 : 201;
}

// Returns an error unless the stream is the default stream or the per-thread default stream.
static int check_stream(void *stream) { return (size_t)stream == 0 || (size_t)stream == 2 ? check_context() : 1; }

// Returns how many times a stream was synchronised.
int evenkeel_standin_synchronized(void) { return synchronized; }

// Returns how many times a thread waited for a device.
int evenkeel_standin_waited(void) { return waited; }

// Determines whether waiting for a device fails.
void evenkeel_standin_fail_waits(int fails) { fails_waits = fails; }

int cuDriverGetVersion(int *version) {
    const char *given = getenv("EVENKEEL_STANDIN_VERSION");
    *version = given ? atoi(given) : 13000;
    return 0;
}

int cuGetErrorName(int error, const char **name) {
    *name = "CUDA_ERROR";
    return error < 0;
}

int cuGetErrorString(int error, const char **text) {
    *text = "an error of the stand-in";
    return error < 0;
}

int cuInit(unsigned flags) { return flags != 0; }

int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    // 101 is the error for a device that does not exist.
    return ordinal < 2 ? 0 : 101;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    // Attribute 75 is the major number of the compute capability. Features such as memory pools are all absent.
    *value = attribute == 75 ? 9 : 0;
    return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    *context = &contexts[device];
    return 0;
}

int cuDevicePrimaryCtxRelease_v2(int device) { return device < 0; }

int cuCtxGetCurrent(void **context) {
    *context = current;
    return 0;
}

int cuCtxSetCurrent(void *context) {
    current = context;
    return 0;
}

// If waiting fails, returns 700, the error for an illegal address.
int cuCtxSynchronize(void) {
    waited++;
    return fails_waits ? 700 : check_context();
}

int cuMemAlloc_v2(Address *address, size_t bytes) {
    *address = (Address)(size_t)calloc(bytes, 1);
    return check_context();
}

int cuMemFree_v2(Address address) {
    free((void *)(size_t)address);
    return 0;
}

int cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void *stream) {
    memset((void *)(size_t)to, value, bytes);
    return check_stream(stream);
}

int cuMemcpyHtoDAsync_v2(Address to, const void *from, size_t bytes, void *stream) {
    memcpy((void *)(size_t)to, from, bytes);
    return check_stream(stream);
}

int cuMemcpyDtoHAsync_v2(void *to, Address from, size_t bytes, void *stream) {
    memcpy(to, (void *)(size_t)from, bytes);
    return check_stream(stream);
}

// During a capture, returns 900, the error for an operation that a capture does not permit.
int cuStreamSynchronize(void *stream) {
    synchronized++;
    return captured ? 900 : check_stream(stream);
}

int cuStreamBeginCapture_v2(void *stream, int mode) {
    captured = 1;
    return mode < 0 ? 1 : check_stream(stream);
}

int cuStreamEndCapture(void *stream, void **graph) {
    captured = 0;
    *graph = NULL;
    return check_stream(stream);
}

int cuStreamIsCapturing(void *stream, int *status) {
    *status = captured;
    return check_stream(stream);
}

int cuEventCreate(void **event, unsigned flags) {
    *event = contexts;
    return flags == ~0u;
}

int cuEventDestroy_v2(void *event) { return event == NULL; }

int cuEventRecord(void *event, void *stream) { return event == NULL ? 1 : check_stream(stream); }

int cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
    return event == NULL || flags == ~0u ? 1 : check_stream(stream);
}

// Returns an error during a capture, or if the same image was loaded before.
int cuModuleLoadData(void **module, const void *image) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static char *images[100];
    int i = 0;
    *module = contexts;
    pthread_mutex_lock(&lock);
    while (i < 99 && images[i] && strcmp(images[i], image)) {
        i++;
    }
    int refused = captured || images[i];
    if (!refused) {
        images[i] = strdup(image);
    }
    pthread_mutex_unlock(&lock);
    return refused;
}

int cuModuleUnload(void *module) { return module == NULL; }

int cuModuleGetFunction(void **function, void *module, const char *name) {
    *function = name != NULL && !strncmp(name, "softmax_f32_", 12) ? &counting : contexts;
    return module == NULL || name == NULL;
}

// Returns 0 for every attribute: kernels have no variables in shared memory.
int cuFuncGetAttribute(int *value, int attribute, void *function) {
    *value = 0;
    return function == NULL || attribute < 0;
}

int cuFuncSetAttribute(void *function, int attribute, int value) {
    return function == NULL || attribute < 0 || value < 0;
}

// A multiprocessor runs two blocks at a time.
int cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, void *function, int threads, size_t shared,
                                                         unsigned flags) {
    *blocks = 2;
    return function == NULL || threads <= 0 || shared > 1 << 20 || flags;
}

int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                   unsigned block_y, unsigned block_z, unsigned shared, void *stream, void **arguments, void **extra) {
    (void)shared, (void)extra;
    if (function == NULL || arguments == NULL || !(grid_x && grid_y && grid_z && block_x && block_y && block_z)) {
        return 1;
    }
    // For these kernels, `arguments[0]` points to a struct. Its third member is the address of four counters, or 0.
    Address *guards = function == &counting ? (Address *)(size_t)((Address *)arguments[0])[2] : NULL;
    if (guards) {
        guards[2]++;
        guards[3] = 1;
    }
    return check_stream(stream);
}
